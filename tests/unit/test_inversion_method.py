"""OTI beside the other methods, and how long each of them takes a query, on the demo weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import embed_images, load_clip
from fiftyone_isoclip.errors import ImageError, IsoClipError
from fiftyone_isoclip.evaluation import latency
from fiftyone_isoclip.evaluation.hashing import phash_method
from fiftyone_isoclip.evaluation.inversion_method import oti_method
from fiftyone_isoclip.evaluation.latency import measure_latency, seconds_a_query
from fiftyone_isoclip.evaluation.methods import make_methods
from fiftyone_isoclip.projector import Band

N, BANDS = 5, [Band(8, 8), Band(20, 4)]


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    files = [str(folder / f"{seed}.png") for seed in range(N)]
    for seed, file in enumerate(files):
        render_scene(seed, 96).image.convert("RGB").save(file)
    return files


@pytest.fixture(scope="module")
def plain(clip, paths):
    return np.concatenate([batch.embeddings for batch in embed_images(clip, paths)])


@pytest.fixture(scope="module")
def oti(clip, plain):
    return oti_method(clip, plain, plain)


def test_oti_compares_prompts_with_plain_images(clip, plain, oti):
    np.testing.assert_allclose(oti.gallery, unit(plain), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(oti.queries, axis=1), 1, atol=1e-6)
    found = oti.queries @ oti.gallery.T
    assert (found.argmax(axis=1) == np.arange(N)).all()
    assert (oti.name, oti.kind) == ("OTI inversion", "inversion")
    # The note tells that it was optimised, and how far.
    assert f"to {found.diagonal().mean():.3f}" in oti.note and "150 steps" in oti.note
    done = []
    oti_method(clip, plain, plain, steps=1, told=done.append)
    assert sum(done) == N


@pytest.fixture
def ranked(monkeypatch):
    """What was ranked, on a clock of which each look takes longer than the one before."""
    seen, looks = [], itertools.count()
    real = latency.rank
    monkeypatch.setattr(latency, "rank", lambda *asked: seen.append(asked) or real(*asked))
    times = itertools.accumulate(itertools.accumulate(looks))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: float(next(times)))
    return seen


def test_what_is_timed_is_what_is_compared(clip, paths, plain, oti, ranked):
    found = measure_latency(clip, paths[:1], plain, BANDS, inversion=True, hashed=paths, repeats=1)
    made = {each.name: each for each in make_methods(clip.spectrum, plain, plain, BANDS)}
    made |= {"OTI inversion": oti, "pHash 64 bit": phash_method(paths, paths)}
    names = ["plain CLIP", *(f"IsoCLIP {band}" for band in BANDS), "OTI inversion", "pHash 64 bit"]
    assert list(found) == names
    for name, (row, gallery) in zip(names, ranked[len(names) :], strict=True):
        expected = made[name].queries[0] @ made[name].gallery.T
        # Another batch size ends at another prompt (test_inversion.py), as near to its image.
        atol = 0.2 if name == "OTI inversion" else 1e-5
        np.testing.assert_allclose(gallery @ row, expected, atol=atol)
        assert latency.rank(row, gallery)[0] == 0


def test_where_the_files_are_gone_nothing_is_timed(clip, paths, plain):
    gone = [f"{path}.gone" for path in paths]
    assert seconds_a_query(clip, gone, plain, BANDS) == {}
    with pytest.raises(ImageError, match="none of"):
        measure_latency(clip, gone, plain, BANDS)
    found = seconds_a_query(clip, paths, plain, BANDS[:1])
    assert set(found) == {"plain CLIP", f"IsoCLIP {BANDS[0]}", "OTI inversion"}


def test_ranks_are_by_falling_cosine_and_ties_in_gallery_order():
    gallery = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0]], np.float32)
    assert latency.rank(np.array([1, 0], np.float32), gallery).tolist() == [1, 3, 2, 0]


def test_a_latency_is_the_median_of_runs_that_take_turns(clip, paths, plain, ranked):
    found = measure_latency(clip, paths[:2], plain, BANDS[:1], repeats=3)
    # Two looks a run, the k-th of all 1 + ... + k seconds after the one before; two runs are the
    # warm-up.
    seconds = np.cumsum(np.arange(2 * 2 * (1 + 2 * 3)))
    spans = seconds[1::2][2:]
    assert found == {"plain CLIP": np.median(spans[::2]), "IsoCLIP 8/8": np.median(spans[1::2])}
    assert len(ranked) == 2 + len(spans)


def test_queries_that_cannot_be_read_are_not_timed(clip, paths, plain, tmp_path, ranked):
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    broken = str(tmp_path / "page.jpg")
    assert list(measure_latency(clip, [broken, paths[0]], plain, repeats=2)) == ["plain CLIP"]
    assert len(ranked) == 1 + 2
    with pytest.raises(IsoClipError, match="none of 1 queries can be read"):
        measure_latency(clip, [broken], plain)
