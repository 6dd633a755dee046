"""Sounds, and a backbone that reads them: Google's speech embedding as `openwakeword` has it, fetched once and checked by hash."""

import functools
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import wave
import zipfile

import numpy
import onnxruntime
import pytest
import scipy.signal
from service import EXAMPLES, ROOT

SPEECH = "speech-embedding"
RATE = 16_000
# PyPI's openwakeword 0.5.1: the wheel, and the two graphs in it.
WHEEL = "015467e49f08b0ef8efa433690ce70566abb72f7c36501a6fa893762b4ddc559"
GRAPHS = {
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
}
# Fewer samples get silence around them up to here.
SHORTEST = 24_000

@functools.cache
def graphs():
    """The folder with both graphs, fetched where they are not there yet; the test is skipped where they cannot be had."""
    folder = ROOT / "target" / "openwakeword"
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / name).exists() for name in GRAPHS):
        pins = folder / "requirements.txt"
        pins.write_text(f"openwakeword==0.5.1 --hash=sha256:{WHEEL}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        fetched = subprocess.run([*command, "--requirement", str(pins), "--dest", str(folder)], capture_output=True, text=True, check=False)
        if fetched.returncode != 0:
            pytest.skip(f"openwakeword cannot be had: {fetched.stderr.strip()[-200:]}")
        with zipfile.ZipFile(next(folder.glob("openwakeword-*.whl"))) as archive:
            for name in GRAPHS:
                (folder / name).write_bytes(archive.read(f"openwakeword/resources/models/{name}"))
    for name, sha256 in GRAPHS.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256, name
    return folder


def backbone(folder, engine=""):
    """A folder of models with the speech embedding alone in it; `engine` is the manifest's section of that name."""
    place = folder / SPEECH
    place.mkdir(parents=True)
    for name in GRAPHS:
        (place / name).write_bytes((graphs() / name).read_bytes())
    (place / "headstart.toml").write_text((EXAMPLES / "speech-embedding.toml").read_text() + engine)
    return folder


@functools.cache
def session(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(graphs() / name), options, providers=["CPUExecutionProvider"])


def features(samples):
    """What `openwakeword.utils.AudioFeatures` makes of 16-bit samples at 16 kHz, its windows' mean at unit length."""
    missing = max(0, SHORTEST - len(samples))
    padded = numpy.pad(samples, (missing // 2, missing - missing // 2))
    assert padded.dtype == numpy.int16
    (mel,) = session("melspectrogram.onnx").run(None, {"input": padded[None].astype(numpy.float32)})
    frames = numpy.squeeze(mel) / 10 + 2
    windows = [frames[start : start + 76] for start in range(0, len(frames) - 75, 8)]
    (vectors,) = session("embedding_model.onnx").run(None, {"input_1": numpy.array(windows, dtype=numpy.float32)[..., None]})
    mean = vectors.reshape(len(windows), 96).mean(axis=0)
    return mean / numpy.linalg.norm(mean)


def wav(samples, rate=RATE):
    """A WAV file of 16-bit samples, `[samples]` or `[samples, channels]`."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def tone(hertz, seconds, rate=RATE, loudness=8_000):
    """A tone of 16-bit samples."""
    at = numpy.arange(round(seconds * rate)) / rate
    return (loudness * numpy.sin(2 * numpy.pi * hertz * at)).astype(numpy.int16)


def recordings(wanted=None):
    """Spoken digits as (name, file), in order of name; skips the test where no data are at hand."""
    root = os.environ.get("HEADSTART_TEST_DATA")
    if not root:
        pytest.skip("HEADSTART_TEST_DATA is not set")
    with zipfile.ZipFile(pathlib.Path(root) / "datasets" / "audio" / "fsdd_sample.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))
        return [(name, archive.read(name)) for name in (names if wanted is None else names[:: len(names) // wanted])]


def upsampled(file):
    """A recording of 8 kHz at 16 kHz, as 16-bit samples."""
    with wave.open(io.BytesIO(file)) as source:
        samples = numpy.frombuffer(source.readframes(source.getnframes()), "<i2")
        assert source.getframerate() == 8_000
    doubled = scipy.signal.resample_poly(samples.astype(numpy.float64), 2, 1)
    return numpy.clip(numpy.round(doubled), -32_768, 32_767).astype(numpy.int16)
