"""Every kind of dirty upload over REST: all that is wrong is listed with its place, no job takes it, and the server stays up."""

import base64
import gzip
import io
import json
import os
import random
import struct
import tarfile
import time
import zipfile

import pytest
from service import FAST_TEXT, ROOT

DATA = ROOT / "crates" / "datasets" / "tests" / "data"
MUTANTS = int(os.environ.get("HEADSTART_MUTANTS", "200"))
ANSWERED_WITHIN_SECONDS = 20

GOOD = [{"text": f"about {label} number {number} of its kind", "label": label} for number in range(4) for label in ("rain", "sun")]


def jsonl(*rows):
    """Good rows, then these."""
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in (*GOOD, *rows))


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members, mode="w:gz"):
    """Members are `(name, bytes)`, or whole `TarInfo`s."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


FOLDERS = [(f"{label}/{number}.txt", f"about {label}, the {number}th".encode()) for number in range(3) for label in ("rain", "sun")]


def with_bit(archive, signature, offset, value):
    """An archive whose headers of one kind have a byte changed."""
    parts = archive.split(signature)
    return signature.join([parts[0], *(part[:offset] + bytes([value]) + part[offset + 1 :] for part in parts[1:])])


def doubled(name, other):
    """An archive in which an entry is given the name of another."""
    return zipped([*FOLDERS, (name, b"again")]).replace(name.encode(), other.encode())


def encrypted():
    """The flag alone: what follows is not read."""
    locked = with_bit(zipped(FOLDERS), b"PK\x03\x04", 2, 1)
    return with_bit(locked, b"PK\x01\x02", 4, 1)


def million_entries():
    """An end of a directory that states fifty million entries."""
    count = struct.pack("<QQ", 50_000_000, 50_000_000)
    end = b"PK\x06\x06" + struct.pack("<Q", 44) + bytes(12) + count + bytes(16)
    return b"PK\x03\x04" + bytes(96) + end + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)


def large_entry():
    """65 MiB in one entry, at a ratio that data may have."""
    chance = random.Random(1)
    block = b"".join(chance.randbytes(6) + bytes(1018) for _ in range(1024))
    return zipped([("rain/large.txt", block * 65), *FOLDERS])


def wide_picture():
    """A PNG's header that states 60,000 × 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0\0\0\0"
    return zipped([("rain/wide.png", picture), ("sun/wide.png", picture)])


def split_rows(*rows):
    return b"\n".join(json.dumps(row).encode() for row in rows)


TRAIN = [{"text": f"the weather report of day {number} says {label}", "label": label, "split": "train"} for number in range(4) for label in ("rain", "sun")]
LONG = "it went on and on about the weather, a very long sentence, for quite a while, and it told those who had come to hear it nothing new about rain at all"

