"""An exported file used as somebody without the service would: ONNX Runtime, tokenizers and Pillow, told by the file's own notes."""

import json

import numpy
import onnxruntime
from reference import FILTERS
from tokenizers import Tokenizer


class Exported:
    """A classifier from one file."""

    def __init__(self, data):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        notes = self.session.get_modelmeta().custom_metadata_map
        self.notes = {key.removeprefix("headstart."): value for key, value in notes.items() if key.startswith("headstart.")}
        self.classes = json.loads(self.notes["classes"])

    def texts(self, texts):
        """The outputs for texts, by name."""
        tokenizer = Tokenizer.from_str(self.notes["text_tokenizer"])
        tokenizer.enable_truncation(int(self.notes["text_max_tokens"]))
        tokenizer.enable_padding()
        encoded = tokenizer.encode_batch(texts)
        return self.tokens([one.ids for one in encoded], [one.attention_mask for one in encoded])

    def tokens(self, ids, mask):
        """The outputs for token ids that are filled up to one length."""
        ids, mask = numpy.array(ids, dtype=numpy.int64), numpy.array(mask, dtype=numpy.int64)
        return self._run({"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)})

    def pictures(self, pictures):
        """The outputs for RGB pictures, by name."""
        (name,) = json.loads(self.notes["inputs"])
        kind = {"tensor(float16)": numpy.float16, "tensor(uint8)": numpy.uint8}.get(self.session.get_inputs()[0].type, numpy.float32)
        return self._run({name: numpy.stack([self._pixels(picture) for picture in pictures]).astype(kind)})

    def _pixels(self, picture):
        spec = json.loads(self.notes["image"])
        width, height = picture.size
        shorter, size = min(width, height), spec["size"]
        picture = picture.resize((int(width * spec["resize"] / shorter), int(height * spec["resize"] / shorter)), FILTERS[spec["filter"]])
        left, top = (round((length - size) / 2) for length in picture.size)
        pixels = numpy.asarray(picture.crop((left, top, left + size, top + size)), dtype=numpy.float32)
        if spec["channel_order"] == "bgr":
            pixels = pixels[:, :, ::-1]
        values = (pixels * numpy.float32(spec["scale"]) - numpy.float32(spec["mean"])) / numpy.float32(spec["std"])
        return numpy.ascontiguousarray(values.transpose(2, 0, 1) if spec["layout"] == "nchw" else values)

    def _run(self, feeds):
        outputs = json.loads(self.notes["outputs"])
        values = self.session.run(list(outputs.values()), feeds)
        return dict(zip(outputs, values, strict=True))
