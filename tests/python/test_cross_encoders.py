"""Pairs of texts: reranking, and labels by entailment, equal ONNX Runtime, tokenizers and the arithmetic of transformers' pipeline."""

import json

import numpy
import onnxruntime
import pytest
from errors import assert_error
from small_models import ENTAILING, ENTAILING_FOLDER, NLI, PAIR_TOKENS, RERANKER
from tokenizers import Tokenizer

QUERY = "the cat"
DOCUMENTS = ["a dog is the dog.", "cat", "money? " * 20, "this cat is about the sport", "refund"]
TEXTS = ["the dog is a cat.", "money " * 30, "refund?"]
LABELS = ["sport", "politics", "the money"]
CLOSE = 2e-5


class Reference:
    """The model's own files, used as transformers would."""

    def __init__(self, folder):
        (graph,) = folder.rglob("model.onnx")
        self.session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, first, second, strategy, direction="right"):
        self.tokenizer.enable_truncation(PAIR_TOKENS, strategy=strategy, direction=direction)
        return self.tokenizer.encode(first, second)

    def logits(self, first, second, strategy, direction="right"):
        encoded = self.encode(first, second, strategy, direction)
        feeds = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
        return self.session.run(["logits"], {name: numpy.array([ids]) for name, ids in feeds.items()})[0][0].astype(float)


@pytest.fixture(scope="module")
def reranker(small):
    return Reference(small.models / RERANKER)


def sigmoid(value):
    return 1 / (1 + numpy.exp(-value))


def softmax(values):
    powers = numpy.exp(numpy.asarray(values) - numpy.max(values))
    return powers / powers.sum()