# Name and bytes of the file, and the place and code of each problem in it.
PROBLEMS = {
    "not JSON, no label, empty text": (
        "a.jsonl",
        lambda: jsonl(b"not json", {"text": "no label"}, {"text": " ", "label": "rain"}, {"label": "rain"}, {"text": "x", "label": ""}),
        [(9, "not_json"), (10, "no_label"), (11, "empty_text"), (12, "no_content"), (13, "empty_label")],
    ),
    "labels and columns of wrong types": (
        "a.jsonl",
        lambda: jsonl({"text": "x", "label": {"a": 1}}, {"text": 5.5, "label": "rain"}, {"text": "y", "label": "rain", "group": [1]}),
        [(9, "bad_label"), (10, "bad_content"), (11, "bad_field")],
    ),
    "splits of no known name, and some of none": (
        "a.jsonl",
        lambda: split_rows(*TRAIN, {"text": "a", "label": "sun", "split": "trian"}, {"text": "b", "label": "sun"}),
        [(9, "unknown_split"), (10, "partial_split")],
    ),
    "media that no decoder takes": (
        "a.jsonl",
        lambda: split_rows(
            {"image": "!!!!", "label": "a"},
            {"image": base64.b64encode(b"hello world").decode(), "label": "b"},
            {"image": base64.b64encode((DATA / "0.png").read_bytes()[:60]).decode(), "label": "b"},
        ),
        [(1, "undecodable_media"), (2, "unsupported_media"), (3, "undecodable_media")],
    ),
    "pictures cut short in an archive": (
        "a.zip",
        lambda: zipped([("rain/0.png", (DATA / "0.png").read_bytes()[:60]), ("sun/1.jpg", (DATA / "1.jpg").read_bytes()[:300]), ("sun/2.jpg", b"no picture")]),
        [("rain/0.png", "undecodable_media"), ("sun/1.jpg", "undecodable_media"), ("sun/2.jpg", "unsupported_media")],
    ),
    "a picture of too many pixels": ("a.zip", wide_picture, [("rain/wide.png", "media_too_large"), ("sun/wide.png", "media_too_large")]),
    "one line of Latin-1": ("a.jsonl", lambda: jsonl('{"text": "Grüße", "label": "sun"}'.encode("latin-1")), [(9, "wrong_encoding")]),
    "a table of Latin-1": ("a.csv", lambda: (DATA / "latin1.csv").read_bytes(), [(..., "wrong_encoding")]),
    "a table of UTF-16": ("a.csv", lambda: (DATA / "utf16.csv").read_bytes(), [(..., "wrong_encoding")]),
    "a class of one example": ("a.jsonl", lambda: jsonl({"text": "snow", "label": "snow"}), [(9, "few_examples")]),
    "one class": ("a.csv", lambda: b"text,label\none,a\ntwo,a\nthree,a\n", [(None, "one_class")]),
    "a class without training rows": (
        "a.jsonl",
        lambda: split_rows(*TRAIN, *({"text": f"snow {n}", "label": "snow", "split": "test"} for n in range(3))),
        [(9, "class_not_in_train")],
    ),
    "no training rows": ("a.jsonl", lambda: split_rows(*({**row, "split": "test"} for row in TRAIN)), [(None, "no_training_rows")]),
    "a table without the columns": ("a.csv", lambda: b"premise,gold\na,b\nc,d\n", [(None, "missing_column")]),
    "rows of other lengths": ("a.tsv", lambda: b"text\tlabel\none\ta\ntwo\tb\tc\nthree\nfour\tb\n", [(3, "row_length"), (4, "row_length")]),
    "a quote that is never closed": ("a.csv", lambda: b'text,label\none,a\n"two,b\nthree,a\nfour,b\n', [(3, ...)]),
    "a chat": ("a.jsonl", lambda: split_rows({"messages": [{"role": "user", "content": "hi"}]}), [(1, "chat_format")]),
    "Parquet cut short": ("a.parquet", lambda: (DATA / "texts.snappy.parquet").read_bytes()[:-40], [(None, "damaged_file")]),
    "Parquet of a compression that is not read": ("a.parquet", lambda: (DATA / "texts.brotli.parquet").read_bytes(), [(..., "unsupported_compression")]),
    "tar.gz cut short": ("a.tar.gz", lambda: (DATA / "gnu.tar.gz").read_bytes()[:-60], [(..., "damaged_file")]),
    "zip cut short": ("a.zip", lambda: zipped(FOLDERS)[:-30], [(..., "damaged_file")]),
    "a zip that leads outside": (
        "a.zip",
        lambda: zipped([*FOLDERS, ("../../etc/passwd", b"x"), ("/etc/shadow", b"x"), ("rain\\..\\..\\boot.ini", b"x")]),
        [("../../etc/passwd", "unsafe_path"), ("/etc/shadow", "unsafe_path"), (..., "unsafe_path")],
    ),
    "a tar that leads outside": ("a.tar", lambda: tarred([*FOLDERS, ("../../../root/.profile", b"x")], "w"), [("../../../root/.profile", "unsafe_path")]),
    "links": (
        "a.tar.gz",
        lambda: tarred([*FOLDERS, link("rain/link.txt", "/etc/passwd"), link("sun/hard.txt", "rain/0.txt", tarfile.LNKTYPE), link("sun/pipe", "", tarfile.FIFOTYPE)]),
        [("rain/link.txt", "link_entry"), ("sun/hard.txt", "link_entry"), ("sun/pipe", "link_entry")],
    ),
    "a bomb by ratio": ("a.zip", lambda: zipped([("rain/large.txt", bytes(30_000_000)), *FOLDERS]), [(..., "suspicious_ratio")]),
    "a bomb by ratio in gzip": ("a.jsonl.gz", lambda: gzip.compress(b" " * 30_000_000), [(..., "suspicious_ratio")]),
    "a bomb by ratio in tar.gz": ("a.tar.gz", lambda: tarred([("rain/large.txt", bytes(30_000_000)), *FOLDERS]), [(..., "suspicious_ratio")]),
    "a bomb by entries": ("a.zip", million_entries, [(None, "too_many_entries")]),
    "a bomb by bytes": ("a.zip", large_entry, [("rain/large.txt", "entry_too_large")]),
    "an encrypted entry": ("a.zip", encrypted, [("rain/0.txt", "encrypted_entry")]),
    "a compression that is not read": ("a.zip", lambda: zipped(FOLDERS, zipfile.ZIP_LZMA), [("rain/0.txt", "unsupported_compression")]),
    "one path twice": ("a.tar", lambda: tarred([*FOLDERS, ("rain/0.txt", b"again")], "w"), [("rain/0.txt", "duplicate_path")]),
    "one path twice in a zip": ("a.zip", lambda: doubled("rain/x.txt", "rain/0.txt"), [("rain/0.txt", "duplicate_path")]),
    "files at other depths": ("a.zip", lambda: zipped([*FOLDERS, ("rain/heavy/hail/1.txt", b"deep")]), [("rain/heavy/hail/1.txt", "mixed_depth")]),
    "nothing": ("a.jsonl", lambda: b"", [(None, "empty_file")]),
    "a document": ("a.pdf", lambda: b"%PDF-1.7\n\x00\x01\x02\xff" * 20, [(None, "unknown_format")]),
}

