"""Word vectors: imported from every form they are published in, and served as any backbone is."""

import base64
import json
import struct
import subprocess

import numpy
import pytest
from service import BINARY, PATIENCE_SECONDS, ROOT, Service, environment, wait_until

GOLDEN = ROOT / "tests" / "golden" / "words"
LINES = [line.split(" ") for line in (GOLDEN / "table.txt").read_text().splitlines()]
WORDS = [line[0] for line in LINES]
VECTORS = numpy.array([line[1:] for line in LINES], dtype="<f4")
CASES = json.loads((GOLDEN / "cases.json").read_text())
KNOWN = [case for case in CASES["cases"] if any(case["mean"])]


def importing(models, source, name, *flags):
    """Runs `headstart import` to its end."""
    command = [BINARY, "import", source, "--id", name, "--models", models, *flags]
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def imported(models, source, name, *flags):
    done = importing(models, source, name, *flags)
    assert done.returncode == 0, done.stderr
    return done.stderr


def unit(vectors):
    return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)


def written(folder):
    """The golden table in each form, with the flags that it needs."""
    header = f"{len(WORDS)} {VECTORS.shape[1]}\n".encode()
    rows = list(zip(WORDS, VECTORS, strict=True))
    forms = {
        "glove.txt": (GOLDEN / "table.txt").read_bytes(),
        "fast.vec": header + (GOLDEN / "table.txt").read_bytes().replace(b"\n", b" \n"),
        "google.bin": header + b"".join(word.encode() + b" " + row.tobytes() + b"\n" for word, row in rows),
        "old.bin": header + b"".join(word.encode() + b" " + row.tobytes() for word, row in rows),
        "hex.json": json.dumps({word: row.tobytes().hex() for word, row in rows}).encode(),
        "list.json": json.dumps({word: row.astype(float).tolist() for word, row in rows}).encode(),
    }
    for name, content in forms.items():
        (folder / name).write_bytes(content)
    for name, values in (
        ("rows.npy", VECTORS),
        ("wide.npy", VECTORS.astype("<f8")),
        ("columns.npy", numpy.asfortranarray(VECTORS)),
    ):
        numpy.save(folder / name, values)
        (folder / name).with_suffix(".txt").write_text("\n".join(WORDS))
    return [*forms, "rows.npy", "wide.npy", "columns.npy"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Backbones of the golden table: one of each form, and SIF with either component."""
    folder = tmp_path_factory.mktemp("models")
    sources = tmp_path_factory.mktemp("sources")
    for name in written(sources):
        imported(folder, sources / name, name)
    (sources / "texts.txt").write_text("\n".join(CASES["fitted_on"]))
    sif = ("--weighting", "sif", "--smoothing", CASES["smoothing"])
    imported(folder, sources / "glove.txt", "sif-expected", *sif)
    imported(folder, sources / "glove.txt", "sif-of-texts", *sif, "--texts", sources / "texts.txt")
    imported(folder, sources / "glove.txt", "half", "--precision", "f16")
    return folder


@pytest.fixture(scope="module")
def words(models, tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("words"), "--queue-items", 64, "--max-items", 64, "--workers", 1, models=models)
    yield running
    running.stop()


def test_every_form_gives_the_reference_means(models, words):
    expected = unit(numpy.array([case["mean"] for case in KNOWN]))
    texts = [case["text"] for case in KNOWN]
    names = {path.name for path in models.iterdir()} - {"sif-expected", "sif-of-texts", "half"}
    assert len(names) == 9
    for name in names:
        assert numpy.abs(numpy.array(words.embed(name, texts)) - expected).max() < 1e-6, name
    assert numpy.abs(numpy.array(words.embed("half", texts)) - expected).max() < 2e-3


def test_sif_is_the_reference_with_either_component(words):
    for name, field in (("sif-expected", "sif_expected"), ("sif-of-texts", "sif_of_texts")):
        found = words.embed(name, [case["text"] for case in KNOWN])
        assert numpy.abs(numpy.array(found) - unit(numpy.array([case[field] for case in KNOWN]))).max() < 5e-6, name


def test_unknown_words_are_reported_and_words_are_counted(words):
    texts = [case["text"] for case in CASES["cases"] if case["text"]]
    answer = words.post("/v1/embeddings", {"model": "glove.txt", "input": texts}).json()
    cases = [case for case in CASES["cases"] if case["text"]]
    assert [datum.get("unknown_words", 0) for datum in answer["data"]] == [case["unknown"] for case in cases]
    assert all("unknown_words" not in datum for datum, case in zip(answer["data"], cases, strict=True) if not case["unknown"])
    assert answer["usage"]["prompt_tokens"] == sum(len(case["words"]) for case in cases)
    (nothing,) = words.embed("glove.txt", ["unknownword"])
    assert nothing == [0.0] * VECTORS.shape[1]


def test_dimensions_base64_and_word_ids_work_as_for_graphs(words):
    (whole,) = words.embed("glove.txt", ["the cats"])
    (cut,) = words.embed("glove.txt", ["the cats"], dimensions=4)
    assert numpy.allclose(cut, unit(numpy.array([whole[:4]]))[0], atol=1e-6)
    (packed,) = words.embed("glove.txt", ["the cats"], encoding_format="base64")
    assert numpy.array_equal(numpy.frombuffer(base64.b64decode(packed), "<f4"), numpy.array(whole, dtype="<f4"))
    ids = [WORDS.index("the"), WORDS.index("cats")]
    assert words.embed("glove.txt", ids) == [whole]
    refused = words.post("/v1/embeddings", {"model": "glove.txt", "input": [len(WORDS)]})
    assert refused.status_code == 400
    assert str(len(WORDS)) in refused.json()["error"]["message"]
    refused = words.post("/v1/embeddings", {"model": "glove.txt", "input": "a", "dimensions": 13})
    assert refused.json()["error"]["param"] == "dimensions"


def test_similarity_and_labels_nobody_trained_on(words):
    answer = words.post("/v1/similarity", {"model": "glove.txt", "input": "cats", "candidates": ["cats", "dogs zzz"]}).json()
    first, second = (unit(VECTORS[[WORDS.index(word)]].astype(float))[0] for word in ("cats", "dogs"))
    assert [datum["score"] for datum in answer["data"]] == pytest.approx([1.0, first @ second], abs=1e-6)
    assert answer["data"][1]["unknown_words"] == 1
    answer = words.post("/v1/zero-shot", {"model": "glove.txt", "input": "old red train qqq", "labels": ["red", "happy"]}).json()
    (datum,) = answer["data"]
    text = unit(VECTORS[[WORDS.index(word) for word in ("old", "red", "train")]].mean(0, keepdims=True).astype(float))[0]
    closest = max(("red", "happy"), key=lambda label: text @ unit(VECTORS[[WORDS.index(label)]].astype(float))[0])
    assert (datum["label"], datum["unknown_words"]) == (closest, 1)


def test_a_classifier_is_fitted_on_means_and_has_no_graph_to_export(words):
    kinds = {"warm": ["happy", "good", "well"], "cold": ["angry", "against", "war"]}
    rows = [
        {"text": f"{one} {word} {other}", "label": label}
        for label, kind in kinds.items() for word in kind for one in ("the", "a", "his") for other in ("money", "city", "train")
    ]
    file = words.http.post(
        "/v1/files", files={"file": ("rows.jsonl", "\n".join(map(json.dumps, rows)).encode())}, data={"purpose": "fine-tune"}
    ).json()
    body = {"model": "glove.txt", "training_file": file["id"], "suffix": "warmth", "method": {"type": "linear_probe"}}
    job = words.post("/v1/fine_tuning/jobs", body).json()
    done = wait_until(
        lambda: (now := words.http.get(f"/v1/fine_tuning/jobs/{job['id']}").json())["status"] in {"succeeded", "failed"} and now, "the job ends"
    )
    assert done["status"] == "succeeded", done
    answer = words.post("/v1/classify", {"model": "warmth", "input": ["we had a happy city qqq", "angry war"]}).json()
    assert [datum["label"] for datum in answer["data"]] == ["warm", "cold"]
    assert answer["data"][0]["unknown_words"] == 1
    refused = words.http.get("/v1/classifiers/warmth/versions/1/onnx")
    assert refused.status_code == 409
    assert "no graph" in refused.json()["error"]["message"]


def test_models_and_metrics_tell_of_a_table(words):
    details = words.http.get("/v1/models/glove.txt").json()
    assert (details["table_words"], details["dimension"], details["provider"]) == (len(WORDS), 12, "cpu")
    before = words.metric("items_total", model="fast.vec", outcome="answered")
    words.embed("fast.vec", ["the cats", "dogs"])
    assert words.metric("items_total", model="fast.vec", outcome="answered") == before + 2
    assert words.metric("queue_items", model="fast.vec") == 0
    assert words.metric("tokens_total", model="fast.vec") >= 3
    assert words.metric("model_loaded", model="fast.vec") == 1


def test_what_was_guessed_is_told(models, tmp_path):
    said = imported(tmp_path / "models", GOLDEN / "table.txt", "told", "--weighting", "sif")
    for part in ("GloVe", f"{len(WORDS)} words of 12 values", "Penn Treebank", "small letters", "Zipf", "--licence", "found by this rule"):
        assert part in said, said
    done = importing(tmp_path / "models", GOLDEN / "table.txt", "told")
    assert done.returncode != 0
    assert "is there already" in done.stderr
    listed = subprocess.run([str(BINARY), "models", "--models", str(tmp_path / "models")], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "told" in listed.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b\x08rest", "compressed"),
        (b"neither this nor that\n", "no kind"),
        (b"3 2\na 1 2\nb 3 4\n", "cut short"),
        (b"a 1 2\nb 3\n", "line 2"),
        (b"a 1 2\nb 3 nan\n", "line 2"),
        (b"a 1 2\nb 3 x\n", "line 2"),
        (b"2 2\na " + struct.pack("<2f", 1, 2) + b"b " + struct.pack("<f", 1), "cut short"),
        (b'{"a": [1, 2], "b": [3]}', "b"),
        (b'{"a": "00"}', "hexadecimal"),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(tmp_path, content, said):
    (tmp_path / "source").write_bytes(content)
    done = importing(tmp_path / "models", tmp_path / "source", "bad")
    assert done.returncode != 0
    assert said in done.stderr
    assert "panicked" not in done.stderr
    assert list((tmp_path / "models").glob("*")) + list((tmp_path / "models").glob(".*")) == []


def test_the_first_words_of_a_table_can_be_kept(tmp_path):
    imported(tmp_path / "models", GOLDEN / "table.txt", "some", "--first", 10, "--licence", "PDDL-1.0", "--source-task", "words beside words")
    manifest = (tmp_path / "models" / "some" / "headstart.toml").read_text()
    assert 'licence = "PDDL-1.0"' in manifest
    assert 'source_task = "words beside words"' in manifest
    assert (tmp_path / "models" / "some" / "words.vectors").stat().st_size == 10 * 12 * 4


def test_counts_weigh_words_in_place_of_rank(tmp_path, start):
    (tmp_path / "counts").write_text("the 900\ncats 100\nabsent 7\n")
    models = tmp_path / "models"
    texts = tmp_path / "texts"
    texts.write_text("dogs\n")
    imported(models, GOLDEN / "table.txt", "counted", "--weighting", "sif", "--counts", tmp_path / "counts", "--texts", texts)
    service = start(models=models)
    the, cats, dogs = (VECTORS[WORDS.index(word)].astype(float) for word in ("the", "cats", "dogs"))
    mean = (the * 1e-3 / (1e-3 + 0.9) + cats * 1e-3 / (1e-3 + 0.1)) / 2
    common = dogs / numpy.linalg.norm(dogs)
    expected = unit((mean - common * (common @ mean))[None])[0]
    assert service.embed("counted", ["the cats"])[0] == pytest.approx(expected, abs=5e-6)


def test_a_damaged_table_is_listed_as_broken_or_refuses_the_words_it_lost(models, tmp_path, start):
    for name in ("index", "vectors", "whole"):
        imported(tmp_path / "models", GOLDEN / "table.txt", name)
    for name, file in (("index", "words.index"), ("vectors", "words.vectors")):
        path = tmp_path / "models" / name / file
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    service = start(models=tmp_path / "models")
    broken = service.http.get("/v1/models/index").json()
    assert (broken["status"], "sha-256" in broken["error"]) == ("broken", True)
    assert service.post("/v1/embeddings", {"model": "vectors", "input": "the"}).status_code == 500
    assert "damaged" in service.log()
    assert service.embed("whole", ["the"])
