"""Writes tests/golden/words/: a small table of word vectors and what a second implementation makes of texts.

    pip install -r tools/golden/requirements.txt
    python tools/golden/words.py

`table.txt` is GloVe's text form, seeded random numbers for words of the real vocabularies' kinds. `cases.json` has for
each text the words by docs/MODELS.md's rule, written here a second time with regular expressions, and three vectors:
the plain mean by gensim, and SIF's (Arora, Liang and Ma 2017) with a common component by scikit-learn's TruncatedSVD, as
the authors' code fits it, and with the component that word probabilities alone give, by numpy's eigenvectors.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from gensim.models import KeyedVectors
from sklearn.decomposition import TruncatedSVD

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "tests" / "golden" / "words"
DIMENSION = 12
SMOOTHING = 1e-3
LENGTH = 10

# In order of how often they are said to occur.
WORDS = list(dict.fromkeys("""the , . of to and in a " 's for - that on is was said with he as it by at ( ) from his '' `` an be has are
have but were not this who they had i which will their : or its one after new been also we would two more ' first
about up when year there all -- out she other people n't her percent than over into last some government time $ you
years if no world can three do ; president only state million could us most _ against u.s. so them what him united
during before may since many while where states because now city made like between did just national day country
under such second then company group any through china four being down war back off south american well good ...
part-time 're 've 'll 'm 'd ca wo money back please refund order my where café naïve % / & ? ! … ’ “ ” 12 1,000 3.5
no. mr. p.m. cats dogs mat sit run running old red blue green happy angry train plane e-mail mail und straße""".split()))

TEXTS = [
    "The cats sit on the mat.",
    "I want my money back, please!",
    "He said he wouldn't; they can't.",
    "It's the U.S. government's money.",
    "It was made in the U.S.",
    "Where is my refund?? Where is it...",
    "the answer is no.",
    "no. 12 is red",
    'She said: "We\'ve been happy (so far)."',
    "part-time/full-time e-mail",
    "$1,000 or 3.5%",
    "don’t say “no”",
    "Ein CAFÉ und die STRASSE",
    "漢字 😀 unknownword",
    "",
    "   \n\t ",
    "!!!",
    "a—b–c",
    "the-the-the--the",
    "old red train runs to the blue city after 12 p.m.",
    "'s n't",
    "Mr. president, who's it?",
    "she'd've run",
    "x" * 300,
]

FITTED_ON = TEXTS[:13] + TEXTS[17:23]


def is_mark(character: str) -> bool:
    """Neither letter nor digit nor combining accent."""
    return not character.isalnum() and not 0x300 <= ord(character) <= 0x36F


def runs(marks: str, known: set[str]) -> list[str]:
    """Marks: the same one several times is one word where the table has it so."""
    found = []
    for run in re.findall(r"((.)\2*)", marks, re.S):
        found += [run[0]] if run[0] in known else list(run[0])
    return found


def at_marks(word: str, known: set[str]) -> list[str]:
    """Cut at marks from the front until the table has the rest."""
    if word in known or not any(map(is_mark, word)):
        return [word]
    start = next(at for at, character in enumerate(word) if is_mark(character))
    end = start + next((n for n, c in enumerate(word[start:]) if not is_mark(c)), len(word) - start)
    return [word[:start], *runs(word[start:end], known), *(at_marks(word[end:], known) if word[end:] else [])]


def cut(piece: str, last: bool, known: set[str]) -> list[str]:
    """One piece between white space."""
    stop = last and re.fullmatch(r"[^.]+\.", piece)
    if piece in known and not stop:
        return [piece]
    words = []
    while piece and is_mark(piece[0]):
        run = re.match(r"(.)\1*", piece, re.S)[0]
        words += runs(run, known)
        piece = piece[len(run) :]
        if piece in known:
            return [*words, piece]
    if not piece:
        return words
    end = len(piece)
    while is_mark(piece[end - 1]):
        end -= 1
        if piece[:end] in known:
            break
    body, behind = piece[:end], piece[end:]
    ending = None if body in known else re.fullmatch(r"(.*[^\W_])(n't|'s|'m|'d|'re|'ve|'ll)", body, re.S)
    words += [*at_marks(ending[1], known), ending[2]] if ending else at_marks(body, known)
    return [*words, *runs(behind, known)]


def words_of(text: str, known: set[str]) -> list[str]:
    """A text's words, small letters."""
    text = re.sub(r"(?<=[^\W_])’(?=[^\W_])", "'", text.lower())
    pieces = text.split()
    return [word for at, piece in enumerate(pieces) for word in cut(piece, at == len(pieces) - 1, known)]


def main() -> None:
    """Writes both files."""
    random = np.random.default_rng(9)
    # A part that all share, as real vectors have.
    vectors = random.normal(size=(len(WORDS), DIMENSION)) + 0.5 * random.normal(size=DIMENSION)
    vectors = np.round(vectors, 4).astype(np.float32)
    table = KeyedVectors(DIMENSION)
    table.add_vectors(WORDS, vectors)
    known = set(WORDS)
    rank = {word: at for at, word in enumerate(WORDS)}
    ranks = np.arange(1, len(WORDS) + 1)
    probability = 1 / ranks / (1 / ranks).sum()
    weight = SMOOTHING / (SMOOTHING + probability)

    def weighted(words: list[str]) -> np.ndarray:
        rows = [rank[word] for word in words if word in known]
        if not rows:
            return np.zeros(DIMENSION)
        return (vectors[rows].astype(np.float64) * weight[rows, None]).sum(0) / len(rows)

    fitted = TruncatedSVD(n_components=1, n_iter=100, random_state=0)
    fitted.fit(np.stack([weighted(words_of(text, known)) for text in FITTED_ON]))
    component = fitted.components_[0]
    heavy = vectors.astype(np.float64) * weight[:, None]
    mean = probability @ heavy
    moment = (heavy * probability[:, None]).T @ heavy / LENGTH + (1 - 1 / LENGTH) * np.outer(mean, mean)
    expected = np.linalg.eigh(moment)[1][:, -1]

    cases = []
    for text in TEXTS:
        words = words_of(text, known)
        there = [word for word in words if word in known]
        plain = table.get_mean_vector(there, pre_normalize=False) if there else np.zeros(DIMENSION)
        sif = weighted(words)
        cases.append({
            "text": text,
            "words": words,
            "unknown": len(words) - len(there),
            "mean": plain.tolist(),
            "sif_of_texts": (sif - component * (component @ sif)).tolist(),
            "sif_expected": (sif - expected * (expected @ sif)).tolist(),
        })
    TARGET.mkdir(parents=True, exist_ok=True)
    lines = (f"{word} {' '.join(f'{value:.4f}' for value in row)}" for word, row in zip(WORDS, vectors, strict=True))
    (TARGET / "table.txt").write_text("\n".join(lines) + "\n")
    head = json.dumps({"smoothing": SMOOTHING, "fitted_on": FITTED_ON}, ensure_ascii=False)[:-1]
    body = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in cases)
    (TARGET / "cases.json").write_text(f'{head}, "cases": [\n{body}\n]}}\n')
    print(f"{len(cases)} cases, {len(WORDS)} words")


if __name__ == "__main__":
    main()
