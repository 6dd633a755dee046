"""Run a backbone folder as its manifest says: the independent Python side of what the server does in Rust."""

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

# Padded tokens of one call; larger calls are slower on a CPU.
CALL_TOKENS_MAX = 512


class Backbone:
    """Manifest and session of one folder of `models/`; one thread, so that measurements repeat."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = tomllib.loads((folder / "headstart.toml").read_text(encoding="utf-8"))
        self.model = folder / self.manifest["backbone"]["file"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])

    def hash_holds(self) -> bool:
        """Whether the model file is the one that the manifest names."""
        return hashlib.sha256(self.model.read_bytes()).hexdigest() == self.manifest["backbone"]["sha256"]


class TextBackbone(Backbone):
    """Texts → pooled, normalised vectors."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / self.manifest["text"]["tokenizer"]))
        self.tokenizer.enable_truncation(self.manifest["text"]["max_tokens"])

    def token_ids(self, text: str) -> list[int]:
        """Token ids with the special tokens, cut to the manifest's `max_tokens`."""
        return self.tokenizer.encode(text).ids

    def hidden(self, batch: list[list[int]], tokens: int, filler: int = 0) -> np.ndarray:
        """Hidden states `[len(batch), tokens, width]`; the masked positions hold the token `filler`."""
        ids = np.full((len(batch), tokens), filler, np.int64)
        mask = np.zeros_like(ids)
        for row, token_ids in enumerate(batch):
            ids[row, : len(token_ids)] = token_ids
            mask[row, : len(token_ids)] = 1
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[0]

    def vectors(self, texts: list[str]) -> np.ndarray:
        """Mean-pooled unit vectors `[len(texts), width]`, computed in batches of like length."""
        ids = [self.token_ids(text) for text in texts]
        result = np.empty((len(ids), self.manifest["output"]["features"]["dimension"]), np.float32)
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        while order:
            batch = order[: max(1, CALL_TOKENS_MAX // len(ids[order[0]]))]
            order = order[len(batch) :]
            hidden = self.hidden([ids[index] for index in batch], len(ids[batch[-1]]))
            for row, index in enumerate(batch):
                result[index] = unit(hidden[row, : len(ids[index])].mean(0))
        return result


class ImageBackbone(Backbone):
    """Pictures → features and logits."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.labels = (folder / self.manifest["output"]["logits"]["labels"]).read_text(encoding="utf-8").splitlines()

    def tensor(self, picture: Image.Image) -> np.ndarray:
        """`[3, size, size]`: shorter side to `resize` (the other rounded down), central crop (offset rounded to even), scaled."""
        rules = self.manifest["image"]
        size, shorter = rules["size"], min(picture.size)
        sides = [side * rules["resize"] // shorter for side in picture.size]
        picture = picture.resize(sides, Image.Resampling[rules["filter"].upper()])
        left, top = (round((side - size) / 2) for side in sides)
        pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32)
        scaled = (pixels * rules["scale"] - np.float32(rules["mean"])) / np.float32(rules["std"])
        return scaled.transpose(2, 0, 1)

    def run(self, tensors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Features `[n, 1280]`, not normalised, and logits `[n, 1000]` of one call."""
        return tuple(self.session.run(["features", "logits"], {"image": np.stack(tensors)}))

    def features_and_logits(self, pictures: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Unit features and logits of all pictures, one call a picture."""
        features, logits = zip(*(self.run([self.tensor(picture)]) for picture in pictures))
        return unit(np.concatenate(features)), np.concatenate(logits)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length one, along the last axis."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
