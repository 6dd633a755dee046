"""Picture files of every format and kind the service takes, made from the example photos; and files made to hurt."""

import dataclasses
import io
import struct
import zlib

import numpy
from PIL import Image
from service import EXAMPLES

ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file and what it is declared as."""

    name: str
    data: bytes
    media_type: str
    # Whether decoders may differ in a byte: their inverse transforms and chroma filters do.
    lossy: bool = False

    def __str__(self):
        return self.name


def photos():
    """The example photos as RGB pictures, in order of name."""
    return [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]


def cat():
    """The bytes of the example photo of a cat."""
    return (EXAMPLES / "cat.jpg").read_bytes()


def saved(image, file_format, **options):
    """The bytes of `image` in a format of Pillow's."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def every_format(photo):
    """`photo` in every format and kind of pixel."""
    return [*_jpegs(photo), *_pngs(photo), *_webps(photo), *_gifs(photo), *_bitmaps(photo), *_tiffs(photo)]


def _jpegs(photo):
    def jpeg(name, image, **options):
        return Picture(f"jpeg {name}", saved(image, "JPEG", **options), "image/jpeg", lossy=True)

    return [
        jpeg("4:2:0", photo, quality=85, subsampling=2),
        jpeg("4:4:4", photo, quality=95, subsampling=0),
        jpeg("progressive", photo, quality=85, progressive=True),
        jpeg("grey", photo.convert("L"), quality=90),
        jpeg("cmyk", photo.convert("CMYK"), quality=90),
    ]


def _pngs(photo):
    def png(name, data):
        return Picture(f"png {name}", data, "image/png")

    fading = _with_alpha(photo)
    palette = photo.quantize(200)
    clear = palette.copy()
    clear.info["transparency"] = 3
    deep = numpy.asarray(photo).astype(numpy.uint16) * 256 + 77
    return [
        png("rgb", saved(photo, "PNG")),
        png("grey", saved(photo.convert("L"), "PNG")),
        png("one bit", saved(photo.convert("1"), "PNG")),
        png("alpha", saved(fading, "PNG")),
        png("grey alpha", saved(fading.convert("LA"), "PNG")),
        png("palette", saved(palette, "PNG")),
        png("palette of 4 bits", saved(photo.quantize(16), "PNG", bits=4)),
        png("palette with transparency", saved(clear, "PNG", transparency=3)),
        png("16 bit rgb", deep_png(deep)),
    ]


def _webps(photo):
    return [
        Picture("webp lossy", saved(photo, "WEBP", quality=85), "image/webp", lossy=True),
        Picture("webp lossless", saved(photo, "WEBP", lossless=True), "image/webp"),
        Picture("webp alpha", saved(_with_alpha(photo), "WEBP", lossless=True, exact=True), "image/webp"),
    ]


def _gifs(photo):
    still = saved(photo.quantize(255), "GIF")
    later = Image.new("RGB", photo.size, (255, 0, 0)).quantize(4)
    moving = saved(photo.quantize(255), "GIF", save_all=True, append_images=[later, later], duration=100)
    return [Picture("gif", still, "image/gif"), Picture("gif animation", moving, "image/gif")]


def _bitmaps(photo):
    kinds = {"rgb": photo, "grey": photo.convert("L"), "palette": photo.quantize(100), "one bit": photo.convert("1")}
    return [Picture(f"bmp {name}", saved(image, "BMP"), "image/bmp") for name, image in kinds.items()]


def _tiffs(photo):
    def tiff(name, image, **options):
        return Picture(f"tiff {name}", saved(image, "TIFF", **options), "image/tiff")

    return [
        tiff("rgb", photo),
        tiff("lzw", photo, compression="tiff_lzw"),
        tiff("deflate", photo, compression="tiff_adobe_deflate"),
        tiff("packbits", photo, compression="packbits"),
        tiff("grey", photo.convert("L")),
        tiff("cmyk", photo.convert("CMYK")),
        tiff("palette", photo.quantize(200)),
        tiff("alpha", _with_alpha(photo)),
        dataclasses.replace(tiff("jpeg", photo, compression="jpeg", quality=90), lossy=True),
    ]


def _with_alpha(photo):
    """`photo` fading from clear on the left to solid on the right."""
    ramp = numpy.linspace(0, 255, photo.width).astype(numpy.uint8)
    fading = photo.copy()
    fading.putalpha(Image.fromarray(numpy.tile(ramp, (photo.height, 1))))
    return fading


def turned(photo):
    """`photo` as files whose EXIF block names each of the eight orientations."""
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        name = f"orientation {orientation}"
        files += [
            Picture(f"jpeg {name}", saved(photo, "JPEG", quality=90, exif=exif), "image/jpeg", lossy=True),
            Picture(f"png {name}", saved(photo, "PNG", exif=exif), "image/png"),
            Picture(f"webp {name}", saved(photo, "WEBP", lossless=True, exif=exif), "image/webp"),
            Picture(f"tiff {name}", saved(photo, "TIFF", exif=exif), "image/tiff"),
        ]
    return files


def deep_png(samples):
    """A PNG of 16 bits a sample; `samples` is `[height, width]` or `[height, width, 3]`, which Pillow cannot write."""
    height, width = samples.shape[:2]
    colour_type = 2 if samples.ndim == 3 else 0
    rows = samples.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    return png_file(width, height, 16, colour_type, raw)


def png_file(width, height, depth, colour_type, raw):
    """A PNG whose header says what is given, whether or not the data agrees."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bombs():
    """Small files whose headers claim a hundred megapixels."""
    side = 10_000
    small = Image.new("RGB", (16, 16), (10, 20, 30))
    gif = bytearray(saved(small.quantize(4), "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    bitmap = bytearray(saved(small, "BMP"))
    bitmap[18:26] = struct.pack("<ii", side, side)
    jpeg = bytearray(saved(small, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return [
        Picture("png bomb", png_file(side, side, 8, 2, bytes(side)), "image/png"),
        # Data that agrees with its header: ten kilobytes that expand to a hundred megabytes.
        Picture("png bomb, whole", png_file(side, side, 8, 0, bytes(side * (side + 1))), "image/png"),
        Picture("gif bomb", bytes(gif), "image/gif"),
        Picture("bmp bomb", bytes(bitmap), "image/bmp"),
        Picture("jpeg bomb", bytes(jpeg), "image/jpeg"),
    ]


def truncated(photo):
    """Files of each format that end in the middle."""
    whole = [
        Picture("jpeg", saved(photo, "JPEG"), "image/jpeg"),
        Picture("png", saved(photo, "PNG"), "image/png"),
        Picture("webp", saved(photo, "WEBP", lossless=True), "image/webp"),
        Picture("gif", saved(photo.quantize(200), "GIF"), "image/gif"),
        Picture("bmp", saved(photo, "BMP"), "image/bmp"),
        Picture("tiff", saved(photo, "TIFF", compression="tiff_lzw"), "image/tiff"),
    ]
    return [
        Picture(f"{file.name} cut after {share:.0%}", file.data[: int(len(file.data) * share)], file.media_type)
        for file in whole
        for share in (0.01, 0.5, 0.9)
    ]
