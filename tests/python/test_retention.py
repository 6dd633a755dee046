"""What is over goes by itself, and a person's rows go when they ask: from files, classifiers and everything made of them."""

import csv
import fcntl
import hashlib
import io
import json
import os
import random
import sqlite3
import threading
import time
import zipfile

import httpx
import numpy
import openai
import pytest
from service import TEXT, Service, wait_until

ENDED = {"succeeded", "failed", "cancelled"}
HOUR = 3600
SECRET = "my sister's number is ×0175 2240 — \"call\" her"
KEYS = "anna:train+infer:key-of-anna,bert:train+infer:key-of-bert,root:admin:key-of-root"


def weather(count, seed=3):
    chance = random.Random(seed)
    words = {"rain": "wet grey drizzle cloud pour umbrella storm".split(), "sun": "bright warm blue sky shine clear hot".split()}
    for number in range(count):
        label = ("rain", "sun")[number % 2]
        yield {"text": " ".join(chance.choices(words[label], k=6)) + f" {number}", "label": label}


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def client_of(service, key="none"):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0)


def upload(client, content, name="weather.jsonl", **fields):
    return client.files.create(file=(name, content), purpose="fine-tune", **fields)


def trained(client, file, suffix, **body):
    method = {"type": "linear_probe", "linear_probe": {"hyperparameters": {}}}
    job = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix=suffix, seed=9, extra_body={"method": method, **body})
    ended = wait_until(lambda: (now := client.fine_tuning.jobs.retrieve(job.id)).status in ENDED and now, f"{job.id} ends")
    assert ended.status == "succeeded", ended
    return ended


def purge(service, key=None, **body):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return service.post("/v1/purges", body, headers=headers)


