"""LiteLLM, unchanged, which sends `"encoding_format": null`."""

import json
import os

import openai
import pytest
from reference import cosine
from service import TEXT

# Read when the module is imported: without it a price list is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_TELEMETRY"] = "False"
import litellm  # noqa: E402


def test_embeddings_come_back_though_the_encoding_is_null(service):
    sent = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: sent.append(json.loads(request.content))]})
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", http_client=http)
    texts = ["A cat sits on a mat.", "A dog barks."]
    answer = litellm.embedding(
        model=f"openai/{TEXT}", input=texts, api_base=f"{service.url}/v1", api_key="none", client=client
    )
    assert sent[0]["encoding_format"] is None
    assert answer.usage.prompt_tokens > 0
    for datum, expected in zip(answer.data, service.embed(TEXT, texts), strict=True):
        assert cosine(datum["embedding"], expected) > 0.99999


def test_errors_keep_their_class(service):
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(
            model="openai/no-such-model", input=["a"], api_base=f"{service.url}/v1", api_key="none", max_retries=0
        )
    with pytest.raises(litellm.BadRequestError) as raised:
        litellm.embedding(
            model=f"openai/{TEXT}", input=[""], api_base=f"{service.url}/v1", api_key="none", max_retries=0
        )
    assert "input" in str(raised.value)
