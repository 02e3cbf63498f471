"""`isoclip compare` on a folder: what is shown, written, and said when there is nothing."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import embed_images, load_clip
from fiftyone_isoclip.projector import Band
from tests.terminal import isoclip, sentence

N = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "<b>&"
    folder.mkdir()
    for seed in range(N):
        render_scene(seed, 64).image.convert("RGB").save(folder / f"{seed:02}.png")
    (folder / "broken.png").write_bytes(b"<html>")
    return folder


@pytest.fixture(scope="module")
def plain(folder):
    """The paths that can be read, and their embeddings."""
    clip = load_clip("isoclip-demo", device="cpu")
    paths = sorted(map(str, folder.glob("[0-9]*.png")))
    return paths, np.concatenate([batch.embeddings for batch in embed_images(clip, paths)])


@cache
def oblique(band):
    return load_clip("isoclip-demo", device="cpu").isoclip(band).oblique


def rank(plain, band, pair):
    """By the definition, in float64: how many others are more similar, and one."""
    paths, rows = plain
    rows = rows.astype(np.float64) @ oblique(band).T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked, other = paths.index(pair["query"]), paths.index(pair["neighbor"])
    cosines = rows @ rows[asked]
    return 1 + np.count_nonzero(np.delete(cosines, asked) > cosines[other])


def test_it_writes_the_pairs_as_json_and_as_a_page(folder, plain, tmp_path):
    page, file = tmp_path / "pairs.html", tmp_path / "pairs.json"
    words = ["--band", "12/8", "-k", 3, "--device", "cpu", "--report", page, "--json", file]
    result = isoclip("compare", folder, *words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(file.read_text())
    assert (found["images"], found["queries"], found["band"]) == (N, N, "12/8")
    assert list(found["failed"]) == [str(folder / "broken.png")]
    assert {pair["nearer_in"] for pair in found["pairs"]} == {"plain CLIP", "IsoCLIP 12/8"}
    for pair in found["pairs"]:
        assert pair["plain"]["rank"] == rank(plain, Band(), pair)
        assert pair["isoclip"]["rank"] == rank(plain, Band(12, 8), pair)
    assert result.stdout.splitlines()[0] == found["verdict"]
    assert "self-trained demo weights, which say nothing about published" in found["verdict"]
    told = page.read_text()
    assert told.count("<img") == 2 * len(found["pairs"])
    assert "<script" not in told and "<b>&" not in told
    for part in ("12/8", "&lt;b&gt;&amp;"):
        assert part in told


def test_a_random_part_is_asked_about(folder):
    result = isoclip("compare", folder, "--queries", 4, "--near", 1, "--json", "-")
    found = json.loads(result.stdout)
    assert (found["queries"], found["images"], found["near"]) == (4, N, 1)
    asked = {pair["query"] for pair in found["pairs"]}
    assert 0 < len(asked) <= 4
    assert all(1 in (p["plain"]["rank"], p["isoclip"]["rank"]) for p in found["pairs"])


def test_one_image_is_not_enough_and_none_is_an_error(folder, tmp_path):
    result = isoclip("compare", folder / "03.png")
    assert (result.exit_code, "Two images are needed" in result.stdout) == (0, True)
    (tmp_path / "empty").mkdir()
    result = isoclip("compare", tmp_path / "empty", "--report", tmp_path / "page.html")
    assert "holds no images" in sentence(result)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "words", [["-k", 0], ["-k", 501], ["--near", 0], ["--near", 101], ["--band", "x"]]
)
def test_wrong_numbers_are_wrong_usage(folder, words):
    assert isoclip("compare", folder, *words).exit_code == 2
