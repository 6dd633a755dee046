"""Hugging Face's inference client, unchanged, on the service's task bodies."""

import numpy
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from pictures import cat
from reference import cosine
from service import IMAGE, TEXT

# Once a process the client asks its hub for names to put into its user agent; refused, it goes on without.
TOLERATED_HOSTS = {"huggingface.co"}


@pytest.fixture
def text(service):
    return InferenceClient(model=f"{service.url}/hf/{TEXT}", token="none")


@pytest.fixture
def image(service):
    return InferenceClient(base_url=f"{service.url}/hf/{IMAGE}", token="none")


def test_features_of_texts_come_back_bare(service, text):
    texts = ["A cat sits on a mat.", "A dog barks."]
    expected = service.embed(TEXT, texts)
    one, two = text.feature_extraction(texts[0]), text.feature_extraction(texts)
    assert two.shape == (2, 384) and two.dtype == numpy.float32
    assert cosine(numpy.squeeze(one), expected[0]) > 0.99999
    assert cosine(two[1], expected[1]) > 0.99999


def test_truncation_and_its_direction_are_heeded(service, text):
    words = " ".join(f"word{number}" for number in range(400))
    start = service.embed(TEXT, words, truncate="start")[0]
    end = service.embed(TEXT, words, truncate="end")[0]
    left = text.feature_extraction(words, truncate=True, truncation_direction="left")
    right = text.feature_extraction(words, truncate=True, truncation_direction="right")
    assert cosine(numpy.squeeze(left), start) > 0.99999
    assert cosine(numpy.squeeze(right), end) > 0.99999
    with pytest.raises(HfHubHTTPError) as raised:
        text.feature_extraction(words, truncate=False)
    assert raised.value.response.status_code == 400


def test_a_text_is_labelled_best_first(text):
    labels = ["cooking", "refund", "weather"]
    scores = text.zero_shot_classification("I want my money back for this order.", labels)
    assert scores[0].label == "refund"
    assert sorted(score.label for score in scores) == labels
    assert [score.score for score in scores] == sorted((score.score for score in scores), reverse=True)
    assert abs(sum(score.score for score in scores) - 1) < 1e-4


def test_independent_labels_and_a_template_are_heeded(text):
    given = "I want my money back for this order."
    several = text.zero_shot_classification(given, ["refund", "money", "weather"], multi_label=True)
    assert {score.label for score in several[:2]} == {"refund", "money"}
    assert all(0 <= score.score <= 1 for score in several)
    plain = text.zero_shot_classification(given, ["refund", "weather"])
    templated = text.zero_shot_classification(given, ["refund", "weather"], hypothesis_template="Talk of {}.")
    assert plain[0].label == templated[0].label == "refund"
    assert plain[0].score != templated[0].score


def test_a_sentence_is_compared_with_others(service, text):
    one, others = "A cat sits on a mat.", ["A kitten rests on a rug.", "Stocks fell on Monday."]
    scores = text.sentence_similarity(one, others)
    own, *vectors = service.embed(TEXT, [one, *others])
    assert scores == pytest.approx([cosine(own, vector) for vector in vectors], abs=1e-5)
    assert scores[0] > 0.5 > scores[1]


def test_a_photo_of_a_cat_is_labelled_a_cat(image):
    scores = image.zero_shot_image_classification(cat(), ["car", "cat", "dog"])
    assert scores[0].label == "cat"
    assert abs(sum(score.score for score in scores) - 1) < 1e-4


def test_raw_bytes_of_a_picture_give_its_features(service):
    response = service.http.post(f"/hf/{IMAGE}", content=cat(), headers={"content-type": "image/jpeg"})
    assert response.status_code == 200, response.text
    assert numpy.squeeze(numpy.array(response.json())).shape == (1280,)


def test_an_unknown_model_is_not_found(service):
    client = InferenceClient(model=f"{service.url}/hf/no-such-model", token="none")
    with pytest.raises(HfHubHTTPError) as raised:
        client.feature_extraction("a")
    assert raised.value.response.status_code == 404
