"""Prompts of a manifest: prefixes that requests ask for by name, and that reranking puts before queries and documents."""

import json

import openai
import pytest
from errors import assert_error
from reference import cosine, text_features
from service import MODELS, TEXT, Service
from test_command_line import succeed

PROMPTED = "prompted"
QUERY, PASSAGE = "query: ", "passage: "
TEXTS = ["How do I get my money back?", "Refunds take five days.", "A cat sits on a mat."]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The bundled text backbone with prompts, by its name and another; its files are links."""
    root = tmp_path_factory.mktemp("models")
    for name, more in ((PROMPTED, f'\n[text.prompts]\nquery = "{QUERY}"\npassage = "{PASSAGE}"\n'), (TEXT, "")):
        (root / name).mkdir()
        for file in (MODELS / TEXT).iterdir():
            if file.name != "headstart.toml":
                (root / name / file.name).symlink_to(file)
        manifest = (MODELS / TEXT / "headstart.toml").read_text()
        (root / name / "headstart.toml").write_text(manifest.replace(f'id = "{TEXT}"', f'id = "{name}"') + more)
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory, models):
    running = Service(tmp_path_factory.mktemp("served"), models=models)
    yield running
    running.stop()


@pytest.mark.parametrize("name, prefix", [("query", QUERY), ("passage", PASSAGE)])
def test_a_prompt_stands_before_every_text(served, name, prefix):
    given = served.embed(PROMPTED, TEXTS, prompt=name)
    assert given == served.embed(TEXT, [prefix + text for text in TEXTS])
    for text, vector in zip(TEXTS, given, strict=True):
        assert cosine(vector, text_features(TEXT, prefix + text)) > 0.99999
        assert cosine(vector, text_features(TEXT, text)) < 0.999, "the prefix says something"
    # Asked for without one, and from the cache: the text alone.
    assert served.embed(PROMPTED, TEXTS) == served.embed(TEXT, TEXTS)


def test_the_official_client_names_a_prompt(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        prompted = client.embeddings.create(model=PROMPTED, input=TEXTS[0], extra_body={"prompt": "query"})
        written = client.embeddings.create(model=TEXT, input=QUERY + TEXTS[0])
    assert prompted.data == written.data and prompted.usage == written.usage


def test_a_long_text_is_cut_and_its_prompt_is_not(served):
    long = "money " * 400
    response = served.post("/v1/embeddings", {"model": PROMPTED, "input": long, "prompt": "query", "truncate": "end"})
    (datum,) = response.json()["data"]
    assert cosine(datum["embedding"], text_features(TEXT, QUERY + long)) > 0.99999
    assert datum["truncated_tokens"] > 0


@pytest.mark.parametrize("path, fields, score", [
    ("/v1/rerank", {"model": PROMPTED, "documents": TEXTS[1:]}, "relevance_score"),
    (f"/hf/{PROMPTED}/rerank", {"texts": TEXTS[1:]}, "score"),
])
def test_reranking_compares_the_query_with_passages(served, path, fields, score):
    answer = served.post(path, fields | {"query": TEXTS[0]}).json()
    results = answer["results"] if isinstance(answer, dict) else answer
    query = text_features(TEXT, QUERY + TEXTS[0])
    assert sorted(result["index"] for result in results) == [0, 1]
    for result in results:
        document = TEXTS[1 + result["index"]]
        assert abs(result[score] - cosine(query, text_features(TEXT, PASSAGE + document))) < 1e-4
        assert abs(result[score] - cosine(text_features(TEXT, TEXTS[0]), text_features(TEXT, document))) > 1e-3


def test_prompts_are_listed_and_another_is_refused_by_name(served):
    assert served.http.get(f"/v1/models/{PROMPTED}").json()["prompts"] == ["passage", "query"]
    refused = served.post("/v1/embeddings", {"model": PROMPTED, "input": "a", "prompt": "title"})
    assert_error(refused, 400, "invalid_value", "prompt", "is `title`; `prompted` has passage, query")


def test_the_command_line_puts_a_prompt_before_every_line(served, models, tmp_path):
    (given := tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    output = tmp_path / "vectors.jsonl"
    succeed("embed", given, "--models", models, "--model", PROMPTED, "--prompt", "passage", "--output", output)
    rows = [json.loads(line)["embedding"] for line in output.read_text().splitlines()]
    for text, row in zip(TEXTS, rows, strict=True):
        assert cosine(row, text_features(TEXT, PASSAGE + text)) > 0.99999
