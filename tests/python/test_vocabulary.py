"""A tokenizer that makes an id without a row in its graph: such a text fails, and nobody else's."""

import concurrent.futures
import json

import small_models
from reference import cosine
from service import Service, wait_until

BEYOND = "beyond"
TEXTS = ["the cat", "a dog", "lastword", "refund", "sport"] * 12


def test_a_text_that_the_graph_cannot_compute_fails_alone(tmp_path):
    models = tmp_path / "models"
    small_models.write_dynamic(models, BEYOND, "[engine]\nmax_batch_items = 8\n")
    path = models / BEYOND / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["lastword"] = small_models.ROWS
    path.write_text(json.dumps(tokenizer))
    # One lane: texts of several clients wait for each other and share calls.
    served = tmp_path / "served"
    served.mkdir()
    service = Service(served, "--cache-bytes", 0, "--lanes", 1, models=models)

    def computed():
        return service.metric("batch_items_sum", model=BEYOND)

    def ask(text):
        return service.post("/v1/embeddings", {"model": BEYOND, "input": text, "encoding_format": "float"})

    def repeated():
        before = computed()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, TEXTS))
        for text, answer in zip(TEXTS, answers, strict=True):
            assert answer.status_code == (500 if text == "lastword" else 200), (text, answer.text)
        vector = answers[0].json()["data"][0]["embedding"]
        assert cosine(vector, service.embed(BEYOND, "the cat")[0]) > 0.99
        # Each text is computed once, and again where another in its call failed.
        return computed() - before - 1 > len(TEXTS)

    try:
        wait_until(repeated, "texts share a call with one that fails")
    finally:
        service.stop()
