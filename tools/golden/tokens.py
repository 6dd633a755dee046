"""Writes tests/golden/text/all-minilm-l6-v2.json: token ids by the Python `tokenizers` for that backbone.

    pip install -r tools/golden/requirements.txt
    python tools/golden/tokens.py

Each case is a text (`text` repeated `repeat` times), a rule of truncation and the ids that the reference gives
under it, special tokens included; `tokens` counts them before the cut. Truncation is the reference's own.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = "all-minilm-l6-v2"
MAX_TOKENS = 256

TEXTS = [
    "",
    " ",
    "\n\t \r\n",
    "\u0000\u0001\u200b",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "unbelievably antidisestablishmentarianism",
    "Ärger über Straßenbahn, naïve café, Ångström, Dvořák, İstanbul",
    "e\u0301 combining and é composed",
    "漢字かな交じり文とカタカナ",
    "中文文本没有空格",
    "한국어 문장입니다",
    "Привет, мир! Ελληνικά. עברית العربية हिन्दी",
    "😀 emoji 👩‍👩‍👧‍👦 family 🏳️‍🌈 flags 🇩🇪",
    "price: $1,234.56 (50% off!) e-mail@example.org https://example.org/?q=1&r=2#x",
    "tabs\tand\nnew\r\nlines\u00a0and\u3000spaces\u2003here",
    "control\u0007char\u0000in\u001bside\ufffdand soft\u00adhyphen",
    "[CLS] special [SEP] tokens [MASK] in [UNK] text [PAD]",
    "[cls] [ SEP ] [[SEP]] [SEP][SEP]",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101,
    "ﬁ ﬂ ligatures ½ ² ™ ℃ full ｗｉｄｔｈ",
    "\ufeffbyte order mark",
    "snake_case camelCase kebab-case SCREAMING_CASE 3.14159 0x1F",
    "\U0001F600\U00010348\U0010FFFF",
]
LONG = [
    ("The quick brown fox jumps over the lazy dog. ", 200),
    ("word ", 254),
    ("word ", 255),
    ("word ", 300),
    (".", 40000),
    ("a", 50000),
    ("漢", 20000),
    ("😀", 20000),
    (" ", 60000),
    ("e\u0301", 30000),
    ("[SEP]", 8000),
    ("][", 20000),
    ("unbelievably, fast!?... [MASK] 漢字 \u0300 ", 1500),
]


def main() -> None:
    """Writes the file."""
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / BACKBONE / "tokenizer.json"))
    tokenizer.no_padding()
    cases = []
    for text, repeat in [(text, 1) for text in TEXTS] + LONG:
        tokenizer.no_truncation()
        whole = tokenizer.encode(text * repeat).ids
        rules = {"end": "right"} if len(whole) <= MAX_TOKENS else {"end": "right", "start": "left"}
        for truncate, direction in rules.items():
            tokenizer.enable_truncation(MAX_TOKENS, direction=direction)
            ids = tokenizer.encode(text * repeat).ids
            cases.append({"text": text, "repeat": repeat, "truncate": truncate, "tokens": len(whole), "ids": ids})
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    target = ROOT / "tests" / "golden" / "text" / f"{BACKBONE}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'{{\n  "max_tokens": {MAX_TOKENS},\n  "cases": [\n{lines}\n  ]\n}}\n')
    print(f"{len(cases)} cases, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
