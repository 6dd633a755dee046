"""Writes the picture variants that Pillow reads but does not write.

Each writer takes plain samples and returns a file's bytes; sources are the formats' specifications
(PNG 3rd edition, TIFF 6.0, the Windows GDI bitmap structures, GIF89a).
"""

from __future__ import annotations

import struct
import zlib

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]

Samples = list[list[list[int]]]
"""``samples[y][x]`` is the list of one pixel's samples."""


def pack(row: list[list[int]], depth: int) -> bytes:
    """Packs one row's samples at `depth` bits, most significant first, padded to a whole byte."""
    bits = 0
    count = 0
    for pixel in row:
        for sample in pixel:
            bits = bits << depth | sample
            count += depth
    pad = -count % 8
    return (bits << pad).to_bytes((count + pad) // 8, "big")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: Samples, depth: int, colour_type: int, interlaced: bool = False,
        before: list[tuple[bytes, bytes]] = (), after: list[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG; `before` and `after` are chunks around the image data. Rows use filter 0."""
    height, width = len(samples), len(samples[0])
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    raw = b""
    for x0, y0, dx, dy in passes:
        for y in range(y0, height, dy):
            row = samples[y][x0::dx]
            if row:
                raw += b"\0" + pack(row, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw, 9)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def tiff(samples: Samples, depth: int, photometric: int, *, order: str = "<", planar: bool = False,
         tile: int = 0, extra: dict[int, list[int]] | None = None) -> bytes:
    """An uncompressed TIFF with 16-bit tags; `tile` is a tile's side, 0 for one strip a plane."""
    height, width, channels = len(samples), len(samples[0]), len(samples[0][0])
    planes = [[[[p[c]] for p in row] for row in samples] for c in range(channels)] if planar else [samples]

    def encode(rows: Samples) -> bytes:
        if depth == 16:
            return b"".join(struct.pack(f"{order}{len(p)}H", *p) for row in rows for p in row)
        return b"".join(pack(row, depth) for row in rows)

    def tiles(plane: Samples) -> list[bytes]:
        blank = [0] * len(plane[0][0])
        found = []
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                rows = [row[x : x + tile] for row in plane[y : y + tile]]
                rows = [row + [blank] * (tile - len(row)) for row in rows]
                rows += [[blank] * tile] * (tile - len(rows))
                found.append(encode(rows))
        return found

    blocks = [block for plane in planes for block in (tiles(plane) if tile else [encode(plane)])]
    offsets, data = [], b""
    for block in blocks:
        offsets.append(8 + len(data))
        data += block + b"\0" * (len(block) % 2)
    tags = {256: [width], 257: [height], 258: [depth] * channels, 259: [1], 262: [photometric], 277: [channels]}
    if planar:
        tags[284] = [2]
    sizes = [len(block) for block in blocks]
    tags |= {322: [tile], 323: [tile], 324: offsets, 325: sizes} if tile else {278: [height], 273: offsets, 279: sizes}
    tags |= extra or {}
    values, overflow = [], b""
    directory = 8 + len(data)
    end = directory + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", end + len(overflow))
            overflow += packed
        values.append(struct.pack(order + "HHI", tag, 3, len(numbers)) + field)
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(order + "HI", 42, directory)
    return head + data + struct.pack(order + "H", len(tags)) + b"".join(values) + b"\0\0\0\0" + overflow


def bmp(rows: list[bytes], width: int, bits: int, *, compression: int = 0, palette: bytes = b"",
        masks: bytes = b"", top_down: bool = False, body: bytes | None = None) -> bytes:
    """A BMP with a 40-byte header; `rows` are top first and packed, `body` replaces them when run-length coded."""
    if body is None:
        padded = [row + b"\0" * (-len(row) % 4) for row in rows]
        body = b"".join(padded if top_down else reversed(padded))
    height = -len(rows) if top_down else len(rows)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 2835, 2835, len(palette) // 4, 0)
    offset = 14 + len(info) + len(masks) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset) + info + masks + palette + body


def bmp_run_length(rows: list[bytes]) -> bytes:
    """Eight-bit rows as RLE8: encoded runs, and one literal run a row where neighbours differ."""
    out = b""
    for row in reversed(rows):
        at = 0
        while at < len(row):
            run = 1
            while at + run < len(row) and row[at + run] == row[at] and run < 255:
                run += 1
            literal = row[at : at + 6]
            if run == 1 and len(literal) == 6 and len(set(literal)) == 6:
                out += bytes([0, 6]) + literal
                at += 6
            else:
                out += bytes([run, row[at]])
                at += run
        out += b"\0\0"
    return out + b"\0\1"


def gif_screen(data: bytes, width: int, height: int, left: int, top: int) -> bytes:
    """The GIF `data` on a larger screen, its first frame moved to (`left`, `top`)."""
    out = bytearray(data)
    out[6:10] = struct.pack("<HH", width, height)
    at = 13 + (3 << (out[10] & 7) + 1 if out[10] & 128 else 0)
    while out[at] == 0x21:
        at += 2
        while out[at]:
            at += out[at] + 1
        at += 1
    assert out[at] == 0x2C
    out[at + 1 : at + 5] = struct.pack("<HH", left, top)
    return bytes(out)


def jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of each segment of a JPEG up to its first scan."""
    found = []
    at = 2
    while data[at + 1] != 0xDA:
        size = struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((data[at + 1], at, at + 2 + size))
        at += 2 + size
    return found


def jpeg_adobe_transform(data: bytes, transform: int | None) -> bytes:
    """The JPEG with its Adobe segment's colour transform replaced, or without that segment (`None`)."""
    start, end = next((start, end) for marker, start, end in jpeg_segments(data) if marker == 0xEE)
    if transform is None:
        return data[:start] + data[end:]
    return data[: start + 15] + bytes([transform]) + data[start + 16 :]
