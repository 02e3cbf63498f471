"""Thousands of files harmed at random: each is a picture or has a reason, soon and in bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tests import corpus
from tests.seeds import SEED

FILES = 2000
"""For each of two doors."""

AT_ONCE = 200
MEMORY = 1500
"""Megabytes that a process may take besides what it has: the corpus itself is small."""

SECONDS = 300
"""For 200 files on a machine that does other things as well; the slowest is told."""

# What a count, a size or an offset is overwritten with.
_EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def _flip(content, draws, others):
    for place in draws.integers(0, len(content), draws.integers(1, 30)):
        content[place] ^= 1 << int(draws.integers(8))
    return content


def _flip_the_beginning(content, draws, others):
    return _flip(content[:300], draws, others) + content[300:]


def _cut(content, draws, others):
    return content[: int(draws.integers(1, len(content)))]


def _take_out(content, draws, others):
    start, end = np.sort(draws.integers(0, len(content), 2))
    return content[:start] + content[end:]


def _repeat(content, draws, others):
    start, end = np.sort(draws.integers(0, len(content), 2))
    return content[:end] + content[start:end] * int(draws.integers(1, 20)) + content[end:]


def _splice(content, draws, others):
    other = others[int(draws.integers(len(others)))]
    return content[: int(draws.integers(8, 400))] + other[int(draws.integers(len(other))) :]


def _exaggerate(content, draws, others):
    for place in draws.integers(0, min(len(content), 600), draws.integers(1, 4)):
        number = _EXTREMES[int(draws.integers(len(_EXTREMES)))]
        width = 1 if number < 256 else 2 if number < 65536 else 4
        order = "little" if draws.integers(2) else "big"
        content[place : place + width] = number.to_bytes(width, order)
    return content


HARMS = [_flip, _flip_the_beginning, _cut, _take_out, _repeat, _splice, _exaggerate]


def _harmed(folder, seed, count):
    """Write so many harmed files; -> their paths, by the order in which they were made."""
    draws = np.random.default_rng(seed)
    shown = corpus.make_pictures(folder / "whole")
    bombs = {
        kind: corpus.BROKEN[kind] for kind in ("gif frame", "tiff tile", "text bomb", "doubles")
    }
    made = corpus.make_broken(folder / "bombs", seed, bombs)
    whole = [path.read_bytes() for path in made.values()]
    whole += [each.path.read_bytes() for each in shown.values()]
    paths = []
    for number in range(count):
        content = bytearray(whole[int(draws.integers(len(whole)))])
        for _ in range(int(draws.integers(1, 3))):
            harm = HARMS[int(draws.integers(len(HARMS)))]
            content = bytearray(harm(content, draws, whole)) or bytearray(b"\xff")
        paths.append(folder / f"{number:05d}")
        paths[-1].write_bytes(content)
    return [str(path) for path in paths]


def _read(paths, door):
    """Read files in processes of their own; -> (answers, how the reader died on which file)."""
    answers, deaths = [], {}
    while paths:
        command = [sys.executable, "-m", "tests.reads", str(MEMORY), door]
        try:
            done = subprocess.run(
                command, input=json.dumps(paths).encode(), capture_output=True, timeout=SECONDS
            )
            printed, how = done.stdout, f"ended with {done.returncode}: {done.stderr[-300:]!r}"
        except subprocess.TimeoutExpired as slow:
            printed, how = slow.stdout or b"", f"took over {SECONDS} s"
        lines = [json.loads(line) for line in printed.splitlines()]
        told = [line for line in lines if isinstance(line, list)]
        answers += told
        paths = paths[len(told) :]
        if paths:
            deaths[paths.pop(0)] = how
    return answers, deaths


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("door", ["image", "tower"])
def test_f04_harmed_files_are_a_picture_or_have_a_reason(door, seed, tmp_path):
    paths = _harmed(tmp_path, seed + (door == "tower"), FILES)
    answers, deaths = [], {}
    for start in range(0, FILES, AT_ONCE):
        some, died = _read(paths[start : start + AT_ONCE], door)
        answers += some
        deaths |= died
    outcomes = Counter(
        "a picture" if isinstance(found, list) else found[:60] for _, found, _ in answers
    )
    slowest = sorted(((seconds, path) for path, _, seconds in answers), reverse=True)[:3]
    print(f"{door}: {outcomes.most_common(12)}; slowest {slowest}; deaths {deaths}")
    assert deaths == {}
    assert len(answers) == FILES
    assert outcomes["a picture"] > FILES / 20
    assert slowest[0][0] < SECONDS / 4


def test_f04_the_harms_harm(tmp_path):
    """Of a few files of the fuzz corpus some are still pictures and most are not."""
    paths = _harmed(tmp_path, SEED, 60)
    answers, deaths = _read(paths, "image")
    assert deaths == {}
    read = sum(isinstance(found, list) for _, found, _ in answers)
    assert 3 < read < 57
