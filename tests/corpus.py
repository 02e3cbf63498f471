"""Odd and broken picture files, made by code: each kind has one defined outcome.

``PICTURES`` become the picture that they show; ``BROKEN`` have a reason, matched without case.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from fiftyone_isoclip.demo.photographs import find_photographs
from fiftyone_isoclip.encoder import ImageLimits

SIZE = (120, 80)


@dataclass(frozen=True)
class Shown:
    """An odd file, the upright RGB picture it shows, and how far pixels may be off on average."""

    path: Path
    picture: Image.Image
    levels: float


def photograph() -> Image.Image:
    """A real photograph without symmetry, so that a flip, a turn or a wrong colour shows."""
    (found,) = (each for each in find_photographs() if each.name == "astronaut")
    with Image.open(found.path) as opened:
        return opened.convert("RGB").crop((60, 0, 360, 200)).resize(SIZE)


def _values(picture):
    return np.asarray(picture)


def _grey(picture):
    return picture.convert("L").convert("RGB")


def _saved(name, levels=0.0, change=lambda picture: picture, shown=lambda picture: picture, **how):
    """A kind that Pillow writes; what is shown is the photograph, or what is made of it."""

    def make(folder, picture):
        options = {key: value(picture) if callable(value) else value for key, value in how.items()}
        change(picture).save(folder / name, **options)
        return Shown(folder / name, shown(picture), levels)

    return make


def _turned(name, orientation, levels):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation

    def change(picture):
        return picture if turn is None else picture.transpose(turn)

    return _saved(name, levels, change, exif=exif.tobytes(), quality=95)


def _xmp_turned(folder, picture):
    xmp = b'http://ns.adobe.com/xap/1.0/\0<rdf tiff:Orientation="6"/>'
    plain = _jpeg(picture.transpose(Image.Transpose.ROTATE_90))
    notes = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    return Shown(_written(folder / "a.jpg", plain[:2] + notes + plain[2:]), picture, 3)


def _with_alpha(mode):
    """The upper half is seen through, onto white."""

    def change(picture):
        picture = picture.convert(mode)
        alpha = np.full(picture.size[::-1], 255, np.uint8)
        alpha[: len(alpha) // 2] = 0
        picture.putalpha(Image.fromarray(alpha))
        return picture

    def shown(picture):
        values = _values(_grey(picture) if mode == "LA" else picture).copy()
        values[: len(values) // 2] = 255
        return Image.fromarray(values)

    return {"change": change, "shown": shown}


def _see_through_palette(folder, picture):
    reduced = picture.quantize(64)
    numbers = _values(reduced)
    gone = int(numbers[0, 0])
    reduced.save(folder / "a.png", transparency=gone)
    values = _values(reduced.convert("RGB")).copy()
    values[numbers == gone] = 255
    return Shown(folder / "a.png", Image.fromarray(values), 0)


def _wide_png(channels):
    """16 bits a channel, the upper 8 of them those of the picture."""

    def make(folder, picture):
        values = _values(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).copy()
        shown = _grey(picture) if channels == 1 else picture
        order = {1: slice(None), 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        wide = (values if channels == 1 else values[..., order]).astype(np.uint16) * 257
        assert cv2.imwrite(str(folder / "a.png"), wide)
        return Shown(folder / "a.png", shown, 1)

    return make


def _wide_tiff(kind, scale, offset=0.0):
    def make(folder, picture):
        grey = _values(picture.convert("L")) / 255
        tifffile.imwrite(folder / "a.tif", (grey * scale + offset).astype(kind))
        # What leaves 0 to 1, or to 65535, spans the whole range once it is scaled.
        spans = offset < 0 or scale > (1 if np.dtype(kind).kind == "f" else 65535)
        shown = ImageOps.autocontrast(picture.convert("L")) if spans else picture.convert("L")
        return Shown(folder / "a.tif", shown.convert("RGB"), 1)

    return make


def _wide_colour_tiff(folder, picture):
    tifffile.imwrite(folder / "a.tif", _values(picture).astype(np.uint16) * 257, photometric="rgb")
    return Shown(folder / "a.tif", picture, 1)


def _foreign_primaries(picture):
    """A profile under which red and green would change places, were it applied."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def _chunk(kind, content):
    notes = PngImagePlugin.PngInfo()
    notes.add(kind, content)
    return notes


