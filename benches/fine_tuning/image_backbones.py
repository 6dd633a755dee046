"""Linear probes on every image network: ants and bees, and the four domains of PACS, each learned and scored within itself.

Beside them, how far the service's features are from Pillow and ONNX Runtime in Python on the same pictures. Names behind the command
leave all other networks out.
"""

import base64
import csv
import io
import statistics
import sys
import zipfile

import numpy
import onnxruntime
import openai
from accuracy import Cycle, photos, table
from image_models import KEPT, NETWORKS, folder
from PIL import Image
from service import DATA, IMAGE, machine, server

COMPARED = 12
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Largest difference of a value of vectors of unit length.
NEAR = 1e-5


def difference(client, network, path, pictures):
    """Largest difference between the service's features and those of the same pictures computed here."""
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    urls = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        urls.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
    answer = client.embeddings.create(model=network.id, input=urls, encoding_format="float")
    served = numpy.array([datum.embedding for datum in answer.data])
    tensors = numpy.stack([pixels(network, picture) for picture in pictures])
    (rows,) = session.run(["features"], {session.get_inputs()[0].name: tensors})
    rows = rows.astype(numpy.float64)
    return float(numpy.abs(rows / numpy.linalg.norm(rows, axis=1, keepdims=True) - served).max())


def pixels(network, picture):
    """The tensor of one picture, by Pillow."""
    width, height = picture.size
    shorter, size = min(width, height), network.size
    picture = picture.resize((int(width * network.resize / shorter), int(height * network.resize / shorter)), FILTERS[network.filter])
    left, top = (round((length - size) / 2) for length in picture.size)
    values = numpy.asarray(picture.crop((left, top, left + size, top + size)), dtype=numpy.float32)
    values = values[:, :, ::-1] if network.order == "bgr" else values
    values = (values * numpy.float32(network.scale) - numpy.float32(network.mean)) / numpy.float32(network.std)
    return numpy.ascontiguousarray(values.transpose(2, 0, 1))


def domains():
    """By domain: an archive with its training and test pictures, and the test pictures as they are sent with their classes."""
    archive = zipfile.ZipFile(DATA / "images" / "pacs_sample.zip")
    listed = list(csv.DictReader(io.TextIOWrapper(archive.open("pacs/manifest.csv"), encoding="utf-8")))
    for domain in DOMAINS:
        written, held_out = io.BytesIO(), []
        with zipfile.ZipFile(written, "w") as bundle:
            for row in (row for row in listed if row["domain"] == domain):
                content = archive.read(f"pacs/{row['path']}")
                bundle.writestr(f"{row['split']}/{row['class']}/{row['path'].rsplit('/', 1)[1]}", content)
                if row["split"] == "test":
                    held_out.append(({"image": base64.b64encode(content).decode()}, row["class"]))
        yield domain, written.getvalue(), held_out


def main():
    asked = set(sys.argv[1:]) or {IMAGE, *(network.id for network in NETWORKS)}
    models = {network.id: (network, path) for network in NETWORKS if network.id in asked and (path := folder(network))}
    bees = (DATA / "images" / "hymenoptera.zip").read_bytes()
    archive, _, held_out = photos()
    names = [name for name in archive.namelist() if name.endswith(".jpg")][:: len(archive.namelist()) // COMPARED][:COMPARED]
    pictures = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    parts, missed = list(domains()), []

    def lines(client):
        cycle = Cycle(client)
        for model in [*({IMAGE} & asked), *models]:
            found = ""
            if model in models:
                far = difference(client, *models[model], pictures)
                found = f"{far:.0e}"
                if far > NEAR:
                    missed.append(f"{model}: features differ by {far}")
            accuracy, times = cycle.run(model, "linear_probe", "hymenoptera.zip", bees, held_out)
            inside = [cycle.run(model, "linear_probe", "pacs.zip", content, given)[0] for _, content, given in parts]
            shown = [f"{one:.3f}" for one in (accuracy, *inside, statistics.mean(inside))]
            yield [f"`{model}`", *shown, f"{times['answers']:.0f}", found]

    with server(KEPT / "models") as address:
        header = ["backbone", "ants and bees", *(f"PACS {domain.replace('_', ' ')}" for domain in DOMAINS), "PACS, mean"]
        header += ["seconds, ants and bees from upload to last answer", "features differ by"]
        table(header, lines(openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=600)))
    print(f"\n{machine()}")
    if missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
