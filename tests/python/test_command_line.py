"""The command line: options and their order, embedding of files, resuming, refusals."""

import json
import os
import pty
import signal
import subprocess
import tomllib

import numpy
import pytest
from pictures import photos, saved
from reference import cosine, pixel_features, text_features
from service import BINARY, FAST_TEXT, IMAGE, MODELS, PATIENCE_SECONDS, ROOT, TEXT, environment, wait_until
from terminal import Terminal
from texts import banking_questions, made_texts


def run(*arguments, **variables):
    """Runs a command to its end."""
    return subprocess.run(
        [str(BINARY), *map(str, arguments)],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def succeed(*arguments, **variables):
    done = run(*arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done


def refuse(*arguments, names, **variables):
    """Runs a command that must fail at once and say why."""
    done = run(*arguments, **variables)
    assert done.returncode != 0, f"accepted: {arguments} {variables}"
    for name in names:
        assert name in done.stderr, f"{name!r} is not in: {done.stderr}"
    assert "panicked" not in done.stderr
    return done


def printed(*arguments, **variables):
    """The options in force."""
    return tomllib.loads(succeed("serve", "--print-config", *arguments, **variables).stdout)


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file."""

    def write(text):
        path = tmp_path / "options.toml"
        path.write_text(text)
        return path

    return write


def test_the_defaults_are_printed_as_toml():
    options = printed()
    assert options["listen"] == "127.0.0.1:8080"
    assert options["models"] == ["models"]
    assert (options["max_items"], options["queue_items"]) == (2048, 4096)


def test_the_environment_wins_over_the_file_and_a_flag_over_both(file):
    path = file("max_items = 5\nmax_labels = 5\nmax_text_bytes = 5\n")
    variables = {"HEADSTART_MAX_LABELS": "6", "HEADSTART_MAX_TEXT_BYTES": "6"}
    options = printed("--config", path, "--max-text-bytes", 7, **variables)
    assert (options["max_items"], options["max_labels"], options["max_text_bytes"]) == (5, 6, 7)


def test_the_configuration_file_may_be_named_by_the_environment(file):
    assert printed(HEADSTART_CONFIG=str(file("max_items = 9")))["max_items"] == 9


def test_several_model_folders_can_be_named(tmp_path):
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert printed("--models", folders[0], "--models", folders[1])["models"] == folders
    assert printed(HEADSTART_MODELS=":".join(folders))["models"] == folders


def test_printed_options_are_a_file_of_options_without_the_secrets(file):
    secrets = {
        "HEADSTART_API_KEYS": "team:infer:very-secret-key",
        "HEADSTART_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    given = ["--webhook-hosts", "a.example.com", "--require-cuda=false", "--models", "a", "--models", "b"]
    done = succeed("serve", "--print-config", *given, **secrets)
    assert "team:infer" in done.stdout
    assert not [secret for secret in ("very-secret-key", "MfKQ") if secret in done.stdout + done.stderr]
    options = tomllib.loads(done.stdout)
    assert options["lanes"] >= 1 and "api_keys" not in options
    again = succeed("serve", "--print-config", "--config", file(done.stdout), **secrets)
    assert again.stdout == done.stdout
    assert printed("--config", file(succeed("serve", "--print-config").stdout)) == printed()


@pytest.mark.parametrize("text, names", [
    ("no_such_option = 1", ["no_such_option"]),
    ("[section]\nlisten = 1", ["section"]),
    ('max_items = "many"', ["options.toml: line 1: `max_items`", "whole number"]),
    ('api_keys = "a:infer:very-secret', ["options.toml: line 1: `api_keys`"]),
    ("max_items = 0", ["max-items"]),
    ('listen = "nowhere"', ["listen"]),
    ("max_items = 9\nqueue_items = 8", ["max-items", "queue-items"]),
    ("max_items = 1\nmax_items = 2", ["max_items"]),
    ("max_items = ", ["options.toml"]),
])
def test_a_bad_file_stops_the_start_and_is_named(file, text, names):
    done = refuse("serve", "--config", file(text), names=names)
    assert "usize" not in done.stderr and "very-secret" not in done.stderr


@pytest.mark.parametrize("variables, names", [
    ({"HEADSTART_NO_SUCH_OPTION": "1"}, ["HEADSTART_NO_SUCH_OPTION"]),
    ({"HEADSTART_MAX_ITEMS": "many"}, ["'HEADSTART_MAX_ITEMS'", "many"]),
    ({"HEADSTART_LISTEN": "nowhere"}, ["'HEADSTART_LISTEN'", "nowhere"]),
    ({"HEADSTART_REQUIRE_CUDA": "maybe"}, ["'HEADSTART_REQUIRE_CUDA'", "maybe"]),
    ({"HEADSTART_LANES": "0"}, ["lanes"]),
    ({"HEADSTART_REQUIRE_CUDA": "true"}, ["require-cuda"]),
    ({"HEADSTART_API_KEYS": "team:infer:short"}, ["api-keys"]),
    ({"HEADSTART_API_KEYS": "team:read:long-enough"}, ["api-keys", "read"]),
    ({"HEADSTART_API_KEYS": "a:infer:long-enough,b:train:long-enough"}, ["entries 1 and 2, `a` and `b`"]),
    ({"HEADSTART_LOG": "no=such=filter"}, ["log"]),
])
def test_a_bad_variable_stops_the_start_and_is_named(variables, names):
    done = refuse("serve", names=names, **variables)
    assert "long-enough" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line or line.startswith("headstart:")]
    parts = line.split(": ")
    assert len(parts) == len(set(parts)), line


@pytest.mark.parametrize("flags, names", [
    (["--no-such-option"], ["--no-such-option"]),
    (["--max-items", "many"], ["--max-items", "many"]),
    (["--listen", "127.0.0.1"], ["--listen"]),
    (["--config", "no-such-file.toml"], ["no-such-file.toml"]),
    (["--models", "no-such-folder"], ["no-such-folder"]),
    (["--listen", "127.0.0.1:0", "--onnxruntime", "no-such-library.so"], ["no-such-library.so"]),
])
def test_a_bad_flag_stops_the_start_and_is_named(tmp_path, flags, names):
    refuse("serve", "--data", tmp_path, *flags, names=names)


@pytest.fixture
def no_gpu():
    """Skips where the library that was set up is the one for GPUs."""
    if list((ROOT / "vendor").rglob("libonnxruntime_providers_cuda.so")):
        pytest.skip("ONNX Runtime's library for GPUs is here")


def test_cuda_that_is_required_and_not_usable_stops_the_start(tmp_path, no_gpu):
    refuse("serve", "--listen", "127.0.0.1:0", "--data", tmp_path, "--device", "cuda", "--require-cuda", names=["cuda is required but not usable: "])


def test_cuda_that_is_not_usable_is_told_and_the_cpu_answers(start, no_gpu):
    service = start("--device", "cuda")
    models = {model["id"]: model for model in service.http.get("/v1/models").json()["data"]}
    assert {TEXT, IMAGE} <= models.keys() and {model["provider"] for model in models.values()} == {"cpu"}
    told = [line for line in service.log().splitlines() if "CUDA is not usable; running on the CPU" in line]
    assert len(told) == len(models) and all("reason=" in line for line in told), told
    assert cosine(service.embed(TEXT, "a")[0], text_features(TEXT, "a")) > 0.99999


def test_other_machines_are_not_served_without_keys_unless_told_so(start):
    refuse("serve", "--listen", "0.0.0.0:0", names=["listen", "api-keys", "allow-unauthenticated"])
    assert start("--allow-unauthenticated", listen="0.0.0.0:0").embed(TEXT, "a")
    guarded = start(listen="0.0.0.0:0", HEADSTART_API_KEYS="app:infer:key-of-app")
    assert guarded.http.get("/v1/models").status_code == 401


def test_the_backbones_are_listed():
    listed = succeed("models").stdout
    for name, modality in ((TEXT, "text"), (IMAGE, "image")):
        (line,) = [line for line in listed.splitlines() if line.split()[0] == name]
        assert modality in line and "Apache-2.0" in line


def test_a_broken_backbone_is_named_and_the_others_still_serve(tmp_path, start):
    models = tmp_path / "models"
    models.mkdir()
    (models / TEXT).symlink_to(MODELS / TEXT)
    damaged = models / "damaged"
    damaged.mkdir()
    for file in (MODELS / TEXT).iterdir():
        (damaged / file.name).symlink_to(file)
    for name in ("headstart.toml", "model.onnx"):
        (damaged / name).unlink()
    manifest = (MODELS / TEXT / "headstart.toml").read_text()
    (damaged / "headstart.toml").write_text(manifest.replace(f'id = "{TEXT}"', 'id = "damaged"'))
    (damaged / "model.onnx").write_bytes(b"not a model")
    done = run("models", "--models", models)
    assert done.returncode != 0 and "sha-256" in done.stdout.lower()
    assert "damaged" in done.stdout and TEXT in done.stdout
    service = start("--models", models)
    broken = service.http.get("/v1/models/damaged").json()
    assert broken["status"] == "broken" and broken["error"]
    assert service.post("/v1/embeddings", {"model": "damaged", "input": "a"}).status_code == 503
    assert service.embed(TEXT, "a")


def test_backbones_of_which_none_loads_are_listed_with_their_reasons(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    manifest = (MODELS / TEXT / "headstart.toml").read_text()
    for folder in folders:
        (folder / TEXT).mkdir(parents=True)
        (folder / TEXT / "headstart.toml").write_text(manifest.replace("modality =", "modalty ="))
    options = ["--models", folders[0], "--models", folders[1]]
    done = run("models", *options)
    broken, left_out = [line for line in done.stdout.splitlines() if line.startswith(TEXT)]
    assert done.returncode != 0 and "1 broken, 1 left out" in done.stderr
    assert "broken" in broken and "modalty" in done.stdout and str(folders[0]) in broken
    assert "left out" in left_out and str(folders[1]) in left_out and str(folders[0]) in left_out
    refuse("serve", "--listen", "127.0.0.1:0", "--data", tmp_path / "data", *options, names=["modalty"])
    (tmp_path / "texts.txt").write_text("One.\n")
    refuse("embed", tmp_path / "texts.txt", *options, names=["modalty"])


def test_the_openapi_document_is_the_committed_one():
    document = succeed("openapi").stdout
    assert json.loads(document)["info"]["title"] == "headstart"
    assert document == (ROOT / "openapi" / "openapi.json").read_text()


def lines(path):
    """The objects of a `.jsonl` file of vectors."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["index"] for line in found] == list(range(len(found)))
    return found


def vectors(path):
    """The vectors of a `.npy` or `.jsonl` file."""
    return numpy.load(path) if path.suffix == ".npy" else numpy.array([line["embedding"] for line in lines(path)])


def untouched(folder):
    """Everything in a folder, to be compared with itself."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("ending", [".jsonl", ".npy"])
@pytest.mark.parametrize("form", ["lines", "json"])
def test_texts_are_embedded_line_by_line(tmp_path, form, ending):
    texts = banking_questions()[:70]
    given = tmp_path / {"lines": "texts.txt", "json": "texts.jsonl"}[form]
    rows = texts if form == "lines" else [json.dumps({"text": text, "label": "ignored"}) for text in texts]
    given.write_text("".join(f"{row}\n" for row in rows))
    output = tmp_path / f"vectors{ending}"
    done = succeed("embed", given, "--model", TEXT, "--output", output)
    assert "70" in done.stderr and TEXT in done.stderr
    found = vectors(output)
    assert found.shape == (70, 384)
    for text, vector in list(zip(texts, found, strict=True))[::10]:
        assert cosine(vector, text_features(TEXT, text)) > 0.99999


def test_a_terminal_sees_how_far_embedding_is(tmp_path):
    (given := tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in banking_questions()[:70]))
    with Terminal([BINARY, "embed", given, "--model", FAST_TEXT, "--cache-bytes", 0], environment()) as terminal:
        assert terminal.wait() == 0, terminal.seen()
    assert terminal.shows(r"70/70 .*/s"), terminal.seen()
    assert vectors(tmp_path / "texts.txt.jsonl").shape == (70, 384)
    # What is piped has lines alone.
    assert "70/70" not in succeed("embed", given, "--model", FAST_TEXT, "--overwrite").stderr


@pytest.mark.parametrize("ending", [".jsonl", ".npy"])
def test_a_folder_of_pictures_is_embedded_in_order_of_name(tmp_path, ending):
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    names = ["b.png", "a.png", "deeper/c.png"]
    for name, photo in zip(names, photos(), strict=True):
        (folder / name).write_bytes(saved(photo, "PNG"))
    (folder / "notes.txt").write_text("no picture")
    output = tmp_path / f"vectors{ending}"
    succeed("embed", folder, "--output", output)
    found = vectors(output)
    assert found.shape == (3, 1280)
    in_order = [photos()[names.index(name)] for name in sorted(names)]
    for photo, vector in zip(in_order, found, strict=True):
        assert cosine(vector, pixel_features(IMAGE, photo)) > 0.99999
    named = lines(output) if ending == ".jsonl" else []
    assert [line["file"] for line in named] == sorted(names)[: len(named)]


def test_the_output_stands_beside_the_input_unless_named(tmp_path):
    given = tmp_path / "texts.txt"
    given.write_text("One.\nTwo.\n")
    succeed("embed", given)
    assert vectors(tmp_path / "texts.txt.jsonl").shape == (2, 384)


@pytest.mark.parametrize("ending", [".jsonl", ".npy"])
def test_a_run_that_was_killed_resumes_to_the_same_file(tmp_path, ending):
    given = tmp_path / "texts.txt"
    rows = [" ".join(text.split()) or "." for text in made_texts([3 + number % 20 for number in range(600)], seed=3)]
    given.write_text("".join(f"{number} {row}\n" for number, row in enumerate(rows)))
    whole, cut = tmp_path / f"whole{ending}", tmp_path / f"cut{ending}"
    command = ["embed", given, "--model", TEXT, "--cache-bytes", 0, "--output"]
    succeed(*command, whole)

    def written():
        return cut.stat().st_size if cut.exists() else 0

    for share in (0.2, 0.5):
        aim = share * whole.stat().st_size
        process = subprocess.Popen(
            [str(BINARY), *map(str, command), str(cut)], cwd=ROOT, env=environment(), stderr=subprocess.PIPE
        )
        wait_until(lambda aim=aim: written() > aim or process.poll() is not None, "some vectors are written")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    # What a machine that loses power leaves: half a vector.
    os.truncate(cut, written() - 7)
    succeed(*command, cut)
    assert cut.read_bytes() == whole.read_bytes()
    succeed(*command, cut)
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("ending", [".jsonl", ".npy"])
def test_a_run_that_ends_at_a_bad_line_leaves_the_vectors_before_it(tmp_path, ending):
    texts = [f"{number} {text}" for number, text in enumerate(3 * banking_questions()[:60])]
    given, output = tmp_path / "texts.txt", tmp_path / f"vectors{ending}"
    given.write_text("".join(f"{text}\n" for text in [*texts[:150], "", *texts[150:]]))
    command = ["embed", given, "--model", FAST_TEXT, "--output", output]
    for _ in range(2):
        refuse(*command, names=["texts.txt: line 151"])
        begun = vectors(output)
        # What was computed together with the bad line is not written.
        assert begun.shape == (128, 384)
    given.write_text("".join(f"{text}\n" for text in texts))
    assert "128 of them from before" in succeed(*command).stderr
    whole = tmp_path / f"whole{ending}"
    succeed(*command[:-1], whole)
    assert output.read_bytes() == whole.read_bytes()
    assert numpy.array_equal(vectors(whole)[:128], begun)


def test_what_cannot_be_embedded_is_named(tmp_path):
    refuse("embed", tmp_path / "no-such-file.txt", names=["no-such-file.txt"])
    (tmp_path / "empty").mkdir()
    refuse("embed", tmp_path / "empty", names=["empty", "png"])
    texts = tmp_path / "texts.txt"
    texts.write_text("One.\n\nThree.\n")
    refuse("embed", texts, names=["texts.txt: line 2"])
    texts.write_bytes(b"One.\n\xff\xfe\n")
    refuse("embed", texts, names=["texts.txt: line 2", "UTF-8"])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "One."}\n{"txt": "Two."}\n')
    refuse("embed", broken, names=["broken.jsonl: line 2", "text"])
    texts.write_text("One.\n" + "word " * 400 + "\n")
    refuse("embed", texts, "--truncate", "none", "--model", TEXT, names=["texts.txt: line 2", "402", "256"])
    for ending in ("csv", "TSV", "parquet"):
        table = tmp_path / f"table.{ending}"
        table.write_text("text,label\nOne.,a\n")
        refuse("embed", table, names=[table.name, "is a table", ".jsonl"])
        table.unlink()
    refuse("embed", texts, "--output", tmp_path / "vectors.csv", names=["vectors.csv", ".npy"])
    refuse("embed", texts, "--output", tmp_path / "nowhere" / "vectors.npy", names=["nowhere"])
    refuse("embed", texts, "--model", "no-such-model", names=["no-such-model", TEXT])
    refuse("embed", texts, "--model", IMAGE, names=[IMAGE, "text"])
    refuse("embed", texts, "--prompt", "no-such-prompt", "--model", TEXT, names=["no-such-prompt"])
    picture = tmp_path / "pictures"
    picture.mkdir()
    for name in ("a.png", "c.png"):
        (picture / name).write_bytes(saved(photos()[0], "PNG"))
    (picture / "b.png").write_bytes(b"no picture at all")
    done = refuse("embed", picture, names=[f"{picture / 'b.png'}: unsupported media"])
    assert done.stderr.count("unsupported media") == 1
    refuse("embed", picture, "--truncate", "end", names=["--truncate"])
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "pictures", "texts.txt", "broken.jsonl"}


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_what_is_embedded_is_never_written_over(tmp_path, link):
    given = tmp_path / "self.jsonl"
    given.write_text('{"text": "One."}\n{"text": "Two, not ended."}')
    output = tmp_path / "other.jsonl" if link else given
    if link:
        link(given, output)
    before = untouched(tmp_path)
    for more in ([], ["--overwrite"]):
        refuse("embed", given, "--output", output, *more, names=[output.name, "what is embedded"])
    assert untouched(tmp_path) == before


def test_files_of_somebody_else_are_left_as_they_are(tmp_path):
    given = tmp_path / "texts.txt"
    given.write_text("One.\nTwo.\nThree.\n")
    notes, array, vague = tmp_path / "notes.jsonl", tmp_path / "array.npy", tmp_path / "vectors.jsonl"
    notes.write_text("Notes of mine.\nThe last is not ended.")
    numpy.save(array, numpy.zeros((2, 384), numpy.float32))
    vague.write_text('{"index":0,"embedding":[1.0]}\n{"index":1,"embedding":[1.0]}\n')
    before = untouched(tmp_path)
    for output in (notes, array, vague):
        refuse("embed", given, "--output", output, names=[output.name, "--overwrite"])
    assert untouched(tmp_path) == before
    succeed("embed", given, "--output", notes, "--overwrite")
    assert vectors(notes).shape == (3, 384)
    (ours := tmp_path / "ours.jsonl").write_bytes(b"")
    succeed("embed", given, "--output", ours)
    ours.write_text(ours.read_text() + "and a note of mine\n")
    before = untouched(tmp_path)
    refuse("embed", given, "--output", ours, names=["ours.jsonl", "line 4"])
    assert untouched(tmp_path) == before


@pytest.mark.parametrize("ending", [".jsonl", ".npy"])
def test_an_output_is_added_to_by_the_work_that_began_it_alone(tmp_path, ending):
    given, output = tmp_path / "texts.txt", tmp_path / f"vectors{ending}"
    given.write_text("One.\nTwo.\nThree.\n")
    command = ["embed", given, "--output", output, "--model"]
    succeed(*command, FAST_TEXT)
    given.write_text(given.read_text() + "Four.\n")
    before = untouched(tmp_path)
    refuse(*command, TEXT, names=[output.name, f"`{FAST_TEXT}`, now `{TEXT}`", "--overwrite"])
    refuse(*command, FAST_TEXT, "--truncate", "start", names=["`end`, now `start`"])
    refuse(*command, FAST_TEXT, "--prompt", "nope", names=["nope"])
    (other := tmp_path / "other").mkdir()
    (other / "texts.txt").write_text("Zero.\nOne.\nTwo.\nThree.\n")
    refuse("embed", other / "texts.txt", *command[2:], FAST_TEXT, names=["3 texts", "--overwrite"])
    (other / "a.png").write_bytes(saved(photos()[0], "PNG"))
    refuse("embed", other, "--output", output, names=[IMAGE])
    assert untouched(tmp_path) == before
    assert "3 of them from before" in succeed(*command, FAST_TEXT).stderr
    whole = tmp_path / f"whole{ending}"
    succeed("embed", given, "--output", whole, "--model", FAST_TEXT)
    assert output.read_bytes() == whole.read_bytes()
    succeed(*command, TEXT, "--overwrite")
    assert cosine(vectors(output)[3], text_features(TEXT, "Four.")) > 0.99999


def test_pictures_are_resumed_by_name(tmp_path):
    folder, output, array = tmp_path / "pictures", tmp_path / "vectors.jsonl", tmp_path / "vectors.npy"
    folder.mkdir()
    first, second, third = photos()[:3]
    (folder / "b.png").write_bytes(saved(first, "PNG"))
    (folder / "c.png").write_bytes(saved(second, "PNG"))
    for place in (output, array):
        succeed("embed", folder, "--output", place)
    (folder / "a.png").write_bytes(saved(third, "PNG"))
    (folder / "c.png").unlink()
    done = succeed("embed", folder, "--output", output)
    assert "c.png" in done.stderr and "b.png" not in done.stderr
    assert [line["file"] for line in lines(output)] == ["b.png", "c.png", "a.png"]
    for photo, vector in zip((first, second, third), vectors(output), strict=True):
        assert cosine(vector, pixel_features(IMAGE, photo)) > 0.99999
    before = array.read_bytes()
    refuse("embed", folder, "--output", array, names=["vectors.npy", ".jsonl", "--overwrite"])
    assert array.read_bytes() == before
    folder.rename(tmp_path / "moved")
    refuse("embed", tmp_path / "moved", "--output", output, names=["vectors.jsonl", str(folder)])
    succeed("embed", tmp_path / "moved" / "a.png", "--output", tmp_path / "one.jsonl")
    assert [line["file"] for line in lines(tmp_path / "one.jsonl")] == ["a.png"]


def test_lines_say_what_was_cut_and_small_limits_do_no_harm(tmp_path):
    given, output = tmp_path / "texts.txt", tmp_path / "vectors.jsonl"
    given.write_text("".join(f"Text {number}.\n" for number in range(20)) + "word " * 400 + "\n")
    done = succeed("embed", given, "--output", output, "--model", TEXT, HEADSTART_MAX_ITEMS="10")
    assert [line.get("truncated_tokens") for line in lines(output)] == [None] * 20 + [146]
    assert "1 texts" in done.stderr
    # Only the backbone that is asked for is loaded.
    assert IMAGE not in done.stderr


def test_a_small_validation_file_is_tuned_on_beside_its_training_file(tmp_path):
    rows = [f"{text},{label}" for label, text in (("a", "the cat sat"), ("b", "a fast car")) for _ in range(6)]
    rows = [row.replace(",", f" number {number},") for number, row in enumerate(rows)]
    (training := tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (validation := tmp_path / "val.csv").write_text("text,label\na slow cat,a\nThe cat sat: number 0!,a\n")
    (unknown := tmp_path / "unknown.csv").write_text("text,label\na slow cat,a\na fish,c\n")
    options = ["train", training, "--data", tmp_path / "data", "--backbone", TEXT, "--method", "linear_probe"]
    refuse(*options, "--validation", unknown, names=["unknown.csv", "line 3", "`c`"])
    done = succeed(*options, "--validation", validation, "--budget-seconds", 5)
    report = json.loads(done.stdout)
    assert report["run"]["dataset"]["held_out"] == "val" and report["duplicates"]["across_splits"] == 1
    assert "val.csv: line 3" in done.stderr


@pytest.fixture
def labelled(tmp_path):
    """A training command on a small file."""
    rows = [f"{text} number {number},{label}" for label, text in (("a", "the cat sat"), ("b", "a fast car")) for number in range(6)]
    (file := tmp_path / "my_clf.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return ["train", file, "--data", tmp_path / "data", "--backbone", TEXT]


@pytest.mark.parametrize("flags, names", [
    (["--method", "foo"], ["foo", "auto", "linear_probe", "mlp", "prototype"]),
    (["--hyperparameters", "c=1"], ["--hyperparameters", "JSON object", "c=1"]),
    (["--hyperparameters", "[1]"], ["--hyperparameters", "JSON object"]),
    (["--name", TEXT], ["--name", "backbone"]),
    (["--name", "é"], ["--name", "letter"]),
    (["--owner", "bob"], ["--owner", "alice"]),
    (["--owner", "a/b"], ["--owner", "alice"]),
    ([], ["--owner", "alice"]),
    (["--onnxruntime", "no-such-library.so"], ["no-such-library.so"]),
    (["--models", "no-such-folder"], ["no-such-folder"]),
    (["--validation", "no-such-file.csv"], ["no-such-file.csv"]),
])
def test_training_refuses_what_cannot_be_and_names_what_can(labelled, tmp_path, flags, names):
    keys = {} if flags and "--owner" not in flags else {"HEADSTART_API_KEYS": "alice:train:key-of-alice"}
    refuse(*labelled, *flags, names=names, **keys)
    assert not [path for path in (tmp_path / "data" / "blobs").glob("??/*")], "nothing is left behind"


def test_training_refuses_an_owner_that_no_key_can_be_and_a_folder_that_is_not_packed(labelled, tmp_path):
    refuse(*labelled, "--owner", "a/b", names=["--owner", "letters, digits"])
    photos = tmp_path / "photos"
    photos.mkdir()
    refuse("train", photos, *labelled[2:], names=["photos", "zip or tar", "one folder a class"])
    assert not [path for path in (tmp_path / "data" / "blobs").glob("??/*")], "nothing is left behind"


def test_a_classifier_trained_for_a_key_is_that_keys_and_a_terminal_gets_a_summary(labelled, tmp_path, start):
    keys = {"HEADSTART_API_KEYS": "alice:train+infer:key-of-alice"}
    ours, theirs = pty.openpty()
    command = [str(BINARY), *map(str, labelled), "--owner", "alice", "--method", "linear_probe", "--budget-seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment(**keys), stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS, check=False)
    os.close(theirs)
    summary = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in summary and "held-out items" in summary and "{" not in summary and summary.count("\n") < 30, summary
    assert "my_clf@1 is in" in done.stderr
    service = start("--workers", 0, data=tmp_path / "data", **keys)
    answer = service.http.post("/v1/classify", json={"model": "my_clf", "input": "a fast car"}, headers={"Authorization": "Bearer key-of-alice"})
    assert answer.json()["data"][0]["label"] == "b", answer.text


@pytest.mark.parametrize("command", ["serve", "embed", "models", "openapi"])
def test_every_command_explains_itself(command):
    assert "Usage" in succeed(command, "--help").stdout
