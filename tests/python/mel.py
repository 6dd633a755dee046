"""Mel frames in numpy and double precision, by the formulas of librosa and Whisper: what front ends are compared with."""

import numpy

RATE = 16_000


def frames(samples, spec):
    """`[frames, bands]` of samples, as the manifest's `[audio.mel]` says."""
    size, half = spec["n_fft"], spec["n_fft"] // 2
    length = spec.get("window", size)
    before = (size - length) // 2
    hann = numpy.pad(0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(length) / length), (before, size - length - before))
    samples = numpy.asarray(samples, dtype=numpy.float64)
    if spec["edges"] == "reflect":
        samples = numpy.pad(samples, half, mode="reflect")
    starts = numpy.arange(0, len(samples) - size + 1, spec["hop"])
    magnitudes = numpy.abs(numpy.fft.rfft(samples[starts[:, None] + numpy.arange(size)] * hann))
    energies = magnitudes ** spec["power"] @ filters(spec).T
    if spec["log"]["kind"] == "natural":
        return numpy.log(numpy.maximum(energies, spec["log"]["floor"]) + spec["log"]["offset"])
    assert spec["log"]["kind"] == "whisper"
    decades = numpy.log10(numpy.maximum(energies[:-1], 1e-10))
    return (numpy.maximum(decades, decades.max() - 8) + 4) / 4


def filters(spec):
    """`[bands, bins]`: triangles between neighbouring corners, which lie evenly on the mel scale."""
    to_mel, to_hertz = SCALES[spec["scale"]]
    edges = to_mel(numpy.array([spec["fmin"], spec["fmax"]]))
    corners = to_hertz(numpy.linspace(*edges, spec["bands"] + 2))
    bins = numpy.arange(spec["n_fft"] // 2 + 1) * RATE / spec["n_fft"]
    triangles = [numpy.interp(bins, corners[band : band + 3], [0, 1, 0]) for band in range(spec["bands"])]
    areas = (corners[2:] - corners[:-2]) / 2 if spec["norm"] == "slaney" else numpy.ones(spec["bands"])
    return numpy.array(triangles) / areas[:, None]


# Slaney's is linear up to 1 kHz, 15 mels, and has 27 mels for a factor of 6.4 beyond.
_STEP = numpy.log(6.4) / 27
SCALES = {
    "htk": (lambda hertz: 2595 * numpy.log10(1 + hertz / 700), lambda mel: 700 * (10 ** (mel / 2595) - 1)),
    "slaney": (
        lambda hertz: numpy.where(hertz < 1000, hertz * 3 / 200, 15 + numpy.log(numpy.maximum(hertz, 1) / 1000) / _STEP),
        lambda mel: numpy.where(mel < 15, mel * 200 / 3, 1000 * numpy.exp(_STEP * (mel - 15))),
    ),
}
