"""Sounds through the whole product: features equal openwakeword's own, whatever carries them, and train classifiers."""

import base64
import io
import json
import subprocess
import zipfile

import numpy
import openai
import pytest
from reference import cosine
from service import BINARY, ROOT, Service, environment, wait_until
from sounds import SPEECH, backbone, features, recordings, tone, upsampled, wav

GOLDEN = ROOT / "tests" / "golden" / "sounds"
EXACT = 0.99999


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A server with the speech embedding, whose vectors are computed anew each time, several sounds to a call."""
    models = backbone(tmp_path_factory.mktemp("models"), "[engine]\nmax_batch_items = 8\n")
    running = Service(tmp_path_factory.mktemp("speech"), "--cache-bytes", 0, "--max-audio-seconds", 20, models=models)
    yield running
    running.stop()


def url(file, media_type="audio/wav"):
    return f"data:{media_type};base64,{base64.b64encode(file).decode()}"


def raw(service, file, path="/v1/embeddings", media_type="audio/wav", **query):
    return service.http.post(path, params=query, content=file, headers={"content-type": media_type})


def test_features_equal_openwakewords_on_recordings(speech):
    for name, file in recordings(6):
        samples = upsampled(file)
        (vector,) = speech.embed(SPEECH, url(wav(samples)))
        assert cosine(vector, features(samples)) > EXACT, name
        # Our own resampling of the file as it is differs by rounding to 16 bits and by the filter alone.
        (resampled,) = speech.embed(SPEECH, url(file))
        assert cosine(resampled, features(samples)) > 0.999, name


def test_a_sound_of_many_windows_is_the_mean_of_all(speech):
    samples = numpy.concatenate([upsampled(file) for _, file in recordings(12)])
    assert len(samples) > 4 * 16_000
    (vector,) = speech.embed(SPEECH, url(wav(samples)))
    assert cosine(vector, features(samples)) > EXACT


def test_a_vector_is_the_same_alone_and_beside_louder_and_longer_sounds(speech):
    quiet, loud, long = tone(500, 0.8, loudness=30), tone(900, 0.8, loudness=30_000), tone(300, 3.0)
    files = [url(wav(samples)) for samples in (quiet, loud, long, quiet, loud, quiet)]
    alone = [speech.embed(SPEECH, file)[0] for file in files]
    for _ in range(5):
        together = speech.embed(SPEECH, files)
        assert max(numpy.abs(numpy.subtract(one, other)).max() for one, other in zip(alone, together, strict=True)) < 1e-6
    assert cosine(alone[0], features(quiet)) > EXACT


def test_every_way_in_gives_the_same_vector(speech):
    file = wav(tone(440, 1.0))
    (expected,) = speech.embed(SPEECH, url(file))
    plain = base64.b64encode(file).decode()
    assert speech.embed(SPEECH, {"audio": plain}) == [expected]
    assert speech.embed(SPEECH, [{"type": "input_audio", "input_audio": {"data": plain, "format": "wav"}}]) == [expected]
    assert speech.embed(SPEECH, plain, modality="audio") == [expected]
    assert raw(speech, file, model=SPEECH).json()["data"][0]["embedding"] == expected
    assert raw(speech, file, media_type="application/octet-stream", model=SPEECH).json()["data"][0]["embedding"] == expected
    parts = [("file", ("a.wav", file, "audio/wav")), ("file", ("b.wav", file, "audio/wav"))]
    answer = speech.http.post("/v1/embeddings", files=parts, data={"model": SPEECH}).json()
    assert [datum["embedding"] for datum in answer["data"]] == [expected, expected]
    assert raw(speech, file, f"/hf/{SPEECH}").json() == [expected]
    official = openai.OpenAI(base_url=f"{speech.url}/v1", api_key="none", max_retries=0)
    given = official.embeddings.create(model=SPEECH, input=url(file), encoding_format="float")
    assert given.data[0].embedding == expected and given.usage.prompt_tokens == 0


def test_every_format_is_told_by_its_content_and_heard_alike(speech):
    """The golden files hold one sound in every format; which lasts how long differs, and so the vectors a little."""
    (expected,) = speech.embed(SPEECH, url((GOLDEN / "pcm-32.wav").read_bytes()))
    for file in sorted(GOLDEN.iterdir()):
        if file.suffix == ".json":
            continue
        answer = raw(speech, file.read_bytes(), media_type="application/octet-stream", model=SPEECH)
        assert answer.status_code == 200, (file.name, answer.text)
        assert cosine(answer.json()["data"][0]["embedding"], expected) > 0.6, file.name


def test_similar_sounds_are_found(speech):
    body = {"model": SPEECH, "input": url(wav(tone(440, 1.0))), "candidates": [url(wav(tone(hertz, 1.0))) for hertz in (3_000, 445, 150)]}
    scores = [datum["score"] for datum in speech.post("/v1/similarity", body).json()["data"]]
    assert scores[1] == max(scores) > 0.9


def error(answer):
    found = answer.json()["error"]
    return answer.status_code, found["code"], found["param"]


def test_what_cannot_be_heard_is_refused_by_name(speech):
    good = wav(tone(440, 1.0))
    assert error(raw(speech, good[:-1000], model=SPEECH)) == (400, "invalid_value", "input")
    assert error(raw(speech, b"RIFF" + bytes(60), model=SPEECH)) == (415, "unsupported_media_type", "input")
    assert error(raw(speech, (ROOT / "tests/golden/images/jpeg-420.jpg").read_bytes(), model=SPEECH)) == (415, "unsupported_media_type", "input")
    assert error(raw(speech, wav(tone(440, 21.0)), model=SPEECH)) == (413, "audio_too_long", "input")
    assert error(speech.post("/v1/embeddings", {"model": SPEECH, "input": "hello"})) == (400, "invalid_value", "input")
    assert error(speech.post("/v1/embeddings", {"model": SPEECH, "input": [url(good), {"image": "AA"}]})) == (400, "invalid_value", "input[1]")
    asked = {"model": SPEECH, "input": url(good), "labels": ["a", "b"]}
    assert error(speech.post("/v1/zero-shot", asked))[:2] == (400, "invalid_value")
    assert speech.metric("rejections_total", reason="audio_too_long") >= 1


def test_the_model_says_what_it_reads_and_seconds_are_counted(speech):
    (model,) = speech.http.get("/v1/models").json()["data"]
    assert model["id"] == SPEECH and "audio" in json.dumps(model)
    before = speech.metric("audio_seconds_total", model=SPEECH)
    speech.embed(SPEECH, url(wav(tone(440, 2.0))))
    assert abs(speech.metric("audio_seconds_total", model=SPEECH) - before - 2.0) < 1e-6


def test_a_folder_of_sounds_is_embedded(speech, tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    files = {f"{hertz}.wav": wav(tone(hertz, 1.0)) for hertz in (200, 400, 800)}
    for name, file in files.items():
        (folder / name).write_bytes(file)
    out = tmp_path / "vectors.jsonl"
    models = backbone(tmp_path / "models")
    command = [str(BINARY), "embed", str(folder), "--models", str(models), "--output", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment(), capture_output=True)
    rows = {row["file"]: row["embedding"] for row in map(json.loads, out.read_text().splitlines())}
    assert rows.keys() == files.keys()
    for name, file in files.items():
        assert cosine(rows[name], speech.embed(SPEECH, url(file))[0]) > EXACT


def archive(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        for path, file in files.items():
            bundle.writestr(path, file)
    return content.getvalue()


def digits(count):
    """Recordings of three digits by two speakers, as a folder a class."""
    wanted = {}
    for name, file in recordings():
        digit, speaker, number = name.rsplit("/", 1)[1].split("_")
        if digit in "059" and speaker in ("jackson", "theo") and int(number.removesuffix(".wav")) < count:
            wanted[f"digits/{digit}/{speaker}-{number}"] = file
    return wanted


@pytest.mark.parametrize("method", ["linear_probe", "prototype", "mlp", "auto"])
def test_recordings_become_a_classifier(speech, method):
    client = openai.OpenAI(base_url=f"{speech.url}/v1", api_key="none", max_retries=0)
    file = client.files.create(file=("digits.zip", archive(digits(10))), purpose="fine-tune")
    assert file.status == "processed", file
    made = {"type": method, method: {"hyperparameters": {}}}
    job = client.fine_tuning.jobs.create(model=SPEECH, training_file=file.id, suffix=f"digits-{method.replace('_', '-')}", seed=1, extra_body={"method": made})
    ended = wait_until(lambda: (now := client.fine_tuning.jobs.retrieve(job.id)).status in {"succeeded", "failed"} and now, "the job ends")
    assert ended.status == "succeeded", ended
    report = speech.http.get(f"/v1/fine_tuning/jobs/{job.id}/report").json()
    assert report["metrics"]["accuracy"]["value"] > 0.7, report["metrics"]["accuracy"]
    assert "MFCC" in json.dumps(report)
    right = 0
    heard = [(path.split("/")[1], sound) for path, sound in digits(15).items()]
    for digit, sound in heard:
        answer = raw(speech, sound, "/v1/classify", model=ended.fine_tuned_model)
        right += answer.json()["data"][0]["label"] == digit
    assert right > 0.85 * len(heard), (right, len(heard))
    name, version = ended.fine_tuned_model.split("@")
    exported = speech.http.get(f"/v1/classifiers/{name}/versions/{version}/onnx")
    assert error(exported)[:2] == (409, "conflict")


def test_lines_with_sounds_are_examples_and_undecodable_ones_are_named(speech):
    good, cut = wav(tone(440, 0.5)), wav(tone(880, 0.5))[:-100]
    rows = [{"audio": base64.b64encode(good).decode(), "label": "a"}, {"audio": url(wav(tone(660, 0.5))), "label": "b"}]
    lines = "\n".join(json.dumps(row) for row in rows * 6).encode()
    upload = {"file": ("sounds.jsonl", lines)}
    whole = speech.http.post("/v1/files", files=upload, data={"purpose": "fine-tune", "validate_only": "true"}).json()
    assert whole["status"] == "processed" and not whole["problems"], whole
    bad = archive({"x/a/1.wav": good, "x/a/2.wav": cut, "x/b/3.mp3": b"no sound at all", "x/b/4.wav": wav(tone(660, 0.5))})
    judged = speech.http.post("/v1/files", files={"file": ("bad.zip", bad)}, data={"purpose": "fine-tune", "validate_only": "true"}).json()
    found = {problem.get("path"): problem["code"] for problem in judged["problems"]}
    assert found.get("x/a/2.wav") == "undecodable_media" and found.get("x/b/3.mp3") == "unsupported_media", judged


def test_a_classifier_without_a_job_begins_with_zero_shot_and_a_backbone_without_it_is_refused(speech):
    made = speech.post("/v1/classifiers", {"model": SPEECH, "name": "pitch", "labels": ["high", "low"]})
    assert error(made) == (400, "invalid_value", "model"), made.text
    assert "does not score labels" in made.json()["error"]["message"], made.text
    assert speech.http.get("/v1/classifiers/pitch").status_code == 404
