"""Text features equal an independent computation on the same files, alone, in lists and among many clients."""

import concurrent.futures
import threading

import httpx
import numpy
import pytest
from reference import cosine, manifest, text_features, token_ids
from service import FAST_TEXT, MODELS, PATIENCE_SECONDS, TEXT
from texts import banking_questions, made_texts

# Up to a few hundred words: some are longer than the backbones take.
LENGTHS = [*range(1, 41), *range(45, 200, 5), 200, 220, 240, 260, 280, 300, 350, 399, 400]

BACKBONES = [TEXT, FAST_TEXT]


@pytest.fixture(params=BACKBONES)
def model(request):
    if not (MODELS / request.param).is_dir():
        pytest.skip(f"models/{request.param} is not there")
    return request.param


def corpus():
    texts = [*banking_questions(), *made_texts(LENGTHS)]
    # Lists of mixed lengths: neighbours in a request differ.
    return texts[::3] + texts[1::3] + texts[2::3]


def test_features_equal_the_reference_whatever_the_length(uncached, model):
    texts = corpus()
    served = []
    for first in range(0, len(texts), 32):
        served += uncached.embed(model, texts[first : first + 32])
    cosines = [cosine(vector, text_features(model, text)) for text, vector in zip(texts, served, strict=True)]
    worst = int(numpy.argmin(cosines))
    assert cosines[worst] >= 0.99999, f"{cosines[worst]} for {texts[worst][:80]!r}"
    assert any(len(token_ids(model, text)) > manifest(model)["text"]["max_tokens"] for text in texts)


def test_a_list_of_mixed_lengths_gives_what_each_text_gives_alone(uncached, model):
    texts = made_texts([1, 300, 2, 60, 5, 120, 1, 30, 8, 200, 3, 15], seed=11)
    together = uncached.embed(model, texts)
    for text, vector in zip(texts, together, strict=True):
        alone = uncached.embed(model, text)[0]
        assert cosine(vector, alone) >= 0.99999, text[:80]


@pytest.mark.parametrize("truncate", ["start", "end"])
def test_what_is_cut_is_the_side_that_was_named(uncached, truncate):
    text = " ".join(f"word{number}" for number in range(300))
    response = uncached.post("/v1/embeddings", {"model": TEXT, "input": text, "truncate": truncate})
    (datum,) = response.json()["data"]
    kept = "start" if truncate == "end" else "end"
    assert cosine(datum["embedding"], text_features(TEXT, text, truncate)) >= 0.99999, f"the {kept} should stay"
    assert datum["truncated_tokens"] == len(token_ids(TEXT, text)) - 256
    other = text_features(TEXT, text, kept)
    assert cosine(datum["embedding"], other) < 0.999


def test_similarity_is_the_cosine_of_the_references(uncached):
    texts = ["A cat sits on a mat.", "A kitten rests on a rug.", "Stocks fell on Monday."]
    body = {"model": TEXT, "input": texts[0], "candidates": texts[1:]}
    answer = uncached.post("/v1/similarity", body).json()
    vectors = [text_features(TEXT, text) for text in texts]
    assert [datum["index"] for datum in answer["data"]] == [0, 1]
    for datum, vector in zip(answer["data"], vectors[1:], strict=True):
        assert abs(datum["score"] - cosine(vectors[0], vector)) < 1e-4



QUERY = "How do I get my money back?"
DOCUMENTS = ["We deliver on Mondays.", "Refunds take five days.", "A cat sits on a mat.", "Money is returned to your card."]


def relevances():
    """The cosine of the query to each document, and their order from the best."""
    query = text_features(TEXT, QUERY)
    scores = [cosine(query, text_features(TEXT, document)) for document in DOCUMENTS]
    return scores, sorted(range(len(scores)), key=lambda index: -scores[index])


def test_reranking_orders_documents_by_the_references_cosines_in_coheres_body(uncached):
    scores, order = relevances()
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[1], "title": "ignored"}, *DOCUMENTS[2:]]
    body = {"model": TEXT, "query": QUERY, "documents": documents, "top_n": 3, "return_documents": True}
    answer = uncached.post("/v1/rerank", body).json()
    assert [result["index"] for result in answer["results"]] == order[:3]
    for result in answer["results"]:
        assert abs(result["relevance_score"] - scores[result["index"]]) < 1e-4
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}
    tokens = sum(len(token_ids(TEXT, text)) for text in [QUERY, *DOCUMENTS])
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    plain = uncached.post("/v1/rerank", {"model": TEXT, "query": QUERY, "documents": DOCUMENTS}).json()
    assert [result.keys() for result in plain["results"]] == [{"index", "relevance_score"}] * len(DOCUMENTS)


def test_reranking_answers_the_body_of_text_embeddings_inference_with_a_bare_list(uncached):
    scores, order = relevances()
    body = {"query": QUERY, "texts": DOCUMENTS, "return_text": True, "raw_scores": False, "truncate": True}
    for path, fields in ((f"/hf/{TEXT}/rerank", body), ("/v1/rerank", body | {"model": TEXT})):
        results = uncached.post(path, fields).json()
        assert [result["index"] for result in results] == order
        for result in results:
            assert abs(result["score"] - scores[result["index"]]) < 1e-4
            assert result["text"] == DOCUMENTS[result["index"]]
    long = {"query": QUERY, "texts": ["money " * 300], "truncate": False}
    for path in (f"/hf/{TEXT}/rerank", "/v1/rerank"):
        refused = uncached.post(path, long | {"model": TEXT})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_each_of_64_clients_at_once_gets_its_own_answer(uncached):
    count, rounds = 64, 3
    texts = made_texts([3 + number % 50 for number in range(count)], seed=23)
    expected = numpy.array([text_features(TEXT, text) for text in texts])
    together = threading.Barrier(count)

    def ask(number):
        vectors = []
        with httpx.Client(base_url=uncached.url, timeout=PATIENCE_SECONDS, trust_env=False) as http:
            together.wait()
            for _ in range(rounds):
                response = http.post("/v1/embeddings", json={"model": TEXT, "input": texts[number]})
                assert response.status_code == 200, response.text
                vectors.append(response.json()["data"][0]["embedding"])
        return vectors

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = numpy.array(list(pool.map(ask, range(count))))
    assert answers.shape == (count, rounds, 384)
    own = numpy.einsum("crd,cd->cr", answers, expected)
    assert own.min() >= 0.99999
