"""pHash as a baseline: the cosines are its own distances, and what cannot be read is told."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.evaluation.hashing import BITS, phash_method

N = 7


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Scenes, and the same as poor JPEGs."""
    folder = tmp_path_factory.mktemp("hashed")
    scenes, copies = [], []
    for seed in range(N):
        picture = render_scene(seed, 96).image.convert("RGB")
        scenes.append(folder / f"{seed}.png")
        copies.append(folder / f"{seed}.jpg")
        picture.save(scenes[-1])
        picture.resize((70, 70)).save(copies[-1], quality=40)
    return scenes, copies


def test_a_cosine_is_imagehashs_own_distance(files):
    scenes, copies = files
    method = phash_method(copies, scenes)
    distances = np.array(
        [
            [imagehash.phash(Image.open(a)) - imagehash.phash(Image.open(b)) for b in scenes]
            for a in copies
        ]
    )
    assert np.array_equal(method.queries @ method.gallery.T, 1 - 2 * distances / BITS)
    assert (method.name, method.kind) == ("pHash 64 bit", "hash")
    assert np.array_equal(np.linalg.norm(method.queries, axis=1), np.ones(N))
    assert (distances.argmin(axis=1) == np.arange(N)).all()  # the copies are found, by both
    assert np.unique(distances).size > 4


def test_a_picture_is_hashed_upright_as_it_is_embedded(files, tmp_path):
    lying = Image.open(files[0][2]).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned back by a quarter
    lying.save(tmp_path / "lying.png", exif=exif)
    method = phash_method([tmp_path / "lying.png"], files[0])
    assert (method.queries @ method.gallery.T)[0, 2] == 1


def test_what_cannot_be_read_is_like_nothing_and_told(files, tmp_path):
    broken = [tmp_path / f"{n}.png" for n in range(5)]
    for path in broken:
        path.write_bytes(b"<html>")
    done = []
    method = phash_method(
        [*files[1], broken[0]], [broken[1], *files[0], *broken[2:]], told=done.append
    )
    alike = method.queries @ method.gallery.T
    assert (alike[-1] == 0).all() and (alike[:, 0] == 0).all()
    assert (alike[np.arange(N), np.arange(1, N + 1)] > 0.7).all()
    assert "5 files could not be read" in method.note
    assert str(broken[0]) in method.note and "and 2 more" in method.note
    assert sum(done) == 2 * N + 5
    assert "could not be read" not in phash_method(*files).note