def _negative(picture):
    return [ImageOps.invert(picture)]


def _jpeg(picture, **how):
    content = io.BytesIO()
    picture.save(content, "JPEG", **{"quality": 95, **how})
    return content.getvalue()


def _followed_by_garbage(folder, picture):
    # With bytes in it that would be the marks of scans.
    garbage = b"\xff\xda\0\x08ftypmp42" * 500
    return Shown(_written(folder / "a.jpg", _jpeg(picture) + garbage), picture, 3)


def _ending_early(folder, picture):
    """Its header says that it is twice as high; what is not there is grey."""
    plain = _jpeg(picture, subsampling=0)
    place = plain.index(b"\xff\xc0") + 5
    width, height = picture.size
    content = plain[:place] + struct.pack(">HH", 2 * height, width) + plain[place + 4 :]
    shown = Image.new("RGB", (width, 2 * height), (128, 128, 128))
    shown.paste(picture)
    return Shown(_written(folder / "a.jpg", content), shown, 3)


def _without_a_suffix(folder, picture):
    return Shown(_written(folder / "IMG_0001", _jpeg(picture)), picture, 3)


def _wrong_suffix(folder, picture):
    return Shown(_written(folder / "a.png", _jpeg(picture)), picture, 3)


def _symlink(folder, picture):
    _written(folder / "real.jpg", _jpeg(picture))
    (folder / "a.jpg").symlink_to(folder / "real.jpg")
    return Shown(folder / "a.jpg", picture, 3)


PICTURES = {
    "png": _saved("a.png"),
    "png with long notes": _saved("a.png", pnginfo=_chunk(b"tEXt", b"k\0" + b"v" * 500_000)),
    "bmp": _saved("a.bmp"),
    "ppm": _saved("a.ppm"),
    "tiff": _saved("a.tif"),
    "lzw tiff": _saved("a.tif", compression="tiff_lzw"),
    "jpeg tiff": _saved("a.tif", 3, compression="jpeg", quality=95),
    "webp": _saved("a.webp", 3, quality=95),
    "lossless webp": _saved("a.webp", lossless=True),
    "avif": _saved("a.avif", 3, quality=95),
    "jpeg 2000": _saved("a.jp2"),
    "jpeg 2000 codestream": _saved("a.j2k"),
    "jpeg": _saved("a.jpg", 3, quality=95),
    "progressive jpeg": _saved("a.jpg", 3, quality=95, progressive=True),
    "grey jpeg": _saved("a.jpg", 2, lambda p: p.convert("L"), _grey, quality=95),
    "cmyk jpeg": _saved("a.jpg", 3, lambda p: p.convert("CMYK"), quality=95),
    "cmyk tiff": _saved("a.tif", 1, lambda p: p.convert("CMYK")),
    "jpeg with a trailer": _followed_by_garbage,
    "jpeg that ends early": _ending_early,
    "mpo": _saved("a.mpo", 3, save_all=True, append_images=_negative, quality=95),
    "no suffix": _without_a_suffix,
    "wrong suffix": _wrong_suffix,
    "symlink": _symlink,
    "16-bit grey png": _wide_png(1),
    "16-bit png": _wide_png(3),
    "16-bit png with alpha": _wide_png(4),
    "16-bit tiff": _wide_tiff(np.uint16, 65535),
    "16-bit colour tiff": _wide_colour_tiff,
    "signed 16-bit tiff": _wide_tiff(np.int16, 32767, -9000),
    "32-bit tiff": _wide_tiff(np.int32, 2_000_000_000),
    "float tiff": _wide_tiff(np.float32, 1),
    "float tiff of large numbers": _wide_tiff(np.float32, 4095),
    "float tiff below zero": _wide_tiff(np.float32, 10, -7),
    "palette": _saved(
        "a.png", 0, lambda p: p.quantize(128), lambda p: p.quantize(128).convert("RGB")
    ),
    "see-through palette": _see_through_palette,
    "grey with alpha": _saved("a.png", 1, **_with_alpha("LA")),
    "alpha png": _saved("a.png", 1, **_with_alpha("RGBA")),
    "alpha webp": _saved("a.webp", 1, lossless=True, **_with_alpha("RGBA")),
    "alpha tiff": _saved("a.tif", 1, **_with_alpha("RGBA")),
    "one bit": _saved(
        "a.png", 0, lambda p: p.convert("1"), lambda p: p.convert("1").convert("RGB")
    ),
    "fax": _saved(
        "a.tif",
        0,
        lambda p: p.convert("1"),
        lambda p: p.convert("1").convert("RGB"),
        compression="group4",
    ),
    "animated gif": _saved(
        "a.gif",
        0,
        lambda p: p.quantize(128),
        lambda p: p.quantize(128).convert("RGB"),
        save_all=True,
        append_images=_negative,
    ),
    "animated webp": _saved("a.webp", 0, save_all=True, append_images=_negative, lossless=True),
    "animated png": _saved("a.png", save_all=True, append_images=_negative),
    "animated avif": _saved("a.avif", 3, save_all=True, append_images=_negative, quality=95),
    "pages of a tiff": _saved("a.tif", save_all=True, append_images=_negative),
    "profile jpeg": _saved("a.jpg", 3, icc_profile=_foreign_primaries, quality=95),
    "profile png": _saved("a.png", icc_profile=_foreign_primaries),
    "gamma png": _saved("a.png", pnginfo=_chunk(b"gAMA", struct.pack(">I", 100_000))),
    "damaged notes": _saved("a.jpg", 3, exif=b"Exif\0\0garbage", quality=95),
    "turned by xmp": _xmp_turned,
    **{
        f"exif {orientation} {name}": _turned(f"a.{name}", orientation, levels)
        for name, levels in {"jpg": 3, "png": 0, "webp": 3, "tif": 0, "avif": 3}.items()
        for orientation in range(1, 9)
    },
}
"""What is read, and as what: ``make(folder, photograph) -> Shown``."""


