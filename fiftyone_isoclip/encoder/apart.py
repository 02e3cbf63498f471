"""Decoding in a process of its own, for formats whose decoder cannot be trusted with a bad file.

This file is run as a program: it decodes the picture on its standard input and writes its mode and
then its pixels. It imports nothing of this package, because torch takes seconds.

OpenJPEG allocates what a header asks for: 200 bytes can make it take minutes and tens of gigabytes,
whatever the size of the picture. A start of this process takes a tenth of a second.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

APART = frozenset({"JPEG2000"})
"""The formats that are decoded here."""

_BYTES = 2**28
_BYTES_A_PIXEL = 32
"""Memory of the process; OpenJPEG needs 16 bytes a pixel, four channels of them 20."""


def decode_apart(file: IO[bytes], image: ImageFile.ImageFile, seconds: float) -> Image.Image:
    """Decode an opened picture elsewhere, within so many seconds and memory by its size.

    Raises:
        OSError: it could not be decoded.
        TimeoutError: not within the time.
    """
    width, height = image.size
    command = [sys.executable, str(Path(__file__)), str(image.format)]
    command += [str(_BYTES + _BYTES_A_PIXEL * width * height), str(seconds)]
    # The process reads the same open file, from where we left it.
    file.seek(0)
    try:
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"not decoded within {seconds:g} seconds") from error
    mode, _, pixels = done.stdout.partition(b"\n")
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(told[-1] if told else f"its decoder ended with {done.returncode}")
    return Image.frombytes(mode.decode(), image.size, pixels)


def _main(form: str, memory: int, seconds: float) -> None:
    with suppress(ValueError, OSError):  # macOS has no such limit, and the user's may be tighter
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1,) * 2)
    Image.MAX_IMAGE_PIXELS = None  # the size has been checked
    try:
        with Image.open(sys.stdin.buffer, formats=[form]) as image:
            image.load()
            sys.stdout.buffer.write(image.mode.encode() + b"\n" + image.tobytes())
    except Exception as error:
        sys.exit(str(error) or type(error).__name__)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
