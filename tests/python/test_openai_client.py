"""The official OpenAI client, unchanged: embeddings, models and decisions."""

import asyncio
import base64

import numpy
import openai
import pytest
from pictures import cat
from reference import cosine, token_ids
from service import IMAGE, TEXT
from texts import banking_questions

TEXTS = ["The cat sits on the mat.", "A dog barks.", "Money was withdrawn from my account."]


@pytest.fixture
def sent():
    """Bodies of the requests that the client made."""
    return []


@pytest.fixture
def client(service, sent):
    hooks = {"request": [lambda request: sent.append(request.content)]}
    http = openai.DefaultHttpxClient(event_hooks=hooks)
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", http_client=http) as made:
        yield made


def bits(vector):
    return numpy.array(vector, dtype=numpy.float32).view(numpy.uint32)


def test_the_default_base64_holds_the_same_bits_as_a_list_of_floats(client, sent):
    by_default = client.embeddings.create(model=TEXT, input=TEXTS)
    as_floats = client.embeddings.create(model=TEXT, input=TEXTS, encoding_format="float")
    assert b'"base64"' in sent[0] and b'"float"' in sent[1]
    for packed, plain in zip(by_default.data, as_floats.data, strict=True):
        assert (bits(packed.embedding) == bits(plain.embedding)).all()


def test_a_single_string_gives_one_vector_of_unit_length(client):
    answer = client.embeddings.create(model=TEXT, input="The cat sits on the mat.")
    assert (answer.object, answer.model, len(answer.data)) == ("list", TEXT, 1)
    assert (answer.data[0].object, answer.data[0].index) == ("embedding", 0)
    assert len(answer.data[0].embedding) == 384
    assert abs(numpy.linalg.norm(answer.data[0].embedding) - 1) < 1e-5
    tokens = len(token_ids(TEXT, "The cat sits on the mat."))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens


def test_a_list_keeps_its_order_and_counts_all_tokens(client):
    answer = client.embeddings.create(model=TEXT, input=TEXTS)
    assert [datum.index for datum in answer.data] == [0, 1, 2]
    for text, datum in zip(TEXTS, answer.data, strict=True):
        alone = client.embeddings.create(model=TEXT, input=text).data[0]
        assert cosine(datum.embedding, alone.embedding) > 0.99999
    assert answer.usage.prompt_tokens == sum(len(token_ids(TEXT, text)) for text in TEXTS)


def test_token_ids_give_the_vector_of_their_text(client):
    texts = client.embeddings.create(model=TEXT, input=TEXTS).data
    ids = [token_ids(TEXT, text) for text in TEXTS]
    lists = client.embeddings.create(model=TEXT, input=ids).data
    single = client.embeddings.create(model=TEXT, input=ids[0]).data
    assert len(single) == 1 and cosine(single[0].embedding, texts[0].embedding) > 0.99999
    for by_text, by_ids in zip(texts, lists, strict=True):
        assert cosine(by_text.embedding, by_ids.embedding) > 0.99999


@pytest.mark.parametrize("dimensions", [1, 64, 383, 384])
def test_dimensions_keep_the_leading_values_at_unit_length(client, dimensions):
    whole = numpy.array(client.embeddings.create(model=TEXT, input=TEXTS[0]).data[0].embedding)
    cut = client.embeddings.create(model=TEXT, input=TEXTS[0], dimensions=dimensions).data[0].embedding
    assert len(cut) == dimensions
    kept = whole[:dimensions]
    assert numpy.abs(cut - kept / numpy.linalg.norm(kept)).max() < 1e-6


def test_a_long_text_says_how_many_tokens_were_cut(client):
    text = "word " * 300
    datum = client.embeddings.create(model=TEXT, input=[text, "short"])
    tokens = len(token_ids(TEXT, text))
    assert datum.data[0].model_extra == {"truncated_tokens": tokens - 256}
    assert not datum.data[1].model_extra
    assert datum.usage.prompt_tokens == 256 + len(token_ids(TEXT, "short"))


def test_pictures_are_embedded_from_data_urls(client):
    url = "data:image/jpeg;base64," + base64.b64encode(cat()).decode()
    answer = client.embeddings.create(model=IMAGE, input=[url, url])
    assert [len(datum.embedding) for datum in answer.data] == [1280, 1280]
    assert answer.usage.prompt_tokens == 0


