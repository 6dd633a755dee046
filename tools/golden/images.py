"""Writes tests/golden/images: small pictures in every variant the decoders take, with what Pillow makes of them.

    pip install -r tools/golden/requirements.txt
    python tools/golden/images.py

`index.json` lists the files with their size, the expected pixels' place in `pixels.bin` (RGB, 8 bits,
row by row) and how far a decoder may differ; and the resize cases, whose expected pixels are equal byte
for byte. Expected pixels are `ImageOps.exif_transpose(image).convert("RGB")`, but for 16-bit grey: there
Pillow clips at 255, and the high byte is expected instead, as Pillow does for 16-bit colour. Resizes are those of
Pillow up to 12, which always resizes along rows first; from 13 on it begins with the columns where that is faster,
which moves some bytes by one level.

`photo.png` is the one source picture: a crop of the cat in scikit-image's `data.chelsea()`, CC0, by Stefan van der Walt.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image, ImageOps

import raw_formats as raw

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "images"
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Levels by which a decoder may differ from Pillow's: at most, and on average.
EXACT = (0, 0.0)
# Another inverse transform and chroma filter than libjpeg-turbo's.
JPEG = (4, 0.35)
# Five and six bits widened to eight by rounding, where Pillow cuts.
WIDENED = (1, 0.6)


def pattern(width: int, height: int, channels: int, top: int, seed: int) -> raw.Samples:
    """Gradients with noise, `channels` samples of 0…`top`, no two rows or columns alike."""
    chance = random.Random(seed)
    rows = []
    for y in range(height):
        row = []
        for x in range(width):
            pixel = []
            for c in range(channels):
                slope = (x * (c + 1) / width + y * (3 - c % 3) / height) / 4
                pixel.append(max(0, min(top, round((slope + chance.uniform(-0.15, 0.15)) * top))))
            row.append(pixel)
        rows.append(row)
    return rows


def picture(mode: str, width: int = 13, height: int = 11, seed: int = 1) -> Image.Image:
    """A patterned Pillow picture of an 8-bit mode."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    data = bytes(sample for row in pattern(width, height, channels, 255, seed) for pixel in row for sample in pixel)
    return Image.frombytes(mode, (width, height), data)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int, order: str = "<") -> bytes:
    """A minimal EXIF block, without the `Exif\\0\\0` prefix."""
    block = Image.Exif()
    block.endian = order
    block[0x0112] = orientation
    return block.tobytes().removeprefix(b"Exif\0\0")


