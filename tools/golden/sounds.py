"""Writes tests/golden/sounds: short sounds in every format the decoders take, and what reference libraries make of sounds.

    pip install -r tools/golden/requirements.txt
    python tools/golden/sounds.py

Every file holds the same sound, which a formula gives at any rate (`wave`; the tests have it too), so that what was decoded and
resampled can be compared with what was encoded. `error` in `index.json` is how far FFmpeg (PyAV), libopus (soundfile) and soxr come off it, as
a share of the sound's own strength: what the encoder took away. `resampled` and `mel` are values of scipy, librosa and of
Whisper's formula (OpenAI's `whisper/audio.py`, in NumPy) for the same sound.
"""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import scipy.signal
import soundfile
import soxr

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "sounds"
TARGET = 16_000
# Name: rate, channels, seconds, and how it is written: by soundfile (container, coding) or FFmpeg (container, codec, bit rate).
FILES = {
    "pcm-u8.wav": (8_000, 1, 0.2, ("WAV", "PCM_U8")),
    "pcm-16-stereo.wav": (44_100, 2, 0.1, ("WAV", "PCM_16")),
    "pcm-24.wav": (48_000, 1, 0.1, ("WAV", "PCM_24")),
    "pcm-32.wav": (11_025, 1, 0.2, ("WAV", "PCM_32")),
    "float.wav": (22_050, 1, 0.1, ("WAV", "FLOAT")),
    "double.wav": (16_000, 1, 0.1, ("WAV", "DOUBLE")),
    "a-law.wav": (8_000, 1, 0.2, ("WAV", "ALAW")),
    "mu-law.wav": (8_000, 1, 0.2, ("WAV", "ULAW")),
    "ima-adpcm.wav": (16_000, 1, 0.2, ("WAV", "IMA_ADPCM")),
    "six-channels.wav": (16_000, 6, 0.08, ("WAVEX", "PCM_16")),
    "odd-rate.wav": (12_347, 1, 0.2, ("WAV", "PCM_16")),
    "stereo.flac": (44_100, 2, 0.2, ("FLAC", "PCM_16")),
    "24-bit.flac": (16_000, 1, 0.2, ("FLAC", "PCM_24")),
    "vorbis-stereo.ogg": (44_100, 2, 0.3, ("OGG", "VORBIS")),
    "vorbis-mono.ogg": (16_000, 1, 0.3, ("OGG", "VORBIS")),
    "opus-speech.ogg": (48_000, 1, 0.3, ("ogg", "libopus", 12_000)),
    "opus-hybrid.ogg": (48_000, 1, 0.3, ("ogg", "libopus", 28_000)),
    "opus-stereo.ogg": (48_000, 2, 0.3, ("ogg", "libopus", 96_000)),
    "opus-six-channels.ogg": (48_000, 6, 0.2, ("ogg", "libopus", 256_000)),
    "stereo.mp3": (44_100, 2, 0.3, ("mp3", "libmp3lame", 128_000)),
    "mono-22050.mp3": (22_050, 1, 0.3, ("mp3", "libmp3lame", 48_000)),
    "mono-16000.mp3": (16_000, 1, 0.3, ("mp3", "libmp3lame", 32_000)),
    "stereo.m4a": (44_100, 2, 0.3, ("ipod", "aac", 128_000)),
    "mono.m4a": (16_000, 1, 0.3, ("mp4", "aac", 48_000)),
}


def wave(rate: int, seconds: float) -> np.ndarray:
    """The sound, mono, float64: two tones under a bell."""
    t = np.arange(round(seconds * rate)) / rate
    bell = np.sin(np.pi * t / seconds) ** 2
    return bell * (0.4 * np.sin(2 * np.pi * 440 * t) + 0.25 * np.sin(2 * np.pi * 1_234 * t + 1))


def channels(rate: int, count: int, seconds: float) -> np.ndarray:
    """`[samples, count]` whose mean is the sound, no two alike."""
    mono = wave(rate, seconds)
    weights = 1 + 0.3 * (np.arange(count) - (count - 1) / 2) / max(1, count - 1)
    return mono[:, None] * weights


def with_ffmpeg(samples: np.ndarray, rate: int, container: str, codec: str, bit_rate: int) -> bytes:
    """A file as FFmpeg writes it."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        if bit_rate:
            stream.bit_rate = bit_rate
        integers = (samples * 32767).round().astype(np.int16)
        frame = av.AudioFrame.from_ndarray(integers.reshape(1, -1), format="s16", layout=layout)
        # Without a time the edit list would not leave out what the encoder puts before the sound.
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def decoded(file: bytes) -> np.ndarray:
    """FFmpeg's samples of a file, mono at `TARGET`, resampled by soxr."""
    with av.open(io.BytesIO(file)) as source:
        frames, rate = [], source.streams.audio[0].rate
        resampler = av.AudioResampler(format="fltp")
        for frame in source.decode(audio=0):
            frames += [part.to_ndarray() for part in resampler.resample(frame)]
    mono = np.concatenate(frames, axis=1).mean(axis=0)
    return soxr.resample(mono, rate, TARGET, quality="VHQ")


