"""Vectors that are none never reach an index or a store; each door says how many, and which."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.dataset import (
    build_similarity,
    embed,
    find_clusters,
    find_duplicates,
    find_similar,
    map_embeddings,
    upgrade,
)
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import IsoClipError, VectorError
from fiftyone_isoclip.index import CosineIndex, read_store, write_store
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.search_inverted import row_keys
from fiftyone_isoclip.index.store import append_store
from tests.galleries import add_pictures, paint_gallery
from tests.pictures import draw_many

FIELD, DIM, N = "clip_embedding", 6, 12
NOT_FINITE = {"NaN": np.nan, "infinite": np.inf, "minus infinite": -np.inf, "zero": 0.0}


def spoiled(table, kind, rows):
    """A table with some rows that have no direction."""
    table = table.copy()
    table[rows, 0 if kind != "zero" else slice(None)] = NOT_FINITE[kind]
    return table


def rows_of(seed, n=N, dim=DIM):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def misshapen(table):
    """What is no table of numbers at all, and the words that say so."""
    rows = table.tolist()
    return {
        "ragged": ([*rows[:4], rows[4][:-1], *rows[5:]], r"1 of dim 5.*rows 4\b"),
        "none": ([*rows[:3], None, *rows[4:]], r"1 without numbers.*rows 3\b"),
        "text": ([*rows[:3], ["x"] * DIM, *rows[4:]], "real numbers; found <U"),
        "objects": (table.astype(object), "real numbers; found object"),
        "complex": (table.astype(complex), "real numbers; found complex"),
        "truth values": (table > 0, "real numbers; found bool"),
        "a single vector": (table[0], r"found shape \(6,\)"),
        "no dims": (table[:, :0], r"found shape \(12, 0\)"),
    }


DOORS = {
    "write_store": lambda folder, table: write_store(folder, table, _names(table), fingerprint="f"),
    "append_store": lambda folder, table: append_store(
        folder, table, _names(table), fingerprint="f"
    ),
    "CosineIndex": lambda folder, table: CosineIndex(table),
    "queries": lambda folder, table: CosineIndex(rows_of(0)).nearest(table, 2),
    "SearchIndex": lambda folder, table: SearchIndex(
        CosineIndex(rows_of(0)), row_keys(rows_of(0), np.arange(N).astype(str))
    ).nearest(table, 2),
}


def _names(table):
    return [str(n) for n in range(len(table))]


@pytest.mark.parametrize("door", DOORS)
def test_f08_no_door_of_the_index_lets_them_in(door, tmp_path, seed):
    folder = tmp_path / "store"
    write_store(folder, rows_of(1), _names(rows_of(1)), fingerprint="f")
    before = read_store(folder)
    rows = np.sort(np.random.default_rng(seed).choice(N, 3, replace=False))
    named = f"Of {N} vectors .*: 3 with .* \\(rows {', '.join(map(str, rows))}\\)"
    for kind in NOT_FINITE:
        for dtype in (np.float16, np.float32, np.float64):
            with pytest.raises(VectorError, match=named):
                DOORS[door](folder, spoiled(rows_of(seed).astype(dtype), kind, rows))
    for bad, told in misshapen(rows_of(seed)).values():
        with pytest.raises(VectorError, match=told):
            DOORS[door](folder, bad)
    after = read_store(folder)
    assert after.manifest == before.manifest
    np.testing.assert_array_equal(after.read(), rows_of(1))


def test_f08_vectors_of_another_dim_or_too_large_for_their_kind_stay_out(tmp_path):
    folder = tmp_path / "store"
    write_store(folder, rows_of(1).astype(np.float16), _names(rows_of(1)), fingerprint="f")
    with pytest.raises(IsoClipError, match=r"vectors of 6 numbers.*and 5 numbers"):
        append_store(folder, rows_of(2)[:, :5], _names(rows_of(2)), fingerprint="f")
    with pytest.raises(VectorError, match=r"1 with NaN or infinite numbers \(rows 0\)"):
        append_store(folder, np.full((1, DIM), 1e6), ["a"], fingerprint="f")
    with pytest.raises(VectorError, match=r"1 with NaN or infinite numbers \(rows 1\)"):
        write_store(folder, [[1.0], [1e300]], ["a", "b"], fingerprint="f")
    assert len(read_store(folder).names) == N


@pytest.fixture
def filled(dataset, fill, pictures, checkpoint, seed):
    """Embedded pictures of which somebody has overwritten five vectors; -> the bad ones by id."""
    fill(draw_many(pictures, 20))
    embed(dataset, checkpoint, progress=False)
    return spoil_field(dataset, np.random.default_rng(seed))


def spoil_field(dataset, draw):
    ids, vectors = dataset.values(["id", FIELD])
    table = np.array(vectors)
    chosen = draw.choice(len(ids), 5, replace=False).tolist()
    kinds = [*NOT_FINITE, None]
    bad = {
        ids[row]: None if kind is None else spoiled(table, kind, [row])[row]
        for row, kind in zip(chosen, kinds, strict=True)
    }
    dataset.set_values(FIELD, bad, key_field="id")
    return bad


def add_misfits(dataset, bad):
    """Two more: too short a vector, and one that is no numbers."""
    others = [id_ for id_ in dataset.values("id") if id_ not in bad][:2]
    misfits = dict(zip(others, [np.ones(3, np.float32), np.array(["a", "b"])], strict=True))
    dataset.set_values(FIELD, misfits, key_field="id")
    return bad | misfits


def sound_ids(dataset, bad):
    return [id_ for id_ in dataset.values("id") if id_ not in bad]


def test_f08_verbs_leave_them_out_and_say_which(dataset, filled, checkpoint, caplog):
    bad = add_misfits(dataset, filled)
    sound = sound_ids(dataset, bad)
    report = find_duplicates(dataset, similarity=-0.99)
    assert set(report.skipped) == set(bad)
    assert all(report.skipped.values())
    assert {id_ for g in report.groups for id_ in [g.keeper, *(c.id for c in g.copies)]} <= {*sound}
    found = find_clusters(dataset, count=3)
    assert set(found.skipped) == set(bad)
    near = find_similar(dataset, sound[0], k=50)
    assert (set(near.ids), set(near.skipped)) == (set(sound) - {sound[0]}, set(bad))
    report = map_embeddings(dataset, method="pca")
    assert (set(report.skipped), report.n_mapped) == (set(bad), len(sound))


def test_f08_an_index_leaves_them_out_and_says_which(dataset, filled, checkpoint, caplog):
    with caplog.at_level("WARNING"):
        index = build_similarity(dataset, checkpoint, brain_key="found")
    assert "4 of 20 vectors are NaN, infinite or zero" in caplog.text
    bad = {id_ for id_, vector in filled.items() if vector is not None}
    assert all(id_ in caplog.text for id_ in bad)
    sound = sound_ids(dataset, bad)  # the one that had none was embedded
    assert set(index.sample_ids) == set(sound)
    assert np.isfinite(index.get_embeddings()[0]).all()
    found = dataset.sort_by_similarity(sound[0], k=50, brain_key="found").values("id")
    assert set(found) == set(sound)


def test_f08_an_index_of_misfits_is_refused_and_they_are_named(dataset, filled, checkpoint):
    bad = add_misfits(dataset, filled)
    misfits = [id_ for id_ in bad if id_ not in filled]
    with pytest.raises(VectorError, match=r"1 of dim 3 \(") as told:
        build_similarity(dataset, checkpoint, brain_key="found")
    assert misfits[0] in str(told.value)
    assert dataset.list_brain_runs() == []
    dataset.set_values(FIELD, {misfits[0]: None}, key_field="id")
    with pytest.raises(VectorError, match=r"1 that is no vector of numbers \(") as told:
        build_similarity(dataset, checkpoint, brain_key="found")
    assert misfits[1] in str(told.value)


@pytest.mark.parametrize("door", ["compute_similarity", "add_to_index"])
def test_f08_arrays_given_to_the_brain(dataset, tmp_path, door, caplog, seed):
    ids = add_pictures(dataset, paint_gallery(tmp_path, 8))
    clip = load_clip("isoclip-demo", precision="float32")
    table = rows_of(seed, 8, clip.dim)

    def give(vectors):
        import fiftyone.brain as fob

        if dataset.has_brain_run("found"):
            dataset.delete_brain_run("found")
        said = {"backend": "faiss", "model": "isoclip-demo", "brain_key": "found"}
        if door == "compute_similarity":
            return fob.compute_similarity(dataset, embeddings=vectors, **said)
        index = fob.compute_similarity(dataset, embeddings=False, **said)
        index.add_to_index(vectors, ids)
        return index

    for kind in NOT_FINITE:
        caplog.clear()
        index = give(spoiled(table, kind, [2, 5]))
        assert set(index.sample_ids) == {*ids} - {ids[2], ids[5]}
        assert "2 of 8 vectors are NaN, infinite or zero and stay out" in caplog.text
        assert f"{ids[2]}, {ids[5]}" in caplog.text
    for bad, told in (
        (table[:, :7], "dim 7"),
        (table.astype(complex), "no vector of numbers"),
        (table.astype(str), "no vector of numbers"),
    ):
        with pytest.raises(VectorError, match=told):
            give(bad)


def test_f08_upgrading_leaves_them_out_and_says_which(dataset, filled, checkpoint):
    report = upgrade(dataset, FIELD, checkpoint)
    assert set(report.skipped) >= {id_ for id_, vector in filled.items() if vector is not None}
    held, vectors = dataset.exists("isoclip_embedding").values(["id", "isoclip_embedding"])
    assert set(held) == set(sound_ids(dataset, filled))
    assert np.isfinite(np.array(vectors)).all()