def jpegs(photo: Image.Image) -> dict[str, bytes]:
    """Baseline, progressive, each subsampling, each colour space, restart markers, odd sizes, orientations."""
    cmyk = photo.convert("CMYK")
    # Ink as photographs have it: some black, not only the three colours.
    bands = list(cmyk.split())
    bands[3] = photo.convert("L").point(lambda v: (255 - v) // 3)
    cmyk = saved(Image.merge("CMYK", bands), "JPEG", quality=90)
    # Marked YCCK, the same samples mean luma, two colour differences and black.
    luma = photo.convert("YCbCr").split()
    ycck = saved(Image.merge("CMYK", [band.point(lambda v: 255 - v) for band in (*luma, bands[3])]), "JPEG", quality=90)
    small = photo.crop((4, 4, 25, 16))
    files = {
        "jpeg-444": saved(photo, "JPEG", quality=90, subsampling="4:4:4"),
        "jpeg-422": saved(photo, "JPEG", quality=90, subsampling="4:2:2"),
        "jpeg-420": saved(photo, "JPEG", quality=75, subsampling="4:2:0"),
        "jpeg-progressive": saved(photo, "JPEG", quality=75, progressive=True),
        "jpeg-restart": saved(photo, "JPEG", quality=80, restart_marker_blocks=3, optimize=True),
        "jpeg-grey": saved(photo.convert("L"), "JPEG", quality=85),
        "jpeg-grey-progressive": saved(photo.convert("L"), "JPEG", quality=85, progressive=True),
        "jpeg-rgb": saved(photo, "JPEG", quality=90, keep_rgb=True),
        "jpeg-cmyk": cmyk,
        "jpeg-cmyk-unmarked": raw.jpeg_adobe_transform(cmyk, None),
        "jpeg-ycck": raw.jpeg_adobe_transform(ycck, 2),
        "jpeg-1x1": saved(photo.crop((5, 5, 6, 6)), "JPEG"),
        "jpeg-17x9": saved(photo.crop((5, 5, 22, 14)), "JPEG", quality=90),
        "jpeg-trailing": saved(small, "JPEG", quality=90) + b"\0\0trailing bytes",
    }
    for orientation in range(1, 9):
        order = "<" if orientation % 2 else ">"
        block = b"Exif\0\0" + exif(orientation, order)
        files[f"jpeg-orientation-{orientation}"] = saved(small, "JPEG", quality=92, subsampling="4:4:4", exif=block)
    return files


def pngs(photo: Image.Image) -> dict[str, bytes]:
    """Every colour type at every depth, interlaced too, with transparency and EXIF before and after the data."""
    files = {}
    for name, colour_type, channels, depths in [
        ("grey", 0, 1, (1, 2, 4, 8, 16)),
        ("rgb", 2, 3, (8, 16)),
        ("grey-alpha", 4, 2, (8, 16)),
        ("rgba", 6, 4, (8, 16)),
    ]:
        for depth in depths:
            samples = pattern(13, 11, channels, (1 << depth) - 1, depth)
            files[f"png-{name}-{depth}"] = raw.png(samples, depth, colour_type)
    for depth in (1, 2, 4, 8):
        colours = min(1 << depth, 200)
        samples = pattern(13, 11, 1, colours - 1, depth)
        palette = bytes(random.Random(depth).randrange(256) for _ in range(3 * colours))
        files[f"png-palette-{depth}"] = raw.png(samples, depth, 3, before=[(b"PLTE", palette)])
    palette_before = [(b"PLTE", palette), (b"tRNS", bytes(range(0, 200, 2)))]
    files["png-palette-transparent"] = raw.png(samples, 8, 3, before=palette_before)
    grey = pattern(13, 11, 1, 255, 3)
    files["png-grey-transparent"] = raw.png(grey, 8, 0, before=[(b"tRNS", bytes([0, grey[4][4][0]]))])
    colour = pattern(13, 11, 3, 255, 4)
    key = bytes(value for sample in colour[4][4] for value in (0, sample))
    files["png-rgb-transparent"] = raw.png(colour, 8, 2, before=[(b"tRNS", key)])
    files["png-interlaced-rgb-8"] = raw.png(colour, 8, 2, interlaced=True)
    files["png-interlaced-rgba-16"] = raw.png(pattern(13, 11, 4, 65535, 5), 16, 6, interlaced=True)
    files["png-interlaced-grey-2"] = raw.png(pattern(13, 11, 1, 3, 6), 2, 0, interlaced=True)
    files["png-interlaced-1x1"] = raw.png(pattern(1, 1, 3, 255, 7), 8, 2, interlaced=True)
    files["png-orientation-6"] = raw.png(colour, 8, 2, before=[(b"eXIf", exif(6, ">"))])
    files["png-orientation-late-8"] = raw.png(colour, 8, 2, after=[(b"eXIf", exif(8))])
    files["png-filtered"] = saved(photo.crop((0, 0, 31, 21)), "PNG", optimize=True)
    return files


def webps(photo: Image.Image) -> dict[str, bytes]:
    """Lossy and lossless, with alpha, animated, with EXIF bare and prefixed."""
    clear = photo.convert("RGBA")
    clear.putalpha(photo.convert("L"))
    other = ImageOps.mirror(photo)
    return {
        "webp-lossy": saved(photo, "WEBP", quality=80),
        "webp-lossless": saved(photo.crop((0, 0, 31, 21)), "WEBP", lossless=True),
        "webp-lossy-alpha": saved(clear, "WEBP", quality=80),
        "webp-lossless-alpha": saved(clear.crop((0, 0, 41, 29)), "WEBP", lossless=True, exact=True),
        "webp-animated": saved(
            photo.crop((0, 0, 31, 21)), "WEBP", lossless=True, save_all=True,
            append_images=[other.crop((0, 0, 31, 21))], duration=100,
        ),
        "webp-orientation-5": saved(picture("RGB"), "WEBP", lossless=True, exif=exif(5)),
        "webp-orientation-prefixed-7": saved(picture("RGB"), "WEBP", lossless=True, exif=b"Exif\0\0" + exif(7, ">")),
    }


def gifs(photo: Image.Image) -> dict[str, bytes]:
    """Plain, interlaced, transparent, animated, and frames that do not fill their screen."""
    indexed = photo.crop((0, 0, 31, 21)).quantize(32, dither=Image.Dither.NONE)
    other = ImageOps.mirror(indexed)
    plain = saved(indexed, "GIF", interlace=0)
    clear = saved(indexed, "GIF", interlace=0, transparency=3)
    return {
        "gif": plain,
        "gif-interlaced": saved(indexed, "GIF", interlace=1),
        "gif-transparent": clear,
        "gif-grey": saved(picture("L"), "GIF"),
        "gif-animated": saved(indexed, "GIF", save_all=True, append_images=[other], duration=100, loop=0),
        "gif-small-frame": raw.gif_screen(plain, 40, 30, 5, 7),
        "gif-small-frame-transparent": raw.gif_screen(clear, 40, 30, 0, 7),
        "gif-overhanging-frame": raw.gif_screen(plain, 25, 15, 3, 2),
    }


def bmps(_photo: Image.Image) -> dict[str, bytes]:
    """Each depth, palettes, bit masks, run lengths, and rows from the top."""
    samples = pattern(13, 11, 3, 255, 8)
    index = pattern(13, 11, 1, 15, 9)
    palette = bytes(random.Random(9).randrange(256) if i % 4 < 3 else 0 for i in range(64))
    rows_8 = [bytes(p[0] for p in row) for row in index]
    rows_4 = [raw.pack(row, 4) for row in index]
    five = [b"".join(((p[0] >> 3) << 10 | (p[1] >> 3) << 5 | p[2] >> 3).to_bytes(2, "little") for p in row) for row in samples]
    six = [b"".join(((p[0] >> 3) << 11 | (p[1] >> 2) << 5 | p[2] >> 3).to_bytes(2, "little") for p in row) for row in samples]
    masks = b"".join(mask.to_bytes(4, "little") for mask in (0xF800, 0x07E0, 0x001F))
    return {
        "bmp-1": saved(picture("L").convert("1"), "BMP"),
        "bmp-4": raw.bmp(rows_4, 13, 4, palette=palette),
        "bmp-8": raw.bmp(rows_8, 13, 8, palette=palette),
        "bmp-grey": saved(picture("L"), "BMP"),
        "bmp-24": saved(picture("RGB"), "BMP"),
        "bmp-32": saved(picture("RGBA"), "BMP"),
        "bmp-555": raw.bmp(five, 13, 16),
        "bmp-565": raw.bmp(six, 13, 16, compression=3, masks=masks),
        "bmp-top-down": raw.bmp([bytes(v for p in row for v in reversed(p)) for row in samples], 13, 24, top_down=True),
        "bmp-run-length": raw.bmp(rows_8, 13, 8, palette=palette, compression=1, body=raw.bmp_run_length(rows_8)),
    }


def tiffs(photo: Image.Image) -> dict[str, bytes]:
    """Each depth and colour space, each compression, planes, tiles, both byte orders, orientation."""
    indexed = photo.crop((0, 0, 31, 21)).quantize(32, dither=Image.Dither.NONE)
    sixteen = pattern(13, 11, 3, 65535, 10)
    eight = pattern(13, 11, 3, 255, 11)
    files = {
        "tiff-1": saved(picture("L").convert("1"), "TIFF"),
        "tiff-grey": saved(picture("L"), "TIFF"),
        "tiff-grey-4": raw.tiff(pattern(13, 11, 1, 15, 12), 4, 1),
        "tiff-white-is-zero": raw.tiff(pattern(13, 11, 1, 255, 13), 8, 0),
        "tiff-grey-16": raw.tiff(pattern(13, 11, 1, 65535, 14), 16, 1),
        "tiff-grey-16-big-endian": raw.tiff(pattern(13, 11, 1, 65535, 14), 16, 1, order=">"),
        "tiff-grey-alpha": saved(picture("LA"), "TIFF"),
        "tiff-palette": saved(indexed, "TIFF"),
        "tiff-palette-4": raw.tiff(
            pattern(13, 11, 1, 15, 15), 4, 3,
            extra={320: [random.Random(15).randrange(256) * 257 for _ in range(48)]},
        ),
        "tiff-rgb": saved(picture("RGB"), "TIFF"),
        "tiff-rgba": saved(picture("RGBA"), "TIFF"),
        "tiff-cmyk": saved(picture("CMYK"), "TIFF"),
        "tiff-rgb-16": raw.tiff(sixteen, 16, 2),
        "tiff-rgb-16-big-endian": raw.tiff(sixteen, 16, 2, order=">"),
        "tiff-rgba-16": raw.tiff(pattern(13, 11, 4, 65535, 16), 16, 2, extra={338: [2]}),
        "tiff-cmyk-16": raw.tiff(pattern(13, 11, 4, 65535, 17), 16, 5),
        "tiff-planar": raw.tiff(eight, 8, 2, planar=True),
        "tiff-tiled": raw.tiff(eight, 8, 2, tile=16),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        name = compression.removeprefix("tiff_").replace("_", "-")
        files[f"tiff-{name}"] = saved(picture("RGB"), "TIFF", compression=compression, strip_size=13 * 3 * 4)
    files["tiff-jpeg"] = saved(photo, "TIFF", compression="jpeg", quality=90)
    files["tiff-lzw-predictor"] = saved(picture("RGB"), "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    for orientation in (3, 6):
        files[f"tiff-orientation-{orientation}"] = saved(picture("RGB"), "TIFF", tiffinfo={274: orientation})
    return files


def expected(data: bytes) -> Image.Image:
    """What Pillow makes of a file, as RGB."""
    image = Image.open(io.BytesIO(data))
    image.load()
    if image.mode.startswith("I;16"):
        order = ">" if image.mode.endswith("B") else "<"
        high = image.tobytes()[0 if order == ">" else 1 :: 2]
        image = Image.frombytes("L", image.size, high)
    return ImageOps.exif_transpose(image).convert("RGB")


def preprocessed(image: Image.Image, size: int, resize: int, name: str) -> Image.Image:
    """Shorter side to `resize`, centre crop of `size`, rounding as torchvision's transforms do."""
    width, height = image.size
    if width <= height:
        target = (resize, int(resize * height / width))
    else:
        target = (int(resize * width / height), resize)
    image = image.resize(target, FILTERS[name])
    width, height = image.size
    if width < size or height < size:
        left, top = max(0, (size - width) // 2), max(0, (size - height) // 2)
        padded = Image.new("RGB", (max(size, width), max(size, height)))
        padded.paste(image, (left, top))
        image, (width, height) = padded, padded.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def main() -> None:
    """Writes every file."""
    source = Image.open(FOLDER / "photo.png").convert("RGB")
    photo = source.crop((8, 10, 55, 43))
    for old in FOLDER.iterdir():
        if old.name != "photo.png":
            old.unlink()
    pixels = bytearray()

    def keep(image: Image.Image) -> dict[str, int]:
        data = image.tobytes()
        offset = pixels.find(data)
        if offset < 0:
            offset = len(pixels)
            pixels.extend(data)
        return {"width": image.width, "height": image.height, "offset": offset}

    pictures, resizes = [], []
    for write in (jpegs, pngs, webps, gifs, bmps, tiffs):
        for name, data in write(photo).items():
            extension = name.split("-")[0].replace("jpeg", "jpg")
            file = f"{name}.{extension}"
            (FOLDER / file).write_bytes(data)
            most, mean = JPEG if "jpeg" in name else WIDENED if name in ("bmp-555", "bmp-565") else EXACT
            pictures.append({"file": file, **keep(expected(data)), "difference_max": most, "difference_mean": mean})
    sources = {"photo": source, "tall": source.rotate(90, expand=True).crop((3, 2, 40, 95)), "tiny": source.crop((40, 20, 45, 23))}
    places = {name: keep(image) for name, image in sources.items()}
    for name, size, resize in [
        ("photo", 24, 24), ("photo", 24, 28), ("photo", 19, 40), ("photo", 40, 65), ("photo", 23, 90), ("photo", 7, 8),
        ("tall", 24, 27), ("tall", 21, 37), ("tall", 33, 71), ("tiny", 20, 21), ("tiny", 3, 3), ("tiny", 1, 1),
        ("photo", 30, 16),
    ]:
        for filter_name in FILTERS:
            place = keep(preprocessed(sources[name], size, resize, filter_name))
            resizes.append({"source": name, "filter": filter_name, "size": size, "resize": resize, "offset": place["offset"]})
    (FOLDER / "pixels.bin").write_bytes(pixels)
    lines = ",\n".join("    " + json.dumps(entry) for entry in pictures)
    cases = ",\n".join("    " + json.dumps(entry) for entry in resizes)
    origins = ",\n".join(f"    {json.dumps(name)}: {json.dumps(place)}" for name, place in places.items())
    text = f'{{\n  "pictures": [\n{lines}\n  ],\n  "sources": {{\n{origins}\n  }},\n  "resizes": [\n{cases}\n  ]\n}}\n'
    (FOLDER / "index.json").write_text(text)
    total = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(pictures)} pictures, {len(resizes)} resizes, {total / 1000:.0f} kB")


if __name__ == "__main__":
    main()