def _written(path, content):
    path.write_bytes(content)
    return path


def _cut(name, share=0.5, **how):
    def make(folder, picture, draws):
        picture.save(folder / f"whole.{name}", **how)
        content = (folder / f"whole.{name}").read_bytes()
        (folder / f"whole.{name}").unlink()
        return _written(folder / f"a.{name}", content[: int(len(content) * share)])

    return make


def _containing(content, name="a.jpg"):
    return lambda folder, picture, draws: _written(folder / name, content)


def _noise(folder, picture, draws):
    return _written(folder / "a.jpg", draws.bytes(3000))


def _missing(folder, picture, draws):
    return folder / "gone.jpg"


def _folder(folder, picture, draws):
    (folder / "a.jpg").mkdir()
    return folder / "a.jpg"


def _fifo(folder, picture, draws):
    os.mkfifo(folder / "a.jpg")
    return folder / "a.jpg"


def _socket(folder, picture, draws):
    # By a relative name, because sockets take at most 108 bytes.
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.jpg")
    os.chdir(here)
    return folder / "a.jpg"


def _linked(target):
    def make(folder, picture, draws):
        (folder / "a.jpg").symlink_to(target)
        return folder / "a.jpg"

    return make


def _sparse(folder, picture, draws):
    with (folder / "a.jpg").open("wb") as file:
        file.truncate(ImageLimits().file_bytes + 1)
    return folder / "a.jpg"


def _blank(width, height):
    """A whole PNG of one bit a pixel: 112 MB of zeros are 500 kB."""

    def make(folder, picture, draws):
        rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 1)
        return _written(folder / "a.png", _png(width, height, rows=rows))

    return make


def _not_a_number(folder, picture, draws):
    values = _values(picture.convert("L")).astype(np.float32) / 255
    values[tuple(draws.integers(0, 80, 2))] = np.nan
    tifffile.imwrite(folder / "a.tif", values)
    return folder / "a.tif"