# What official data sets have as well: the file is taken, and its owner told.
WARNINGS = {
    "equal rows across splits": ([*TRAIN, {**TRAIN[0], "split": "test"}], [(9, "duplicate_across_splits")]),
    "nearly equal rows across splits": (
        [*TRAIN, {"text": LONG, "label": "rain", "split": "train"}, {"text": LONG.replace("long", "slow"), "label": "rain", "split": "test"}],
        [(10, "near_duplicate_across_splits")],
    ),
    "one text under two labels": ([*TRAIN, {**TRAIN[0], "label": "sun"}], [(9, "label_conflict")]),
    "a group on both sides": (
        [{**row, "group": "g", "split": ("train", "test")[number // 6]} for number, row in enumerate(TRAIN)],
        [(1, "group_across_splits")],
    ),
    "a class that is a group": ([{**row, "group": row["label"]} for row in TRAIN], [(1, "class_in_one_group"), (..., "class_in_one_group")]),
}


def upload(service, name, content, **fields):
    started = time.monotonic()
    reply = service.http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "fine-tune", **fields})
    assert time.monotonic() - started < ANSWERED_WITHIN_SECONDS
    return reply


def check_listed(found, expected):
    """Each expected place and code is among the findings; `...` stands for any."""
    told = [(finding.get("line") or finding.get("path"), finding["code"]) for finding in found]
    for place, code in expected:
        assert any((place is ... or place == at) and (code is ... or code == named) for at, named in told), f"{(place, code)} is not among {told}"
    assert all(finding["message"] for finding in found)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_each_kind_of_dirt_is_listed_with_its_place(service, kind):
    name, content, expected = PROBLEMS[kind]
    reply = upload(service, name, content())
    assert reply.status_code == 200, reply.text
    file = reply.json()
    assert file["status"] == "error" and file["status_details"], file
    check_listed(file["problems"], expected)
    assert sum(file["problem_counts"].values()) >= len(file["problems"])
    assert service.http.get(f"/v1/files/{file['id']}").json() == file
    refused = service.post("/v1/fine_tuning/jobs", {"model": FAST_TEXT, "training_file": file["id"]})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "training_file", refused.text
    assert service.http.delete(f"/v1/files/{file['id']}").status_code == 200
    assert len(service.embed(FAST_TEXT, "still here")) == 1


@pytest.mark.parametrize("kind", WARNINGS)
def test_what_should_be_known_is_told_and_the_file_is_taken(service, kind):
    rows, expected = WARNINGS[kind]
    file = upload(service, "a.jsonl", split_rows(*rows), validate_only="true").json()
    assert file["status"] == "processed", file
    check_listed(file["warnings"], expected)


def mutated(content, chance):
    """One to four changes: a byte set or flipped, a part cut out, doubled or blanked, or the end cut off."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content) + 1)
        end = min(at + chance.randint(1, 64), len(content))
        change = chance.randrange(6)
        if change == 0:
            content[at:end] = chance.randbytes(end - at)
        elif change == 1 and at < len(content):
            content[at] ^= 1 << chance.randrange(8)
        elif change == 2:
            del content[at:end]
        elif change == 3:
            content[at:at] = content[at:end]
        elif change == 4:
            content[at:end] = bytes(end - at)
        else:
            del content[at:]
    return bytes(content)


def test_files_damaged_by_chance_are_judged_and_never_an_error(service):
    chance = random.Random(20)
    sources = sorted(path for path in DATA.iterdir() if path.suffix != ".json" or path.name.endswith(".jsonl"))
    originals = {path.name: path.read_bytes() for path in sources}
    seen = {"processed": 0, "error": 0}
    for number in range(MUTANTS):
        name = sources[number % len(sources)].name
        reply = upload(service, name, mutated(originals[name], chance), validate_only="true")
        assert reply.status_code == 200, f"{name}, mutant {number}: {reply.text}"
        file = reply.json()
        assert (file["status"] == "error") == bool(file["problems"]), f"{name}, mutant {number}"
        seen[file["status"]] += 1
    assert seen["error"] > MUTANTS // 4, seen
    assert service.metric("panics_total") == 0
