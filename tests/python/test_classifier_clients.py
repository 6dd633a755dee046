"""Classifiers in the bodies of other clients: moderations, Hugging Face's classification, lists of models."""

import json

import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from service import IMAGE, TEXT
from test_fine_tuning import finished, upload

# Once a process the client asks its hub for names to put into its user agent; refused, it goes on without.
TOLERATED_HOSTS = {"huggingface.co"}

INSULTS = ["You are a fool", "What an idiot you are", "Shut up, you moron", "You stupid clown", "Nobody likes you, loser", "You are a disgrace"]
ADVERTS = ["Buy now, half the price", "Cheap watches, order today", "Click here to win a prize", "Free gift for new customers", "Limited offer, buy two", "Earn money from home, click"]
NEITHER = ["The train leaves at nine", "I had soup for lunch", "The meeting was moved", "It rains in the north", "She reads a book", "The cat sleeps"]


@pytest.fixture
def client(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def models(service):
    """Two small classifiers: several labels a text, one label a text."""
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    several = [{"text": text, "labels": ["insult"]} for text in INSULTS] + [{"text": text, "labels": ["advert"]} for text in ADVERTS]
    several += [{"text": text, "labels": []} for text in NEITHER]
    single = [{"text": text, "label": "insult"} for text in INSULTS] + [{"text": text, "label": "advert"} for text in ADVERTS]
    made = {}
    for name, rows in {"policy": several, "tone": single}.items():
        file = upload(client, f"{name}.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
        job = client.fine_tuning.jobs.create(model=TEXT, training_file=file.id, suffix=name, seed=1)
        job = finished(client, job)
        assert job.status == "succeeded", job
        made[name] = job.fine_tuned_model
    return made


def test_moderations_name_the_categories_that_apply(client, service, models):
    texts = ["You are such an idiot", "I read a book on the train"]
    answer = client.moderations.create(model=models["policy"], input=texts)
    insult, harmless = answer.results
    classify = service.post("/v1/classify", {"model": models["policy"], "input": texts}).json()["data"]
    for result, expected in zip(answer.results, classify, strict=True):
        scores = {score["label"]: score["score"] for score in expected["scores"]}
        assert result.category_scores.to_dict() == pytest.approx(scores)
        assert {name for name, applies in result.categories.to_dict().items() if applies} == set(expected["labels"])
        assert result.flagged == bool(expected["labels"])
        assert result.category_applied_input_types.to_dict() == {"insult": ["text"], "advert": ["text"]}
    assert insult.flagged and insult.categories.to_dict()["insult"]
    assert harmless.category_scores.to_dict()["insult"] < insult.category_scores.to_dict()["insult"]
    assert answer.id.startswith("modr-") and answer.model == models["policy"]


def test_moderations_refuse_a_classifier_that_always_gives_a_label(client, models):
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(model=models["tone"], input="hello")
    assert refused.value.param == "model" and "several" in refused.value.message
    with pytest.raises(openai.NotFoundError):
        client.moderations.create(model="no-such-classifier", input="hello")


def test_hugging_faces_client_classifies_texts(service, models):
    text = "You are such an idiot"
    expected = service.post("/v1/classify", {"model": models["tone"], "input": text}).json()["data"][0]["scores"]
    hub = InferenceClient(base_url=f"{service.url}/hf/{models['tone']}", token="none")
    found = hub.text_classification(text)
    assert [(one.label, one.score) for one in found] == [(one["label"], pytest.approx(one["score"])) for one in expected]
    assert len(hub.text_classification(text, top_k=1)) == 1
    assert len(hub.text_classification(text, function_to_apply="softmax")) == 2
    with pytest.raises(HfHubHTTPError) as refused:
        hub.text_classification(text, function_to_apply="sigmoid")
    assert refused.value.response.json()["error"]["param"] == "parameters.function_to_apply"
    labels = {"inputs": text, "parameters": {"candidate_labels": ["a", "b"]}}
    refused = service.post(f"/hf/{models['tone']}", labels)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "parameters.candidate_labels"


def test_models_list_backbones_and_classifiers(client, models):
    listed = {model.id: model for model in client.models.list()}
    assert {TEXT, IMAGE, "policy", "tone"} <= set(listed)
    tone = listed["tone"]
    assert tone.object == "model" and tone.owned_by == "headstart" and tone.created > 1_700_000_000
    assert tone.classifier["labels"] == ["advert", "insult"] and tone.classifier["backbone"] == TEXT
    assert client.models.retrieve(models["tone"]).classifier == tone.classifier
    assert client.models.retrieve("policy").classifier["multi_label"] is True
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("tone@9")
