"""The keeper is the file a person would keep, and the reason says why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files import FILE_KEEPER_RULES, KEEPER_RULES, KeeperRanking, rank_keepers


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def _save(image: Image.Image, path: Path, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def _order(ranking: KeeperRanking, paths: list[str]) -> list[str]:
    return [Path(paths[row]).name for row in np.argsort(ranking.prefer)]


def test_largest_goes_by_pixels_and_then_by_bytes(tmp_path: Path) -> None:
    paths = [
        _save(_noise(40, 30), tmp_path / "small.png"),
        _save(_noise(80, 60), tmp_path / "poor.jpg", quality=10),
        _save(_noise(80, 60), tmp_path / "fine.jpg", quality=95),
    ]
    ranking = rank_keepers(paths, "largest")
    assert _order(ranking, paths) == ["fine.jpg", "poor.jpg", "small.png"]
    size = Path(paths[2]).stat().st_size
    assert ranking.reasons[2] == f"largest: 80x60, {size / 1000:.{0 if size >= 9950 else 1}f} kB"


def test_equals_go_by_the_shorter_path_then_the_alphabet(tmp_path: Path) -> None:
    names = ["photo copy.png", "photo.png", "photu.png", "photo (1).png"]
    paths = [_save(_noise(8, 8), tmp_path / name) for name in names]
    expected = ["photo.png", "photu.png", "photo (1).png", "photo copy.png"]
    for rule in FILE_KEEPER_RULES:
        for path in paths:
            os.utime(path, (0, 0))
        assert _order(rank_keepers(paths, rule), paths) == expected


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    paths = [_save(_noise(8 + n % 3, 8), tmp_path / f"{n}.png") for n in range(7)]
    forward, backward = rank_keepers(paths, "largest"), rank_keepers(paths[::-1], "largest")
    assert forward.prefer.tolist() == backward.prefer[::-1].tolist()
    assert sorted(forward.prefer) == list(range(7))


def test_sharpest_prefers_the_unblurred_at_any_size(tmp_path: Path) -> None:
    sharp = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 80).convert("RGB")
    paths = [
        _save(sharp.filter(ImageFilter.GaussianBlur(3)).resize((900, 600)), tmp_path / "big.png"),
        _save(sharp.filter(ImageFilter.GaussianBlur(1)), tmp_path / "soft.png"),
        _save(sharp, tmp_path / "sharp.png"),
    ]
    ranking = rank_keepers(paths, "sharpest")
    assert _order(ranking, paths) == ["sharp.png", "soft.png", "big.png"]
    assert ranking.reasons[2].startswith("sharpest: sharpness ")


def test_earliest_goes_by_the_capture_and_otherwise_by_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2011:02:03 04:05:06"
    taken = _save(_noise(8, 8), tmp_path / "taken.jpg", exif=exif)
    older, newer = (_save(_noise(8, 8), tmp_path / name) for name in ("older.png", "newer.png"))
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "0000:00:00 00:00:00"
    blank = _save(_noise(8, 8), tmp_path / "blank.jpg", exif=exif)
    for path, seconds in ((older, 9e8), (newer, 1.7e9), (taken, 1.8e9), (blank, 1.75e9)):
        os.utime(path, (seconds, seconds))
    paths = [newer, taken, older, blank]
    ranking = rank_keepers(paths, "earliest")
    assert _order(ranking, paths) == ["older.png", "taken.jpg", "newer.png", "blank.jpg"]
    assert "taken 2011-02-03 04:05:06" in ranking.reasons[1]
    assert "modified " in ranking.reasons[0]


def test_labels_and_tags_come_before_size(tmp_path: Path) -> None:
    paths = [_save(_noise(8 * n, 8), tmp_path / f"{n}.png") for n in (1, 2, 3)]
    by_labels = rank_keepers(paths, "most_labels", labels=[4, 1, 1])
    assert _order(by_labels, paths) == ["1.png", "3.png", "2.png"]
    assert by_labels.reasons[0].startswith("most_labels: 4 labels, 8x8")
    by_tag = rank_keepers(paths, "preferred_tag", tagged=[True, True, False])
    assert _order(by_tag, paths) == ["2.png", "1.png", "3.png"]
    assert by_tag.reasons[2].startswith("preferred_tag: not tagged, 24x8")


@pytest.mark.parametrize("rule", KEEPER_RULES)
def test_f04_what_cannot_be_read_comes_last(tmp_path: Path, rule: str) -> None:
    garbage = tmp_path / "garbage.jpg"
    garbage.write_bytes(b"<html>" * 999)
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [str(garbage), str(tmp_path / "pipe.jpg"), str(tmp_path / "missing.jpg")]
    paths.append(_save(_noise(2, 2), tmp_path / "fine.png"))
    ranking = rank_keepers(paths, rule, labels=[5, 5, 5, 0], tagged=[True, True, True, False])
    assert ranking.prefer[3] == 0
    assert all(reason.endswith("unreadable") for reason in ranking.reasons[:3])


def test_sharpest_puts_a_damaged_body_after_every_whole_image(tmp_path: Path) -> None:
    whole = _save(_noise(4, 4), tmp_path / "whole.png")
    damaged = Path(_save(_noise(64, 64), tmp_path / "damaged.png"))
    damaged.write_bytes(damaged.read_bytes()[:2000])
    ranking = rank_keepers([str(damaged), whole], "sharpest")
    assert ranking.prefer.tolist() == [1, 0]
    assert "cannot be decoded" in ranking.reasons[0]


def test_a_rule_without_what_it_goes_by_is_refused() -> None:
    with pytest.raises(IsoClipError, match="choose from largest, sharpest"):
        rank_keepers([], "prettiest")
    with pytest.raises(IsoClipError, match="0 were given for 1 files"):
        rank_keepers(["a.jpg"], "most_labels")
    with pytest.raises(IsoClipError, match="2 were given for 1 files"):
        rank_keepers(["a.jpg"], "preferred_tag", tagged=[True, False])


def test_no_files_have_an_empty_ranking() -> None:
    assert rank_keepers([], "largest").prefer.shape == (0,)