def error(found: np.ndarray, seconds: float) -> float:
    """Distance from the sound, as a share of its strength; samples behind its end count."""
    expected = wave(TARGET, seconds)
    size = max(len(found), len(expected))
    pad = lambda x: np.pad(x, (0, size - len(x)))
    return float(np.sqrt(((pad(found) - pad(expected)) ** 2).sum() / (expected**2).sum()))


def files() -> list[dict[str, object]]:
    listed = []
    for name, (rate, count, seconds, (container, coding, *bit_rate)) in FILES.items():
        samples = channels(rate, count, seconds)
        if bit_rate:
            content = with_ffmpeg(samples, rate, container, coding, *bit_rate)
        else:
            file = io.BytesIO()
            soundfile.write(file, samples, rate, format=container, subtype=coding)
            content = file.getvalue()
        (FOLDER / name).write_bytes(content)
        if coding == "libopus":
            # FFmpeg's own decoder is two samples behind where packets are speech; soundfile has libopus.
            found = soxr.resample(soundfile.read(io.BytesIO(content), always_2d=True)[0].mean(axis=1), 48_000, TARGET, quality="VHQ")
        else:
            found = decoded(content)
        listed.append(
            {
                "file": name, "rate": rate, "channels": count, "seconds": seconds,
                "error": round(error(found, seconds), 6),
            }
        )  # fmt: skip
        print(name, len(content), listed[-1])
    return listed


def kernel(up: int, down: int) -> np.ndarray:
    """The resampler's filter on a grid of `up` points a sample."""
    cutoff = 0.945 * min(1, up / down)
    reach = int(48 / cutoff * up)
    at = np.arange(-reach, reach + 1) / up
    inside = np.sqrt(np.maximum(0, 1 - (at * cutoff / 48) ** 2))
    return cutoff * np.sinc(cutoff * at) * np.i0(9 * inside) / np.i0(9.0)


def resampled() -> list[dict[str, object]]:
    """scipy's polyphase resampling with that filter, and soxr's own."""
    cases = []
    for rate, up, down in [(8_000, 2, 1), (44_100, 160, 441), (48_000, 1, 3), (11_025, 640, 441)]:
        sound = wave(rate, 0.04)
        ours = scipy.signal.resample_poly(sound, up, down, window=kernel(up, down) / up)
        best = soxr.resample(sound, rate, TARGET, quality="VHQ")
        cases.append({"rate": rate, "scipy": rounded(ours), "soxr": rounded(best)})
    return cases


def rounded(values: np.ndarray, digits: int = 7) -> list[float]:
    return [round(float(value), digits) for value in values.ravel()]


def whisper(sound: np.ndarray) -> np.ndarray:
    """Whisper's `log_mel_spectrogram`, `[frames, 80]`."""
    window = scipy.signal.get_window("hann", 400)
    padded = np.pad(sound, 200, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160] * window
    energies = np.abs(np.fft.rfft(frames)[:-1]) ** 2
    mel = librosa.filters.mel(sr=TARGET, n_fft=400, n_mels=80).astype(np.float64)
    log = np.log10(np.maximum(energies @ mel.T, 1e-10))
    return (np.maximum(log, log.max() - 8) + 4) / 4


def mels() -> list[dict[str, object]]:
    """Frames of the sound by librosa, for some settings as a manifest has them."""
    sound = wave(TARGET, 0.1)
    common = {"y": sound, "sr": TARGET}
    melspectrogram = librosa.feature.melspectrogram
    htk = melspectrogram(
        **common, n_fft=512, win_length=400, hop_length=160, n_mels=20, fmin=125, fmax=7500, htk=True, norm=None,
        power=1, center=False,
    )  # fmt: skip
    decibel = melspectrogram(**common, n_fft=1024, hop_length=320, n_mels=16, pad_mode="constant")
    slaney = melspectrogram(**common, n_fft=512, hop_length=128, n_mels=24, fmax=8000, pad_mode="reflect")
    return [
        {"name": "whisper", "frames": rounded(whisper(sound), 6)},
        {"name": "htk", "frames": rounded(np.log(htk + 0.001).T, 6)},
        {"name": "decibel", "frames": rounded(librosa.power_to_db(decibel, top_db=60).T, 5)},
        {"name": "slaney", "frames": rounded(slaney.T, 6)},
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = {"files": files(), "resampled": resampled(), "mel": mels()}
    (FOLDER / "index.json").write_text(json.dumps(index) + "\n")


if __name__ == "__main__":
    main()
