"""Text vectors of the source classes: the bridge from ImageNet's classes to labels that nobody trained on.

A class is read as photos of each of its WordNet names, and as a photo of its first name with WordNet's definition; both
unit vectors are averaged. `models/efficientnet-lite0/README.md` says what other readings gave.
"""

import io

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TEMPLATE = "a photo of a {}"


class TextVectors:
    """Mean-pooled unit vectors by a text backbone that was just built."""

    def __init__(self, files: dict[str, bytes]):
        options = onnxruntime.SessionOptions()
        # One thread: the order of additions, and so the bytes, do not depend on the number of cores.
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(files["model.onnx"], options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())

    def mean(self, texts: list[str]) -> np.ndarray:
        """Unit vector `[width]` along the mean of the texts' unit vectors."""
        return unit(np.mean([self._vector(text) for text in texts], axis=0))

    def _vector(self, text: str) -> np.ndarray:
        ids = np.array([self.tokenizer.encode(text).ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return unit(self.session.run(None, inputs)[0][0].mean(axis=0))


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length one."""
    return vector / np.linalg.norm(vector)


def class_vectors(text_files: dict[str, bytes], synsets: str, lemmas: str, definitions: str) -> bytes:
    """A `.npy` file with `[classes, width]` half-precision unit vectors, in the order of `synsets`."""
    names = dict(line.split("\t", 1) for line in lemmas.splitlines())
    glosses = dict(line.split("\t", 1) for line in definitions.splitlines())
    vectors = TextVectors(text_files)
    rows = []
    for synset in synsets.split():
        words = [word.strip() for word in names[synset].split(",")]
        named = vectors.mean([TEMPLATE.format(word) for word in words])
        defined = vectors.mean([TEMPLATE.format(f"{words[0]}, {glosses[synset]}")])
        rows.append(unit(named + defined))
    file = io.BytesIO()
    np.save(file, np.array(rows, np.float16))
    return file.getvalue()