def _not_read_by_pillow(kind, **how):
    def make(folder, picture, draws):
        tifffile.imwrite(folder / "a.tif", _values(picture).astype(kind), **how)
        return folder / "a.tif"

    return make


def png_chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


_FEW_ROWS = zlib.compress(b"\0" * 100)


def _png(width, height, *between, rows=_FEW_ROWS):
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(between)
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )


_BOMB = zlib.compress(b"\0" * 80_000_000, 9)


def _gif(width, height):
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + b"\0\0\0\xff\xff\xff,"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02\x4c\x01\0;"
    )


def _gif_with_a_larger_frame():
    return _gif(4, 4).replace(
        struct.pack("<HHHHB", 0, 0, 1, 1, 0), struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    )


def _tiff(entries, after=b""):
    """A little-endian TIFF of one directory: entries (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + b"\0\0\0\0" + after


def _tiff_grey(width, height, *more):
    return [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), *more]


_HUGE_TILE = [
    (259, 3, 1, 8),
    (322, 4, 1, 60_000),
    (323, 4, 1, 60_000),
    (324, 4, 1, 8),
    (325, 4, 1, 9),
]
_HUGE_TAG = [(259, 3, 1, 1), (273, 4, 0x3FFFFFFC, 8), (279, 4, 1, 64)]


def _tiff_of_one_value_many_times(folder, picture, draws):
    """A directory whose 60,000 values are the same 5 MB: 300 GB, were they all read."""
    values = [(tag, 1, 5_000_000, 8) for tag in range(1000, 61_000)]
    return _written(folder / "a.tif", _tiff(_tiff_grey(8, 8, *values), b"\0" * 4_500_000))


def _jpeg_of_many_scans(folder, picture, draws):
    plain = _jpeg(Image.new("L", (1000, 1000)), progressive=True)
    last = plain.rindex(b"\xff\xda")
    return _written(folder / "a.jpg", plain[:-2] + plain[last:-2] * 1000 + plain[-2:])


def j2k(width, height, *, tile=None, precinct=15):
    """A JPEG 2000 codestream of grey without data; precincts have a side of 2 ** precinct."""

    def segment(marker, content):
        return struct.pack(">HH", marker, len(content) + 2) + content

    across, down = tile or (width, height)
    extent = struct.pack(">HIIIIIIII", 0, width, height, 0, 0, across, down, 0, 0)
    coding = struct.pack(">BBHB", 1, 0, 1, 0) + bytes([5, 4, 4, 0, 1] + [precinct * 17] * 6)
    steps = bytes([0x40] + [64] * 16)
    tiles = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + b"\0" * 50
    return (
        b"\xff\x4f"
        + segment(0xFF51, extent + struct.pack(">H", 1) + b"\x07\x01\x01")
        + segment(0xFF52, coding)
        + segment(0xFF5C, steps)
        + tiles
        + b"\xff\xd9"
    )


def _jp2_that_lies(folder, picture, draws):
    """Its box says 64 x 64, its codestream 30000 x 30000."""
    picture.resize((64, 64)).save(folder / "whole.jp2")
    content = (folder / "whole.jp2").read_bytes()
    (folder / "whole.jp2").unlink()
    start = content.index(b"jp2c") - 4
    stream = j2k(30_000, 30_000)
    box = struct.pack(">I", len(stream) + 8) + b"jp2c" + stream
    return _written(folder / "a.jp2", content[:start] + box)


_UNKNOWN = "not a picture in a known format"
_UNREADABLE = f"cannot be decoded|{_UNKNOWN}|truncated|broken"

BOMBS = {
    "30000 x 30000": (_blank(30_000, 30_000), "more than 89,478,485 pixels"),
    "9000 x 10000": (_blank(9_000, 10_000), "more than 89,478,485 pixels"),
    "20000 x 1": (_blank(20_000, 1), "20000 x 1: one side is over 100 times the other"),
    "1 x 20000": (_blank(1, 20_000), "one side is over 100 times the other"),
    "a png without pixels": (_containing(_png(0, 0)), f"no pixels|{_UNREADABLE}"),
    "a png of 4 billion squared": (_containing(_png(2**31 - 1, 2**31 - 1)), "pixels"),
    "text bomb": (
        _containing(_png(8, 8, *[png_chunk(b"zTXt", b"k\0\0" + _BOMB)] * 9)),
        "too large|cannot be decoded",
    ),
    "profile bomb": (
        _containing(_png(8, 8, png_chunk(b"iCCP", b"k\0\0" + _BOMB))),
        "too large|cannot be decoded",
    ),
    "gif screen": (_containing(_gif(65_535, 65_535)), "pixels"),
    "gif frame": (_containing(_gif_with_a_larger_frame()), "pixels"),
    "tiff tile": (_containing(_tiff(_tiff_grey(8, 8, *_HUGE_TILE))), f"pixels|{_UNREADABLE}"),
    "tiff tag": (_containing(_tiff(_tiff_grey(8, 8, *_HUGE_TAG))), "names more than the file"),
    "tiff of one value many times": (_tiff_of_one_value_many_times, "names more than the file"),
    "jpeg of many scans": (_jpeg_of_many_scans, "more than 100 scans"),
    "jpeg 2000 of tiny precincts": (_containing(j2k(1500, 1500, precinct=1)), _UNREADABLE),
    "jpeg 2000 that lies": (_jp2_that_lies, _UNREADABLE),
    "too many bytes": (_sparse, "more than 536,870,912 bytes"),
}
"""What would cost gigabytes or minutes, and the reason why it is refused."""

BROKEN = {
    **{
        f"half a {name}": (_cut(name), "truncated|cannot be decoded|known format|broken")
        for name in ("jpg", "png", "webp", "tif", "gif", "bmp", "ppm", "jp2", "j2k", "avif")
    },
    "half a progressive jpeg": (_cut("jpg", progressive=True), "truncated"),
    "a tenth of a png": (_cut("png", 0.1), "truncated|broken"),
    "empty": (_containing(b""), "the file is empty"),
    "text": (_containing(b"not a picture\n" * 50), _UNKNOWN),
    "html": (_containing(b"<!doctype html><html></html>"), _UNKNOWN),
    "svg": (_containing(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), _UNKNOWN),
    "postscript": (_containing(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), _UNKNOWN),
    "pdf": (_containing(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"), _UNKNOWN),
    "jpeg header": (_containing(b"\xff\xd8\xff\xe0"), _UNKNOWN),
    "noise": (_noise, _UNKNOWN),
    "NaN": (_not_a_number, "NaN"),
    "float colours": (_not_read_by_pillow(np.float32, photometric="rgb"), _UNREADABLE),
    "doubles": (_not_read_by_pillow(np.float64, photometric="minisblack"), _UNREADABLE),
    "missing": (_missing, "no such file"),
    "folder": (_folder, "a folder"),
    "pipe": (_fifo, "not a regular file"),
    "socket": (_socket, "not a regular file"),
    "device": (_linked("/dev/zero"), "not a regular file"),
    "a file of the kernel": (_linked("/proc/version"), "the file is empty"),
    "symlink loop": (_linked("a.jpg"), "too many levels"),
    "dangling symlink": (_linked("gone.jpg"), "no such file"),
    **BOMBS,
}
"""What is refused, and why: ``(make(folder, photograph, draws) -> path, pattern)``."""


def make_pictures(folder: Path) -> dict[str, Shown]:
    """Write every odd picture into a folder of its own."""
    picture = photograph()
    return {kind: make(_room(folder, kind), picture) for kind, make in PICTURES.items()}


def make_broken(folder: Path, seed: int, kinds=BROKEN) -> dict[str, Path]:
    """Write every broken file into a folder of its own."""
    picture, draws = photograph(), np.random.default_rng(seed)
    return {kind: kinds[kind][0](_room(folder, kind), picture, draws) for kind in kinds}


def _room(folder, kind):
    room = folder / kind.replace(" ", "-")
    room.mkdir(parents=True)
    return room