def purged(service, key=None, **body):
    answer = purge(service, key, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def holding(folder, text):
    """The files below a folder that hold a text, as it is or as JSON writes it."""
    needles = {text.encode(), text.replace('"', '""').encode(), json.dumps(text).strip('"').encode(), json.dumps(text, ensure_ascii=False).strip('"').encode()}
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if any(needle in content for needle in needles):
            found.append(path.relative_to(folder))
    return found


def age(data, seconds=2 * HOUR):
    """Makes every blob older."""
    for path in (data / "blobs").glob("??/*"):
        os.utime(path, (time.time() - seconds,) * 2)


def blobs(data):
    return sorted(path.parent.name + path.name for path in (data / "blobs").glob("??/*"))


# What is over


def test_two_servers_sweep_one_folder_and_each_file_goes_once(start, tmp_path):
    data = tmp_path / "data"
    first, second = (start("--sweep-seconds", 1, "--workers", 0, data=data) for _ in range(2))
    with client_of(first) as client:
        over = [upload(client, lines(weather(20, seed)), expires_after={"anchor": "created_at", "seconds": HOUR}) for seed in range(6)]
        assert {file.expires_at - file.created_at for file in over} == {HOUR}
        used = upload(client, lines(weather(20, 77)), expires_after={"anchor": "created_at", "seconds": HOUR})
        kept = upload(client, lines(weather(20, 88)))
        assert kept.expires_at is None
        job = client.fine_tuning.jobs.create(model=TEXT, training_file=used.id, suffix="later").id
        client.fine_tuning.jobs.pause(job)
        age(data)
        with sqlite3.connect(data / "store.db", timeout=30) as database:
            database.execute("UPDATE files SET expires_at = 1 WHERE expires_at IS NOT NULL")
        database.close()
        left = wait_until(lambda: len(found := {file.id for file in client.files.list()}) == 2 and found, "what is over goes")
        assert left == {used.id, kept.id}, "a job that is not over keeps its file"
        wait_until(lambda: len(blobs(data)) == 2, "and its bytes go")
        client.fine_tuning.jobs.cancel(job)
        wait_until(lambda: {file.id for file in client.files.list()} == {kept.id}, "the last one goes once its job is over")
        wait_until(lambda: len(blobs(data)) == 1, "with its bytes")
        assert client.files.content(kept.id).content == lines(weather(20, 88))
    total = lambda name: first.metric(name) + second.metric(name)
    wait_until(lambda: total("sweep_files_total") == 7, "each file is counted once")
    wait_until(lambda: total("sweep_blobs_total") == 7, "and each blob")
    expected = sum(len(lines(weather(20, seed))) for seed in (*range(6), 77))
    assert total("sweep_freed_bytes_total") == expected and total("sweep_errors_total") == 0


def test_young_bytes_without_a_row_stay_a_while(start):
    running = start("--sweep-seconds", 1)
    stray = hashlib.sha256(b"bytes about to get a row").hexdigest()
    folder = running.data / "blobs" / stray[:2]
    folder.mkdir()
    (folder / stray[2:]).write_bytes(b"bytes about to get a row")
    swept = running.metric("sweep_last_success_timestamp_seconds")
    wait_until(lambda: running.metric("sweep_last_success_timestamp_seconds") > swept + 1, "sweeps go on")
    assert len(blobs(running.data)) == 1
    age(running.data)
    wait_until(lambda: not blobs(running.data), "they go once they are old")


def test_bytes_that_were_only_looked_at_or_had_no_room_go_with_the_answer(start):
    running = start("--key-file-bytes", 5000, "--log", "info,headstart=debug,ort=warn")
    # Whoever removes bytes is alone: what meets a sweep is left to a later one.
    wait_until(lambda: "swept" in running.log(), "the first sweep ends")
    for seed, fields, status in ((1, {"validate_only": "true"}, 200), (2, {}, 200), (3, {}, 413)):
        answer = running.http.post("/v1/files", files={"file": ("a.jsonl", lines(weather(40, seed)))}, data={"purpose": "fine-tune", **fields})
        assert answer.status_code == status, answer.text
    assert blobs(running.data) == [hashlib.sha256(lines(weather(40, 2))).hexdigest()]


def test_a_sweep_that_fails_is_counted_and_tried_again(start):
    running = start("--sweep-seconds", 1)
    started = running.metric("sweep_last_success_timestamp_seconds")
    wait_until(lambda: running.metric("sweep_last_success_timestamp_seconds") > started, "a sweep goes well")
    in_the_way = running.data / "blobs" / "00"
    in_the_way.write_text("no folder")
    wait_until(lambda: running.metric("sweep_errors_total") > 0, "a sweep fails")
    assert "a sweep failed" in running.log() and running.is_ready()
    with client_of(running) as client:
        file = upload(client, lines(weather(20)), expires_after={"anchor": "created_at", "seconds": HOUR})
        with sqlite3.connect(running.data / "store.db", timeout=30) as database:
            database.execute("UPDATE files SET expires_at = 1")
        database.close()
        wait_until(lambda: not list(client.files.list()), f"what does not fail goes on: {file.id} is deleted")
    in_the_way.unlink()
    failed = time.time()
    wait_until(lambda: running.metric("sweep_last_success_timestamp_seconds") >= int(failed), "the next sweep goes well")


def test_files_that_name_no_time_of_their_own_are_kept_as_long_as_the_option_says(start):
    running = start("--file-retention-days", 3)
    with client_of(running) as client:
        silent = upload(client, lines(weather(20)))
        own = upload(client, lines(weather(20)), expires_after={"anchor": "created_at", "seconds": HOUR})
    assert (silent.expires_at - silent.created_at, own.expires_at - own.created_at) == (3 * 24 * HOUR, HOUR)


# A person asks to be forgotten


def few_shot(service, name, examples):
    made = service.post("/v1/classifiers", {"name": name, "model": TEXT, "labels": ["rain", "sun"]})
    assert made.status_code == 200, made.text
    for example in examples:
        added = service.post(f"/v1/classifiers/{name}/examples", {"examples": [example]})
        assert added.status_code == 200, added.text


def scores(service, model):
    data = service.post("/v1/classify", {"model": model, "input": ["will it pour", "a clear day", SECRET]}).json()["data"]
    return numpy.array([[next(s["score"] for s in datum["scores"] if s["label"] == label) for label in ("rain", "sun")] for datum in data])


def test_a_text_goes_from_files_classifiers_and_disk_and_what_learned_from_it_is_named(start, tmp_path):
    data = tmp_path / "data"
    first, second = start(data=data), start("--workers", 0, data=data)
    plain = list(weather(30))
    rows = plain[:7] + [{"text": SECRET, "label": "sun"}] + plain[7:] + [{"text": SECRET, "label": "rain"}]
    examples = [{"text": SECRET, "label": "sun"}, {"text": "it drizzles", "label": "rain"}, {"text": "hot and bright", "label": "sun"}, {"text": "umbrella weather", "label": "rain"}]
    few_shot(first, "shown", examples)
    few_shot(first, "never", examples[1:])
    with client_of(first) as client:
        file, other = upload(client, lines(rows)), upload(client, lines(plain))
        table = io.StringIO()
        csv.writer(table).writerows([["text", "label"], *([row["text"], row["label"]] for row in rows)])
        table = upload(client, table.getvalue().encode(), "weather.csv")
        done, clean = trained(client, file, "weather"), trained(client, other, "clean")
        before = scores(first, "weather")
        assert holding(data, SECRET)

        told = purged(first, text=SECRET, dry_run=True)
        assert (told["status"], told["id"], told["rows"]) == ("dry_run", None, 4)
        assert holding(data, SECRET) and client.files.content(file.id).content == lines(rows)

        answer = purged(first, text=SECRET)
        assert (answer["status"], answer["rows"]) == ("done", 4)
        assert {(entry["id"], entry["rows"], entry["unreadable"]) for entry in answer["files"]} == {(file.id, 2, 0), (table.id, 2, 0)}
        assert answer["jobs"] == [done.id] and answer["trained_on"] == [done.fine_tuned_model]
        assert {(entry["version"], entry["examples"]) for entry in answer["examples"]} == {(f"shown@{number}", 1) for number in (2, 3, 4, 5)}
        assert told | {"id": 0, "status": 0, "created_at": 0, "finished_at": 0} == answer | {"id": 0, "status": 0, "created_at": 0, "finished_at": 0}
        assert done.fine_tuned_model in answer["remaining"][0] and clean.fine_tuned_model not in str(answer)

        assert holding(data, SECRET) == []
        left = b"".join(b"\n" if row["text"] == SECRET else lines([row]) for row in rows)
        assert client.files.content(file.id).content == left
        assert client.files.content(other.id).content == lines(plain)
        assert (client.files.retrieve(file.id).to_dict()["examples"], client.files.retrieve(file.id).bytes) == (30, len(left))
        assert [row for row in csv.reader(io.StringIO(client.files.content(table.id).content.decode())) if row][1:] == [[row["text"], row["label"]] for row in plain]
        assert not list(client.fine_tuning.jobs.checkpoints.list(done.id))
        # What was trained answers as before until it is trained again; what holds examples never saw this one.
        assert scores(first, "weather") == pytest.approx(before)
        for server in (first, second):
            wait_until(lambda s=server: numpy.allclose(scores(s, "shown"), scores(s, "never"), atol=1e-6), "every server answers without it")
            wait_until(lambda s=server: numpy.allclose(scores(s, "shown@3"), scores(s, "never@2"), atol=1e-6), "by every version")
        shown = first.http.get("/v1/classifiers/shown").json()
        assert (shown["audit"][0]["action"], shown["production"]) == ("purge", 5)
        again = trained(client, file, "weather")
        assert again.fine_tuned_model == "weather@2"

        kept = second.http.get(f"/v1/purges/{answer['id']}").json()
        assert kept == answer and second.http.get("/v1/purges").json()["data"] == [answer]
        assert SECRET not in json.dumps(kept, ensure_ascii=False)
        repeated = purged(first, text=SECRET)
        assert (repeated["rows"], repeated["files"], repeated["examples"], repeated["status"]) == (0, [], [], "done")
        assert client.files.content(file.id).content == left


def test_a_version_whose_file_is_deleted_is_named_where_it_is_known_to_have_learned(start):
    running = start()
    held_out = "the last rain of a long year"
    rows = [row | {"split": "test" if place % 5 == 0 else "train"} for place, row in enumerate(weather(60))]
    rows += [{"text": SECRET, "label": "sun", "split": "train"}, {"text": held_out, "label": "rain", "split": "test"}]
    with client_of(running) as client:
        files = [upload(client, lines(rows)), upload(client, lines(rows[:60]))]
        learned, clean = (trained(client, file, name).fine_tuned_model for file, name in zip(files, ("weather", "clean"), strict=True))
        for file in files:
            client.files.delete(file.id)
    # What is scored is not learned from; where no file tells, every version whose file is gone is to be decided on.
    answer = purged(running, text=held_out)
    assert (answer["trained_on"], answer["unknown"]) == ([], sorted([learned, clean]))
    told = purged(running, text=SECRET, dry_run=True)
    answer = purged(running, text=SECRET)
    assert told["trained_on"] == answer["trained_on"] == [learned] and answer["unknown"] == [clean]
    assert learned in answer["remaining"][0]
    # What knew it does not know it any more.
    again = purged(running, text=SECRET)
    assert (again["trained_on"], again["unknown"]) == ([], sorted([learned, clean]))


def test_a_group_of_an_archive_goes_from_file_report_and_database(start):
    running = start()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, row in enumerate(weather(120)):
            person = ("berta", "carla", "doris")[number % 3]
            folder = f"{'train' if number % 5 else 'test'}/person-{person}-of-group"
            archive.writestr(f"{folder}/{row['label']}/{number}.txt", row["text"])
            if number < 15:
                for beside in (*({f"{folder}/"} - {*archive.namelist()}), f"{folder}/notes-{number}.json", f"{folder}/{row['label']}/.{number}", f"__MACOSX/{folder}/{row['label']}/._{number}.txt"):
                    archive.writestr(beside, b"")
    with client_of(running) as client:
        file = upload(client, content.getvalue(), "weather.zip")
        done = trained(client, file, "weather")
        report = running.http.get(f"/v1/fine_tuning/jobs/{done.id}/report").json()
        assert "person-carla-of-group" in json.dumps(report)
        assert len(holding(running.data, "person-carla-of-group")) >= 2
        answer = purged(running, group="person-carla-of-group", file=file.id)
        assert (answer["rows"], answer["status"], answer["trained_on"]) == (45, "done", [done.fine_tuned_model])
        assert [entry["unreadable"] for entry in answer["files"]] == [10], "others' notes stay"
        assert holding(running.data, "person-carla-of-group") == []
        names = zipfile.ZipFile(io.BytesIO(client.files.content(file.id).content)).namelist()
        assert sum(name.endswith(".txt") and not name.startswith("__MACOSX") for name in names) == 80
        assert not any("carla" in name for name in names) and sum("berta" in name for name in names) == 57
        for path in (f"fine_tuning/jobs/{done.id}", "classifiers/weather/versions/1"):
            struck = running.http.get(f"/v1/{path}/report")
            assert struck.status_code == 200 and "carla" not in struck.text and "berta" in struck.text
            assert "(purged)" in running.http.get(f"/v1/{path}/report", headers={"accept": "text/html"}).text


def test_rows_of_a_file_go_by_line_and_each_key_purges_its_own(start):
    running = start(HEADSTART_API_KEYS=KEYS)
    rows = list(weather(30))
    with client_of(running, "key-of-anna") as anna, client_of(running, "key-of-bert") as bert:
        mine, twin, theirs = upload(anna, lines(rows)), upload(anna, lines(rows)), upload(bert, lines(rows))
        for body in ({"file": theirs.id, "rows": [1]}, {"file": "file-none", "rows": [1]}):
            assert purge(running, "key-of-anna", **body).status_code == 404
        for body, param in (({"rows": [1]}, "file"), ({"file": mine.id, "rows": []}, "rows"), ({}, "rows"), ({"text": "a", "group": "b"}, "rows"), ({"text": ""}, "text"), ({"group": " "}, "group")):
            refused = purge(running, "key-of-anna", **body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
            assert ("only one of" in refused.text) == (len(body) == 2 and "file" not in body), refused.text
        answer = purged(running, "key-of-anna", file=mine.id, rows=[2, 30, 31])
        assert (answer["rows"], answer["not_found"], answer["requested_by"]) == (4, 1, "anna")
        assert {entry["id"] for entry in answer["files"]} == {mine.id, twin.id}, "the same bytes are the same rows"
        left = b"".join(b"\n" if number in (2, 30) else lines([row]) for number, row in enumerate(rows, 1))
        assert anna.files.content(mine.id).content == anna.files.content(twin.id).content == left
        assert bert.files.content(theirs.id).content == lines(rows)
        assert rows[1]["text"].encode() in b"".join(path.read_bytes() for path in (running.data / "blobs").glob("??/*"))

        listed = lambda key: [entry["id"] for entry in running.http.get("/v1/purges", headers={"authorization": f"Bearer {key}"}).json()["data"]]
        assert (listed("key-of-anna"), listed("key-of-bert"), listed("key-of-root")) == ([answer["id"]], [], [answer["id"]])
        everybody = purged(running, "key-of-root", text=rows[1]["text"])
        assert [entry["id"] for entry in everybody["files"]] == [theirs.id]
        assert holding(running.data, rows[1]["text"]) == []


def test_a_file_of_a_running_job_is_not_touched_and_a_paused_job_begins_anew(start):
    running = start()
    rows = [*weather(3000), {"text": SECRET, "label": "sun"}]
    with client_of(running) as client:
        file = upload(client, lines(rows))
        job = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix="weather").id
        wait_until(lambda: client.fine_tuning.jobs.retrieve(job).status == "running", "the job runs")
        refused = purge(running, text=SECRET)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
        assert file.id in refused.json()["error"]["message"] and job in refused.json()["error"]["message"]
        assert client.files.content(file.id).content == lines(rows)
        client.fine_tuning.jobs.pause(job)
        assert purged(running, text=SECRET)["jobs"] == [job]
        client.fine_tuning.jobs.resume(job)
        done = wait_until(lambda: (now := client.fine_tuning.jobs.retrieve(job)).status in ENDED and now, "the job ends")
        assert done.status == "succeeded", done
        assert holding(running.data, SECRET) == []


def test_the_same_purge_sent_again_under_its_key_is_one_purge(start):
    running = start()
    with client_of(running) as client:
        upload(client, lines([*weather(20), {"text": SECRET, "label": "sun"}]))
    send = lambda: running.post("/v1/purges", {"text": SECRET}, headers={"idempotency-key": "once"}).json()
    first = send()
    assert first["rows"] == 1 and send() == first
    assert len(running.http.get("/v1/purges").json()["data"]) == 1


# Cut off half-way


def killed(service):
    service.http.close()
    service._process.kill()
    service._process.wait()
    service._stopped = True


def test_a_purge_killed_before_its_bytes_were_erased_is_finished_by_the_next_start(tmp_path):
    running = Service(tmp_path, "--sweep-seconds", 1)
    with client_of(running) as client:
        file = upload(client, lines([*weather(20), {"text": SECRET, "label": "sun"}]))
    # A backup in progress keeps bytes from going: the purge is written, and waits.
    with (running.data / "blobs" / "collect.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        answer = purged(running, text=SECRET)
        assert (answer["status"], answer["rows"], answer["finished_at"]) == ("erasing", 1, None)
        assert running.http.get(f"/v1/files/{file.id}/content").content == lines(weather(20)) + b"\n"
        assert holding(running.data, SECRET) != []
        killed(running)
    running = Service(tmp_path, "--sweep-seconds", 1)
    done = wait_until(lambda: (now := running.http.get(f"/v1/purges/{answer['id']}").json())["status"] == "done" and now, "the purge ends")
    assert done["finished_at"] and holding(running.data, SECRET) == []
    running.stop()


def test_purges_killed_at_any_moment_have_happened_or_not_and_end_when_sent_again(tmp_path):
    chance = random.Random(5)
    texts = [f"secret {number} {chance.random()}" for number in range(6)]
    rows = list(weather(40_000))
    for number, text in enumerate(texts):
        rows.insert(5_000 * (number + 1), {"text": text, "label": "sun"})
    running = Service(tmp_path, "--sweep-seconds", 1)
    with client_of(running) as client:
        file = upload(client, lines(rows))
    few_shot(running, "shown", [{"text": text, "label": "sun"} for text in texts])
    took = time.monotonic()
    assert purged(running, text=texts[0])["rows"] == 1
    took = time.monotonic() - took
    for text in texts[1:]:
        def sent(service=running, text=text):
            try:
                purge(service, text=text)
            except (httpx.HTTPError, RuntimeError):
                pass

        sending = threading.Thread(target=sent)
        sending.start()
        time.sleep(chance.uniform(0, 1.2 * took))
        running._process.kill()
        sending.join()
        killed(running)
        running = Service(tmp_path, "--sweep-seconds", 1)
        again = purged(running, text=text)
        assert again["rows"] in (0, 1)
        wait_until(lambda: all(one["status"] == "done" for one in running.http.get("/v1/purges").json()["data"]), "every purge ends")
        assert holding(running.data, text) == []
    left = b"".join(b"\n" if row["text"] in texts else lines([row]) for row in rows)
    assert running.http.get(f"/v1/files/{file.id}/content").content == left
    counts = running.post("/v1/classifiers/shown/examples", {"examples": [{"text": "it drizzles", "label": "rain"}]}).json()["labels"]
    assert {entry["label"]: entry["examples"] for entry in counts} == {"rain": 1, "sun": 0}
    running.stop()
