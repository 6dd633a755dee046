"""Features of pictures equal Pillow and ONNX Runtime on the same files, in every format and by every way in."""

import base64
import io
import json

import numpy
import pytest
from pictures import Picture, cat, deep_png, every_format, photos, saved, turned
from PIL import Image
from reference import cosine, image_features, pixel_features
from service import IMAGE

# Decoders of lossy formats may differ by a grey level or two; the others, and resizing, not at all.
LOSSY, EXACT = 0.999, 0.99999

FILES = [picture for photo in photos()[:1] for picture in every_format(photo)]
TURNED = turned(photos()[1])


def raw(service, picture):
    """The vector of a picture sent as the body itself."""
    headers = {"content-type": picture.media_type}
    response = service.http.post("/v1/embeddings", params={"model": IMAGE}, content=picture.data, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["data"][0]["embedding"]


def bar(picture):
    return LOSSY if picture.lossy else EXACT


@pytest.mark.parametrize("picture", FILES, ids=str)
def test_features_equal_the_reference_in_every_format(uncached, picture):
    assert cosine(raw(uncached, picture), image_features(IMAGE, io.BytesIO(picture.data))) >= bar(picture)


@pytest.mark.parametrize("picture", TURNED, ids=str)
def test_a_turned_picture_is_set_upright_first(uncached, picture):
    upright = image_features(IMAGE, io.BytesIO(picture.data))
    assert cosine(raw(uncached, picture), upright) >= bar(picture)
    if not picture.name.endswith(" 1"):
        # A service that ignored the orientation would be found out.
        assert cosine(upright, pixel_features(IMAGE, photos()[1])) < LOSSY


def test_deep_grey_keeps_its_high_byte(uncached):
    grey = photos()[0].convert("L")
    deep = numpy.asarray(grey).astype(numpy.uint16) * 256 + 5
    tiff = saved(Image.fromarray(deep), "TIFF")
    for picture in (Picture("png", deep_png(deep), "image/png"), Picture("tiff", tiff, "image/tiff")):
        assert cosine(raw(uncached, picture), pixel_features(IMAGE, grey.convert("RGB"))) >= EXACT


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (1000, 20), (224, 224), (255, 257)], ids=str)
def test_pictures_of_odd_sizes_are_resized_and_cropped_like_the_reference(uncached, size):
    image = photos()[0].resize(size)
    picture = Picture("png", saved(image, "PNG"), "image/png")
    assert cosine(raw(uncached, picture), pixel_features(IMAGE, image)) >= EXACT


def test_every_way_in_gives_the_same_vector(uncached):
    data = cat()
    encoded = base64.b64encode(data).decode()
    url = f"data:image/jpeg;base64,{encoded}"
    expected = numpy.array(raw(uncached, Picture("cat", data, "image/jpeg")))

    def multipart(*files):
        parts = [("file", (f"{place}.jpg", file, "image/jpeg")) for place, file in enumerate(files)]
        response = uncached.http.post("/v1/embeddings", data={"model": IMAGE}, files=parts)
        assert response.status_code == 200, response.text
        return [datum["embedding"] for datum in response.json()["data"]]

    ways = {
        "data URL": uncached.embed(IMAGE, url),
        "data URLs": uncached.embed(IMAGE, [url, url]),
        "object": uncached.embed(IMAGE, {"image": encoded}),
        "object with a data URL": uncached.embed(IMAGE, {"image": url}),
        "objects": uncached.embed(IMAGE, [{"image": encoded}, {"image": url}]),
        "base64 of stated modality": uncached.embed(IMAGE, encoded, modality="image"),
        "list of base64": uncached.embed(IMAGE, [encoded, encoded], modality="image"),
        "URL-safe base64": uncached.embed(IMAGE, {"image": base64.urlsafe_b64encode(data).decode()}),
        "multipart": multipart(data),
        "multipart, several": multipart(data, data),
        "untyped bytes": [raw(uncached, Picture("cat", data, "application/octet-stream"))],
        # What a file is, its bytes say.
        "wrongly named type": [raw(uncached, Picture("cat", data, "image/png"))],
    }
    for way, vectors in ways.items():
        for vector in vectors:
            assert numpy.abs(numpy.array(vector) - expected).max() < 1e-6, way


def test_fields_reach_multipart_and_raw_bodies(uncached):
    data = cat()
    part = {"file": ("cat.jpg", data, "image/jpeg")}
    form = {"model": IMAGE, "dimensions": "16", "encoding_format": "base64"}
    packed = uncached.http.post("/v1/embeddings", data=form, files=part).json()["data"][0]["embedding"]
    vector = numpy.frombuffer(base64.b64decode(packed), dtype="<f4")
    headers = {"content-type": "image/jpeg"}
    query = {"model": IMAGE, "dimensions": 16}
    plain = uncached.http.post("/v1/embeddings", params=query, content=data, headers=headers).json()
    assert len(vector) == 16
    assert numpy.abs(vector - numpy.float32(plain["data"][0]["embedding"])).max() < 1e-6

    labels = ["car", "cat", "dog"]
    forms = [{"labels": labels}, {"labels": json.dumps(labels)}]
    answers = [uncached.http.post("/v1/zero-shot", data={"model": IMAGE, **form}, files=part) for form in forms]
    query = {"model": IMAGE, "labels": labels}
    answers.append(uncached.http.post("/v1/zero-shot", params=query, content=data, headers=headers))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["label"] == "cat"


def test_a_list_of_different_pictures_keeps_its_order(uncached):
    pictures = [Picture("photo", saved(photo, "PNG"), "image/png") for photo in photos()]
    encoded = [{"image": base64.b64encode(picture.data).decode()} for picture in pictures]
    vectors = uncached.embed(IMAGE, encoded * 3)
    for place, vector in enumerate(vectors):
        reference = pixel_features(IMAGE, photos()[place % len(pictures)])
        assert cosine(vector, reference) >= EXACT
