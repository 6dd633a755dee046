"""Writes tests/golden/zero_shot.json: scores of zero-shot labels by a reference in Python on the bundled backbones.

    python3 tools/golden/zero_shot.py

Runs in the environment of tools/backbones. Constants come from the manifests, so a change of those needs a new run.
Sources: ConSE, Norouzi et al. 2014; perplexity, van der Maaten & Hinton 2008, §2; logistic curve, Platt 1999.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "backbones"))

import environment  # noqa: E402

TEXT, IMAGE = "all-minilm-l6-v2", "efficientnet-lite0"
# Absolute, on a score between 0 and 1. Pictures are decoded and resized by other libraries than the server's.
TOLERANCE = {TEXT: 1e-4, IMAGE: 1e-2}
FLOOR = 1e-12
STEPS = 60

REFUND = {
    "label": "refund",
    "description": "the customer wants the money back",
    "examples": ["Please return what I paid.", "I was charged twice for one order."],
}
MESSAGES = ["I want my money back.", "Where is my parcel? It should have been here on Monday.", "Lovely service, thank you!"]
ANIMALS = ["cat", "dog", "car"]
CASES = [
    {"model": TEXT, "input": MESSAGES, "labels": ["refund", "delivery", "praise"]},
    {"model": TEXT, "input": MESSAGES, "labels": ["refund", "delivery", "praise"], "template": "The customer writes about {}."},
    {"model": TEXT, "input": MESSAGES, "labels": ["refund", "delivery", "praise"], "multi_label": True},
    {"model": TEXT, "input": MESSAGES, "labels": [REFUND, "delivery", {"label": "praise", "description": "the customer is happy"}]},
    {"model": TEXT, "input": MESSAGES, "labels": ["refund", {"label": "delivery", "examples": ["My order has not arrived."]}]},
    {"model": IMAGE, "files": ["examples/cat.jpg", "examples/coffee.jpg", "examples/rocket.jpg"], "labels": [*ANIMALS, "cup", "rocket"]},
    {"model": IMAGE, "files": ["examples/cat.jpg"], "labels": ANIMALS, "template": "a picture of a {}"},
    {"model": IMAGE, "files": ["examples/cat.jpg"], "labels": ANIMALS, "multi_label": True},
    {"model": IMAGE, "files": ["examples/cat.jpg"], "labels": [{"label": "pet", "description": "an animal that people keep at home"}, "vehicle"]},
]


def main() -> None:
    """Score the cases and write them with their scores, one list an item, in the order of the labels."""
    import numpy as np
    from inference import ImageBackbone, TextBackbone, unit
    from PIL import Image, ImageOps

    def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
        powers = np.exp((values - values.max(-1, keepdims=True)) / temperature)
        return powers / powers.sum(-1, keepdims=True)

    def prototype(label: dict, templates: list[str], rules: dict) -> np.ndarray:
        """Unit vector `[width]` of a label: templates, then its description, then its examples."""
        mixed = unit(text.vectors([template.replace("{}", label["label"]) for template in templates]).mean(0))
        if "description" in label:
            share = rules["description_weight"]
            mixed = (1 - share) * mixed + share * text.vectors([label["description"]])[0]
        if "examples" in label:
            share = len(label["examples"]) / (len(label["examples"]) + rules["example_prior"])
            mixed = (1 - share) * mixed + share * unit(text.vectors(label["examples"]).mean(0))
        return unit(mixed.astype(np.float64))

    def class_weights(prototypes: np.ndarray, perplexity: float) -> np.ndarray:
        """`[labels, classes]`, each row with the given perplexity."""
        weights = []
        for cosines in prototypes @ classes.T:
            low, high = 1e-3, 2.0
            for _ in range(STEPS):
                middle = (low * high) ** 0.5
                spread = softmax(cosines, middle)
                narrow = np.exp(-(spread * np.log(spread + 1e-300)).sum()) < perplexity
                low, high = (middle, high) if narrow else (low, middle)
            weights.append(softmax(cosines, (low * high) ** 0.5))
        return np.stack(weights)

    def scores(case: dict) -> np.ndarray:
        """`[items, labels]`."""
        rules = (text if case["model"] == TEXT else image).manifest["zero_shot"]
        templates = [case["template"]] if "template" in case else rules["labels"]["templates"]
        labels = [label if isinstance(label, dict) else {"label": label} for label in case["labels"]]
        prototypes = np.stack([prototype(label, templates, rules["labels"]) for label in labels])
        independent = case.get("multi_label", False)
        if case["model"] == TEXT:
            found = text.vectors(case["input"]).astype(np.float64) @ prototypes.T
        else:
            pictures = [ImageOps.exif_transpose(Image.open(ROOT / file)).convert("RGB") for file in case["files"]]
            _, logits = image.features_and_logits(pictures)
            weights = class_weights(prototypes, rules["perplexity"])
            found = np.log(softmax(logits.astype(np.float64), rules["class_temperature"]) @ weights.T + FLOOR)
            correction = rules["independent_breadth" if independent else "breadth"]
            found = found - correction * np.log((weights**2).sum(1))
        calibration = rules["calibration"]
        if independent:
            return 1 / (1 + np.exp(-(calibration["slope"] * found + calibration["intercept"])))
        return softmax(found, calibration["temperature"])

    text, image = TextBackbone(ROOT / "models" / TEXT), ImageBackbone(ROOT / "models" / IMAGE)
    classes = np.load(ROOT / "models" / IMAGE / image.manifest["zero_shot"]["classes"]).astype(np.float64)
    cases = [{**case, "scores": np.round(scores(case), 6).tolist()} for case in CASES]
    golden = ROOT / "tests" / "golden" / "zero_shot.json"
    golden.write_text(json.dumps({"tolerance": TOLERANCE, "cases": cases}, indent=1) + "\n", encoding="utf-8")
    print(f"{golden.relative_to(ROOT)}: {len(cases)} cases")


if __name__ == "__main__":
    environment.enter()
    main()