def test_a_cross_encoder_reranks_by_its_logit_with_long_pairs_cut_as_transformers_cut_them(small, reranker):
    logits = [reranker.logits(QUERY, document, "longest_first")[0] for document in DOCUMENTS]
    order = sorted(range(len(logits)), key=lambda index: -logits[index])
    assert numpy.ptp(logits) > 0.1, "documents that are all alike would prove nothing"
    body = {"model": RERANKER, "query": QUERY, "documents": DOCUMENTS}
    answer = small.post("/v1/rerank", body).json()
    assert [result["index"] for result in answer["results"]] == order
    for result in answer["results"]:
        assert abs(result["relevance_score"] - sigmoid(logits[result["index"]])) < CLOSE
    cut = {result["index"]: result.get("truncated_tokens", 0) for result in answer["results"]}
    assert cut[2] > 0 and sum(cut.values()) == cut[2], "one document alone is too long"
    used = [len(reranker.encode(QUERY, document, "longest_first").ids) for document in DOCUMENTS]
    assert answer["usage"]["prompt_tokens"] == sum(used)

    raw = small.post("/v1/rerank", body | {"raw_scores": True}).json()
    assert all(abs(result["relevance_score"] - logits[result["index"]]) < CLOSE for result in raw["results"])
    bare = small.post(f"/hf/{RERANKER}/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}).json()
    assert [(result["index"], result["score"]) for result in bare] == [
        (result["index"], result["relevance_score"]) for result in raw["results"]
    ]


@pytest.mark.parametrize("lengths", [(30, 30), (3, 40), (40, 3), (11, 10), (10, 11), (25, 7)], ids=str)
@pytest.mark.parametrize("truncate, direction", [("end", "right"), ("start", "left")])
def test_whichever_text_of_a_pair_is_the_longer_one_is_cut(small, reranker, lengths, truncate, direction):
    letters = "abcdefghijklmnopqrstuvwxyz" * 2
    first, second = " ".join(letters[: lengths[0]]), " ".join(reversed(letters[: lengths[1]]))
    expected = reranker.logits(first, second, "longest_first", direction)[0]
    body = {"model": RERANKER, "query": first, "documents": [second], "truncate": truncate, "raw_scores": True}
    (result,) = small.post("/v1/rerank", body).json()["results"]
    assert abs(result["relevance_score"] - expected) < CLOSE


def test_many_pairs_at_once_answer_as_each_alone(small):
    documents = [" ".join("cat dog money refund sport".split()[: 1 + number % 5]) + f" {number}" for number in range(300)]
    body = {"model": RERANKER, "query": QUERY, "raw_scores": True}
    scores = {result["index"]: result["relevance_score"] for result in small.post("/v1/rerank", body | {"documents": documents}).json()["results"]}
    reference = Reference(small.models / RERANKER)
    for index in range(0, 300, 37):
        assert abs(scores[index] - reference.logits(QUERY, documents[index], "longest_first")[0]) < CLOSE


ENTAILING_MODELS = [
    (ENTAILING, NLI, ["this is about {}.", "the example is {}."]),
    (ENTAILING_FOLDER, ["entailment", "neutral", "contradiction"], ["This example is {}."]),
]


@pytest.mark.parametrize("model, classes, templates", ENTAILING_MODELS, ids=[ENTAILING, ENTAILING_FOLDER])
def test_labels_by_entailment_equal_the_pipeline_of_transformers(small, model, classes, templates):
    reference = Reference(small.models / model)
    entails, contradicts = classes.index("entailment"), classes.index("contradiction")

    def logits(text, label, sentences):
        said = [reference.logits(text, sentence.replace("{}", label), "only_first") for sentence in sentences]
        return numpy.mean(said, axis=0)

    def check(answer, labels, sentences, multi_label):
        for text, datum in zip(TEXTS, answer["data"], strict=True):
            said = numpy.array([logits(text, label, sentences) for label in labels])
            if multi_label:
                expected = [softmax(pair)[1] for pair in said[:, [contradicts, entails]]]
            else:
                expected = softmax(said[:, entails])
            scores = {score["label"]: score["score"] for score in datum["scores"]}
            assert all(abs(scores[label] - score) < CLOSE for label, score in zip(labels, expected, strict=True))
            assert datum["label"] == labels[int(numpy.argmax(expected))]

    body = {"model": model, "input": TEXTS, "labels": LABELS}
    for multi_label in (False, True):
        check(small.post("/v1/zero-shot", body | {"multi_label": multi_label}).json(), LABELS, templates, multi_label)
    own = small.post("/v1/zero-shot", body | {"template": "a {}?"}).json()
    check(own, LABELS, ["a {}?"], False)
    assert own["data"][1]["truncated_tokens"] > 0 and "truncated_tokens" not in own["data"][2]
    single = small.post("/v1/zero-shot", body | {"labels": LABELS[:1]}).json()
    check(single, LABELS[:1], templates, True)
    described = [{"label": LABELS[0], "description": "this example is about sport"}, *LABELS[1:]]
    mixed = small.post("/v1/zero-shot", body | {"input": TEXTS[0], "labels": described}).json()["data"][0]
    sentences = [[template.replace("{}", label) for template in templates] for label in LABELS]
    sentences[0].append("this example is about sport")
    said = [numpy.mean([logits(TEXTS[0], "", [sentence]) for sentence in each], axis=0)[entails] for each in sentences]
    scores = {score["label"]: score["score"] for score in mixed["scores"]}
    assert all(abs(scores[label] - score) < CLOSE for label, score in zip(LABELS, softmax(said), strict=True))


def test_other_clients_bodies_reach_entailment(small):
    parameters = {"candidate_labels": LABELS, "hypothesis_template": "a {}?", "multi_label": True}
    bare = small.post(f"/hf/{ENTAILING}", {"inputs": TEXTS[0], "parameters": parameters}).json()
    body = {"model": ENTAILING, "input": TEXTS[0], "labels": LABELS, "template": "a {}?", "multi_label": True}
    assert bare == small.post("/v1/zero-shot", body).json()["data"][0]["scores"]
    questions = [{"type": "predicate", "instructions": "sport"}, {"type": "choice", "instructions": "?", "choices": [{"value": label} for label in LABELS]}]
    answers = small.post("/v1/decisions", {"model": ENTAILING, "input": TEXTS[0], "questions": questions}).json()["answers"]
    alone = small.post("/v1/zero-shot", {"model": ENTAILING, "input": TEXTS[0], "labels": ["sport"]}).json()
    assert abs(answers[0]["probability"] - alone["data"][0]["score"]) < 1e-6
    assert abs(sum(choice["probability"] for choice in answers[1]["probabilities"]) - 1) < 1e-5


def test_pairs_are_the_items_that_limits_count(small):
    texts, labels = [f"cat {number}" for number in range(70)], [f"label {number}" for number in range(30)]
    body = {"model": ENTAILING_FOLDER, "input": texts, "labels": labels}
    assert_error(small.post("/v1/zero-shot", body), 400, "too_many_items")
    assert small.post("/v1/zero-shot", body | {"labels": labels[:29]}).status_code == 200, "2030 pairs are within the limit"


@pytest.mark.parametrize("path, body", [
    ("/v1/embeddings", {"input": "a"}), ("/v1/similarity", {"input": "a", "candidates": ["b"]}),
    ("/v1/classifiers", {"name": "new", "labels": ["a", "b"]}),
])
@pytest.mark.parametrize("model", [RERANKER, ENTAILING])
def test_what_needs_features_refuses_a_cross_encoder(small, model, path, body):
    response = small.post(path, body | {"model": model})
    assert response.status_code == 400 and response.json()["error"]["param"] == "model", response.text


def test_wrong_questions_to_cross_encoders_are_named(small):
    rerank = {"model": ENTAILING, "query": "a", "documents": ["b"]}
    assert_error(small.post("/v1/rerank", rerank), 400, "invalid_value", "model", says="3 things")
    rerank["model"] = RERANKER
    assert_error(small.post("/v1/rerank", rerank | {"documents": [[5, 6]]}), 400, "invalid_value", "documents")
    long = rerank | {"documents": ["b", "cat " * 30], "truncate": "none"}
    assert_error(small.post("/v1/rerank", long), 400, "context_length_exceeded", "documents[1]")
    labels = {"model": ENTAILING, "input": "a", "labels": ["b"]}
    assert_error(small.post("/v1/zero-shot", labels | {"labels": [{"label": "b", "examples": ["c"]}]}), 400, "invalid_value", "labels[0]")
    assert_error(small.post("/v1/zero-shot", labels | {"labels": ["cat " * 30]}), 400, "invalid_value", "labels[0]")
    assert_error(small.post("/v1/zero-shot", labels | {"template": "cat " * 30 + "{}"}), 400, "invalid_value", "template")
    zero_shot = {"model": RERANKER, "input": "a", "labels": ["b"]}
    assert_error(small.post("/v1/zero-shot", zero_shot), 400, "invalid_value", "model")


def test_a_manifest_that_contradicts_itself_about_pairs_is_refused_by_field(small, start, tmp_path):
    manifest = (small.models / ENTAILING / "headstart.toml").read_text()
    for changed, field in (
        (manifest.replace("pairs = true", "pairs = false"), "zero_shot.kind"),
        (manifest.replace('"contradiction", ', '"other", '), "zero_shot"),
        (manifest.replace("classes =", 'labels = "a.txt"\nclasses ='), "output.logits.labels"),
    ):
        models = tmp_path / field / "models"
        models.mkdir(parents=True)
        (models / RERANKER).symlink_to(small.models / RERANKER)
        (models / ENTAILING).mkdir()
        for file in ("model.onnx", "tokenizer.json"):
            (models / ENTAILING / file).symlink_to(small.models / ENTAILING / file)
        (models / ENTAILING / "headstart.toml").write_text(changed)
        listed = {model["id"]: model for model in start(models=models).http.get("/v1/models").json()["data"]}
        assert listed[ENTAILING]["status"] == "broken" and field in listed[ENTAILING]["error"], json.dumps(listed)
        assert listed[RERANKER]["status"] == "ready"