def test_an_answer_carries_its_request_id(client):
    raw = client.embeddings.with_raw_response.create(model=TEXT, input="a", extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.parse()._request_id == "mine-1"
    made = client.embeddings.create(model=TEXT, input="a")._request_id
    assert made and made != client.embeddings.create(model=TEXT, input="a")._request_id


def test_models_are_listed_and_retrieved(client):
    listed = {model.id: model for model in client.models.list()}
    assert {TEXT, IMAGE} <= set(listed)
    for name, model in listed.items():
        assert (model.object, model.owned_by) == ("model", "headstart")
        assert model.created > 1_700_000_000
        retrieved = client.models.retrieve(name)
        assert retrieved == model
        assert retrieved.model_extra["status"] == "ready"
    assert listed[TEXT].model_extra["modality"] == "text"
    assert listed[IMAGE].model_extra["dimension"] == 1280


def test_the_asynchronous_client_gets_each_answer_for_its_own_question(service):
    questions = banking_questions()[:24]

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
            calls = [client.embeddings.create(model=TEXT, input=question) for question in questions]
            return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]

    expected = numpy.array(service.embed(TEXT, questions))
    answers = numpy.array(asyncio.run(ask()))
    assert ((answers * expected).sum(axis=1) > 0.99999).all()


def test_a_choice_about_a_text_is_decided(client):
    choices = [
        {"value": "refund", "description": "the customer wants money back"},
        {"value": "weather", "description": "rain, sun and wind"},
        {"value": "cooking"},
    ]
    question = {"type": "choice", "name": "topic", "instructions": "What is it about?", "choices": choices}
    decision = client.decisions.create(model=TEXT, input="I want my money back for this order.", questions=[question])
    (answer,) = decision.answers
    assert (answer.type, answer.name, answer.choice) == ("choice", "topic", "refund")
    assert [entry.value for entry in answer.probabilities] == ["refund", "weather", "cooking"]
    probabilities = [entry.probability for entry in answer.probabilities]
    assert abs(sum(probabilities) - 1) < 1e-4
    assert answer.confidence == max(probabilities)
    assert decision.model == TEXT
    assert decision.usage.input_tokens == decision.usage.total_tokens > 0


def test_a_conversation_is_judged_by_what_its_user_says(client):
    question = {"type": "predicate", "instructions": [{"type": "input_text", "text": "the customer wants money back"}]}
    said = {"role": "user", "content": [{"type": "input_text", "text": "I want my money back."}]}
    conversation = [
        {"role": "system", "content": "You judge."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "How can I help?"}]},
        said,
        {"type": "function_call", "call_id": "1", "name": "order", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "{}"},
    ]
    alone = client.decisions.create(model=TEXT, input=[said], questions=[question])
    within = client.decisions.create(model=TEXT, input=conversation, questions=[question])
    assert alone.answers == within.answers and alone.usage == within.usage
    with pytest.raises(openai.BadRequestError, match="robot"):
        client.decisions.create(model=TEXT, input=[said | {"role": "robot"}], questions=[question])


def test_a_decision_about_a_long_text_says_what_was_cut(client):
    question = {"type": "predicate", "instructions": "words"}
    decision = client.decisions.create(model=TEXT, input="word " * 400, questions=[question])
    assert decision.model_extra == {"truncated_tokens": 402 - 256}


def test_predicates_and_truth_values_are_decided(client):
    text = [{"role": "user", "content": [{"type": "input_text", "text": "My card was stolen on the train yesterday."}]}]
    stolen = "a stolen card"
    both = [{"value": True}, {"value": False}]
    decision = client.decisions.create(
        model=TEXT,
        input=text,
        questions=[
            {"type": "predicate", "name": "theft", "instructions": stolen},
            {"type": "predicate", "instructions": "a recipe for apple pie"},
            {"type": "choice", "instructions": stolen, "choices": both},
        ],
    )
    theft, recipe, choice = decision.answers
    assert (theft.type, theft.name, recipe.name) == ("predicate", "theft", None)
    assert 0 <= recipe.probability < theft.probability <= 1
    assert choice.choice is (theft.probability >= 0.5)
    assert abs(choice.probabilities[0].probability - theft.probability) < 1e-6


def test_a_score_is_the_expectation_over_its_levels(client):
    levels = [{"label": "terrible"}, {"label": "mediocre"}, {"label": "wonderful"}]
    question = {"type": "score", "name": "praise", "instructions": "How good was it?", "levels": levels}
    decision = client.decisions.create(model=TEXT, input="It was a wonderful, brilliant film.", questions=[question])
    (answer,) = decision.answers
    assert [(entry.label, entry.value) for entry in answer.probabilities] == [
        ("terrible", 0), ("mediocre", 1), ("wonderful", 2),
    ]
    expectation = sum(entry.value * entry.probability for entry in answer.probabilities)
    assert abs(answer.score - expectation) < 1e-4
    assert answer.confidence == max(entry.probability for entry in answer.probabilities)


def test_a_choice_about_a_picture_is_decided(client):
    url = "data:image/jpeg;base64," + base64.b64encode(cat()).decode()
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
    choices = [{"value": "car"}, {"value": "cat"}, {"value": "dog"}]
    question = {"type": "choice", "name": "animal", "instructions": "What is in the picture?", "choices": choices}
    decision = client.decisions.create(model=IMAGE, input=picture, questions=[question])
    assert decision.answers[0].choice == "cat"
