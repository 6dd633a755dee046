"""What shares a call must not matter: the start tries it, and says where it does."""

import numpy
import pytest
import small_models
from reference import cosine
from service import FAST_TEXT, IMAGE, TEXT, Service
from small_models import DYNAMIC

WARNING = "an item's vector depends on what shares its batch"
# From here on an item's vector is held to be its own.
LEAST = 0.9999
ALONE = f"{DYNAMIC}-alone"
PICTURES, PICTURES_ALONE, PICTURES_STATIC = "dynamic-pictures", "dynamic-pictures-alone", "static-pictures"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of one lane, so that the texts of a list wait for each other, with a graph whose steps span a call."""
    models = tmp_path_factory.mktemp("models")
    small_models.write_dynamic(models)
    small_models.write_dynamic(models, ALONE, "[engine]\nmax_batch_items = 1\n")
    small_models.write_byte_pictures(models, PICTURES, True, "[engine]\nmax_batch_items = 4\n")
    small_models.write_byte_pictures(models, PICTURES_ALONE, True)
    small_models.write_byte_pictures(models, PICTURES_STATIC, False, "[engine]\nmax_batch_items = 4\n")
    running = Service(tmp_path_factory.mktemp("served"), "--cache-bytes", 0, "--lanes", 1, models=models)
    yield running
    running.stop()


def measured(service, model):
    return service.http.get(f"/v1/models/{model}").json().get("batch_invariance")


def warned(service):
    """The models that the start warned of, each with the line."""
    return {line.split("model=")[1].split()[0]: line for line in service.log().splitlines() if WARNING in line}


def test_a_graph_whose_steps_span_a_call_is_named_at_the_start(served):
    told = warned(served)[DYNAMIC]
    assert "WARN" in told and "cosine=" in told
    assert measured(served, DYNAMIC) < LEAST
    assert len(served.embed(DYNAMIC, "the cat")[0]) == small_models.WIDTH, "it is served all the same"


def test_one_item_a_call_makes_each_vector_its_own(served):
    texts = ["the cat", "the money", "a dog", "a refund is money", "sport"] * 8
    together = served.embed(ALONE, texts)
    for text, vector in zip(texts, together, strict=True):
        assert cosine(vector, served.embed(ALONE, text)[0]) > 0.999999
    # What it saves them from.
    mixed = served.embed(DYNAMIC, texts)
    assert numpy.abs(numpy.subtract(mixed, together)).max() > 0.01


def test_what_is_never_in_a_call_with_others_is_not_warned_of(served):
    assert set(warned(served)) == {DYNAMIC, PICTURES}
    assert measured(served, ALONE) is None and measured(served, PICTURES_ALONE) is None


def test_pictures_that_may_share_a_call_are_tried_too(served):
    assert "WARN" in warned(served)[PICTURES] and measured(served, PICTURES) < LEAST
    assert measured(served, PICTURES_STATIC) >= LEAST


def test_requests_with_raw_tensors_share_no_call_where_rows_would_change(served):
    sizes = {name: served.http.get(f"/v2/models/{name}/config").json()["max_batch_size"] for name in (DYNAMIC, PICTURES_STATIC)}
    assert sizes[DYNAMIC] == 0 and sizes[PICTURES_STATIC] > 0


def test_the_bundled_backbones_were_tried_and_found_independent(service):
    assert not warned(service)
    for model in (TEXT, FAST_TEXT):
        assert measured(service, model) >= LEAST
    assert measured(service, IMAGE) is None, "one picture a call"
