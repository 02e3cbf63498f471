"""Duplicates of a store: the pairs that a search in cells finds, against all pairs in float64."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import binomtest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

import pyarrow as pa
from PIL import Image

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import IsoClipError, StoreError, VectorError
from fiftyone_isoclip.files import find_file_duplicates
from fiftyone_isoclip.index import Pairs, limits
from fiftyone_isoclip.index.threads import one_blas_thread
from fiftyone_isoclip.projector import Band
from fiftyone_isoclip.shards import (
    Encoding,
    embed_into_store,
    find_store_duplicates,
    open_store,
    read_duplicates,
    read_images,
)
from fiftyone_isoclip.shards.duplicates import known_pairs, search
from fiftyone_isoclip.shards.duplicates.cells import cells_needed, first_shared, nearest_cells
from fiftyone_isoclip.shards.duplicates.groups import group_rows
from fiftyone_isoclip.shards.duplicates.known_pairs import KnownPairs
from fiftyone_isoclip.shards.duplicates.local import LocalSearch
from fiftyone_isoclip.shards.store import ShardStore
from tests.folders import fill_folder
from tests.planted_stores import DIM, SIMILARITY, made_store, planted, search_of
from tests.stores import bytes_of


def numbers_of(store) -> np.ndarray:
    """The number of the vector in each row of a store."""
    names = sorted(store.manifest.shards)
    return np.array([int(id_) for name in names for id_ in store.read(name).ids])


def pairs_of(found, store) -> dict[tuple[int, int], float]:
    """The pairs found, by the numbers of their vectors."""
    numbers, pairs = numbers_of(store), found.pairs
    ends = np.sort(np.stack([numbers[pairs.left], numbers[pairs.right]]), axis=0).T.tolist()
    assert len({tuple(end) for end in ends}) == len(ends)
    return dict(zip(map(tuple, ends), pairs.similarity.tolist(), strict=True))


def true_pairs(vectors, similarity, failed=()) -> dict[tuple[int, int], float]:
    """All pairs, by products in float64."""
    units = vectors.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    cosines = units @ units.T
    places = np.argwhere(np.triu(cosines >= similarity, 1)).tolist()
    kept = [(a, b) for a, b in places if a not in failed and b not in failed]
    return {(a, b): cosines[a, b] for a, b in kept}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """2,000 rows in shards of 64, three without an embedding; and the vectors."""
    vectors = planted(2000, 0)
    folder = tmp_path_factory.mktemp("made") / "store"
    return made_store(folder, vectors, failed=FAILED), vectors


FAILED = (0, 700, 1999)


@pytest.mark.parametrize("recall", [0.999, 0.5])
def test_pairs_in_cells_are_true_ones_and_their_share_is_what_is_told(store, recall):
    made, vectors = store
    found = search_of(made).find(recall)
    truth, pairs = true_pairs(vectors, SIMILARITY, FAILED), pairs_of(found, made)
    assert pairs.keys() <= truth.keys()
    np.testing.assert_allclose([pairs[k] for k in pairs], [truth[k] for k in pairs], atol=1e-6)
    assert found.cells > 20
    assert found.recall.low <= recall_by_image(vectors, found, made, FAILED) <= found.recall.high
    assert len(pairs) / len(truth) >= recall - 0.05


def test_every_pair_is_found_where_all_are_compared(store):
    made, vectors = store
    truth = true_pairs(vectors, SIMILARITY, FAILED)
    for found in (search_of(made, compared_at_once=2000).find(0.5), search_of(made).find(1.0)):
        assert pairs_of(found, made).keys() == truth.keys()
        assert (found.cells, found.recall) == (1, None)


def test_every_two_are_compared_in_one_table_that_memory_was_asked_for(store, monkeypatch):
    made, _ = store
    monkeypatch.setattr(LocalSearch, "by_cell", pytest.fail)
    seen, finding = [], search.find_pairs

    def find(units, similarity, progress):
        with one_blas_thread() as threads:
            seen.append((units.base.shape, threads))
        return finding(units, similarity, progress=progress)

    monkeypatch.setattr(search, "find_pairs", find)
    with one_blas_thread() as threads:
        pass
    search_of(made).find(1.0)
    assert seen == [((2000, DIM), threads)]
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(LocalSearch, "each", pytest.fail)
    with pytest.raises(VectorError, match=r"2,000 vectors of dim 24 take .* GB of memory alone"):
        search_of(made).find(1.0)


def test_rounds_change_nothing_are_told_before_and_hold_no_more_than_is_said(store, monkeypatch):
    made, _ = store
    whole = search_of(made).find(0.99)
    room = 600 * 4 * (DIM + whole.visited + 3)
    monkeypatch.setattr(LocalSearch, "visit_bytes", room)
    held, told, picking = [], [], LocalSearch.each

    def counting(engine, work, tasks):
        if not isinstance(work, search.Picking):
            yield from picking(engine, work, tasks)
            return
        told.append(steps[-1])
        parts = list(picking(engine, work, tasks))
        held.append(sum(map(len, parts)))
        assert all(len(part) for part in parts)  # nothing is read for nothing
        yield from parts

    monkeypatch.setattr(LocalSearch, "each", counting)
    steps: list[tuple[str, int, int]] = []
    again = replace(search_of(made), progress=lambda *step: steps.append(step)).find(0.99)
    assert len(held) > 5 and max(held) <= 600
    rounds = range(1, len(held) + 1)
    assert [each for each, _, _ in told] == [
        f"comparing, round {number} of {len(held)}" for number in rounds
    ]
    assert told[0][1] == 0 and steps[-1][1] == steps[-1][2] == told[0][2]
    np.testing.assert_array_equal(again.pairs.left, whole.pairs.left)
    np.testing.assert_array_equal(again.pairs.similarity, whole.pairs.similarity)


def test_a_shard_without_a_row_of_a_round_is_not_read(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    # Each shard is a place of its own, so that its rows visit cells of their own.
    centres = np.repeat(10 * rng.standard_normal((20, DIM)), 64, axis=0)
    made = made_store(
        tmp_path / "store", (centres + rng.standard_normal(centres.shape)).astype("f")
    )
    monkeypatch.setattr(known_pairs, "ENOUGH_IMAGES", 0)
    monkeypatch.setattr(LocalSearch, "visit_bytes", 200 * 4 * (DIM + 4))
    reading, read = ShardStore.read, []
    monkeypatch.setattr(ShardStore, "read", lambda *asked: read.append(asked[1]) or reading(*asked))
    found = search_of(made, similarity=0.98).find(0.5)
    assert found.visited == 1
    counts = [read.count(name) for name in made.manifest.shards]
    assert sum(counts) < 20 * (3 + 3)  # to sample, survey and assign; then in few of the rounds


def test_a_round_is_as_large_as_free_memory_allows(monkeypatch):
    for free in (2**36, 2**28):
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr(limits.psutil, "virtual_memory", lambda memory=memory: memory)
        assert LocalSearch().visit_bytes == max(2**28, free // 4)


def test_pairs_that_are_known_are_all_those_of_the_sampled_rows(store, monkeypatch):
    made, vectors = store
    surveyed = []
    gathering = KnownPairs.of

    def gather(n, rows, found, similarity):
        surveyed.append((rows, gathering(n, rows, found, similarity)))
        return surveyed[0][1]

    monkeypatch.setattr(KnownPairs, "of", gather)
    found = search_of(made).find(0.9)
    ((rows, pairs),) = surveyed
    numbers = numbers_of(made)
    told = [*zip(numbers[pairs.sampled].tolist(), numbers[pairs.partner].tolist(), strict=True)]
    sampled = numbers[rows].tolist()
    truth = true_pairs(vectors, SIMILARITY, FAILED)
    both = [*truth, *((b, a) for a, b in truth)]
    assert len(sampled) == 300
    assert sorted(told) == sorted(pair for pair in both if pair[0] in sampled)
    # The share is of every second of these rows, and is what was found of its pairs.
    shares, got = {}, pairs_of(found, made)
    for one, other in told:
        if sampled.index(one) % 2:
            shares.setdefault(one, []).append(tuple(sorted((one, other))) in got)
    assert found.recall.share == pytest.approx(np.mean([np.mean(each) for each in shares.values()]))
    ends = {tuple(sorted(pair)) for pair in told if pair[0] in shares}
    assert found.known == len(ends)


def test_a_store_of_which_hardly_any_image_has_an_embedding_is_searched(tmp_path):
    vectors = planted(400, 1)
    failed = set(range(400)) - {3, 90, 91, 200, 399}
    vectors[91] = vectors[90]
    for held, pairs in (({3, 90, 91, 200, 399}, {(90, 91)}), ({3}, set()), ((), None)):
        made = made_store(
            tmp_path / str(len(held)), vectors, failed={*failed, *range(400)} - {*held}
        )
        if pairs is None:
            with pytest.raises(VectorError, match="a recall of 1 compares those that have one"):
                search_of(made).find(0.9)
            assert not len(search_of(made).find(1.0).pairs)
        else:
            assert pairs_of(search_of(made).find(0.9), made).keys() == pairs


def known(images, n=1000) -> KnownPairs:
    """Of each random row, how many cells each of its pairs takes; no two share a partner."""
    owner = np.repeat(np.arange(len(images)), [len(needed) for needed in images])
    partner = len(images) + np.arange(len(owner))
    return KnownPairs(n, owner, owner, partner, np.array([*chain(*images)], np.int32))


def test_the_fewest_cells_that_suffice_are_chosen_by_one_half_image_by_image(monkeypatch):
    monkeypatch.setattr(known_pairs, "ENOUGH_IMAGES", 4)
    # Every second image chooses. One has eight pairs in its first cell, three have one elsewhere.
    pairs = known([[1] * 8, [9], [1], [9], [3], [9], [5], [9]])
    assert [pairs.cells_for(share, 5) for share in (0.5, 0.51, 0.75, 0.76)] == [1, 3, 3, 5]
    with pytest.raises(VectorError, match="in the mean of 4 images; ask for less"):
        pairs.cells_for(0.9, 4)


def test_few_images_with_a_pair_are_not_taken_at_their_word():
    pairs = known([[1] * 5000, [1]])
    assert pairs.cells_for(0.999, 16) == known_pairs.USUAL_CELLS
    assert known([]).cells_for(0.999, 16) == known_pairs.USUAL_CELLS
    assert known([]).recall_of(np.array([1]), np.array([2])) == (None, 0)


def test_the_told_recall_is_the_mean_of_images_with_scipys_bounds():
    pairs = known([[1]] * 40)
    left, right = pairs.sampled[pairs.owner < 30], pairs.partner[pairs.owner < 30]
    told, count = pairs.recall_of(left, right)
    interval = binomtest(15, 20).proportion_ci(0.95, "exact")
    assert (told.share, count) == (0.75, 20)
    np.testing.assert_allclose((told.low, told.high), interval)
    cluster, count = known([[1]] * 3 + [[1] * 97]).recall_of(np.full(97, 3), np.arange(7, 104))
    assert (cluster.share, count) == (0.5, 98)  # of 98 pairs 97 were found, all of one image


def clustered(seed: int) -> np.ndarray:
    """2,400 rows, of which 300 are the same and 500 have one near-copy each, hard to find."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((2400, DIM)).astype(np.float32)
    rows[:300] = rows[0]
    rows[800:1300] = rows[300:800] + rng.standard_normal((500, DIM)) * 0.38
    return rng.permutation(rows).astype(np.float32)


def recall_by_image(vectors, found, store, failed=()) -> float:
    """The share of its pairs that an image got, in the mean of all that have one: in float64."""
    shares: dict[int, list[bool]] = {}
    pairs = pairs_of(found, store)
    for pair in true_pairs(vectors, SIMILARITY, failed):
        for end in pair:
            shares.setdefault(end, []).append(pair in pairs)
    return float(np.mean([np.mean(each) for each in shares.values()]))


@pytest.mark.parametrize("asked", [0.95, 0.7])
def test_one_large_cluster_does_not_hide_what_is_missed_elsewhere(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(known_pairs, "ENOUGH_IMAGES", 10)
    vectors = clustered(1)
    made = made_store(tmp_path / "store", vectors, shard_rows=300)
    found = search_of(made).find(asked)
    truth = recall_by_image(vectors, found, made)
    assert found.recall.low <= truth <= found.recall.high
    assert abs(found.recall.share - truth) < 0.06
    assert truth >= asked - 0.02


@given(
    st.integers(1, 4).flatmap(
        lambda m: st.lists(
            st.tuples(*[st.permutations(range(5)).map(lambda p, m=m: p[:m])] * 2),
            min_size=1,
            max_size=6,
        )
    )
)
def test_where_two_rows_meet(both):
    left, right = (np.array(side, np.int32) for side in zip(*both, strict=True))
    m = left.shape[1]
    for place, (a, b) in enumerate(both):
        meetings = [k for k in range(1, m + 1) if set(a[:k]) & set(b[:k])]
        assert cells_needed(left, right)[place] == min(meetings, default=m + 1)
        if set(a) & set(b):
            assert first_shared(left, right)[place] == min(set(a) & set(b))


def test_nearest_cells_are_those_of_the_largest_products():
    rng = np.random.default_rng(3)
    rows, pivots = rng.standard_normal((50, 8)), rng.standard_normal((11, 8))
    cells = nearest_cells(rows.astype(np.float32), pivots.astype(np.float32), 4)
    np.testing.assert_array_equal(cells, np.argsort(-rows @ pivots.T, axis=1)[:, :4])
    every = nearest_cells(rows.astype(np.float32), pivots.astype(np.float32), 11)
    np.testing.assert_array_equal(every, np.argsort(-rows @ pivots.T, axis=1))


def test_a_similarity_that_is_too_loose_is_refused_with_one_that_is_not(store, monkeypatch):
    made, vectors = store
    monkeypatch.setattr(limits, "PAIR_LIMIT", 500)
    with pytest.raises(VectorError, match=r"about .* and the limit is 2,000") as told:
        search_of(made, similarity=0.5).find(0.9)
    advised = float(str(told.value).split("more than ")[-1].rstrip("."))
    assert 1000 < len(true_pairs(vectors, advised, FAILED)) < 4000


def survey(sampled, n=10**9, s=2**14):
    """What is known of s rows where one of every so many of them has so many pairs."""
    rows = np.sort(np.random.default_rng(0).choice(n, s, replace=False))
    owner = np.repeat(rows[: len(sampled)], sampled)
    columns = {
        "sampled": owner,
        "partner": owner + 1,
        "similarity": np.linspace(0.95, 1, len(owner), dtype="f"),
        "needed": np.ones(len(owner), np.int32),
    }
    return KnownPairs.of(n, rows, [pa.table(columns)], 0.95)


def test_one_row_of_a_sample_refuses_nothing_and_many_refuse_by_an_estimate():
    # A cluster of 100,000 among a billion: 5 billion pairs by the one row of it, or half of one.
    assert len(survey([99_999]).sampled) == 99_999
    # The limit of one pair an image allows what collections have: a fifth of a pair each.
    assert len(survey([1] * 6000).sampled) == 6000
    with pytest.raises(VectorError, match="by 16,384 of them about 1,220,703,125 or more pairs"):
        survey([4] * 10_000)


def test_groups_are_stars_inside_components_with_the_keeper_of_the_rule(store):
    made, _ = store
    searched = search_of(made, similarity=0.8, compared_at_once=2000)
    found = searched.find(1.0)
    pairs = found.pairs
    files = searched.name(np.unique(np.concatenate([pairs.left, pairs.right])))
    rows, rule = group_rows(pairs, files, "largest")
    assert rule == "most_bytes"
    numbers = numbers_of(made)
    truth = pairs_of(found, made)
    edges = (np.ones(len(pairs)), (numbers[pairs.left], numbers[pairs.right]))
    component = connected_components(coo_array(edges, shape=(2000, 2000)), directed=False)[1]
    told = rows.to_pylist()
    owner = {}
    for row in told:
        number = int(row["id"])
        assert row["path"] == f"s3://bucket/{number:06}.jpg"
        if row["role"] == "keeper":
            keeper = owner[row["group"]] = number
            assert row["similarity"] is None
            assert row["reason"].startswith(f"most_bytes: {readable(number)}")
        else:
            assert row["similarity"] == np.float32(truth[tuple(sorted((keeper, number)))])
            assert row["reason"] is None
    assert sorted(owner) == list(range(len(owner))) and len(owner) > 50
    assert len({row["id"] for row in told}) == len(told)
    pairing = {(row["component"], component[int(row["id"])]) for row in told}
    assert len(pairing) == len({a for a, _ in pairing}) == len({b for _, b in pairing})
    assert not any(tuple(sorted((a, b))) in truth for a in owner.values() for b in owner.values())
    kept = set(owner.values())
    removed = {int(row["id"]) for row in told} - kept
    assert {n for pair in truth for n in pair} - removed >= kept
    # Greedily by size: nobody gave way to a keeper that is smaller than all their own pairs.
    for number in removed:
        better = [k for k in kept if tuple(sorted((k, number))) in truth]
        assert better and max(size(k) for k in better) >= size(number)


def size(number: int) -> int:
    return 1000 + number % 7


def readable(number: int) -> str:
    return "1.0 kB" if size(number) < 1050 else "1.1 kB"


@pytest.mark.parametrize("everyone_is_here", [False, True])
def test_a_small_copy_that_is_here_is_no_better_than_an_original_elsewhere(
    tmp_path, everyone_is_here
):
    paths = [tmp_path / name for name in ("copy.png", "full.png", "full2.png")]
    for path in paths if everyone_is_here else paths[:1]:
        Image.new("RGB", (20, 20) if path.name == "copy.png" else (90, 90)).save(path)
    columns = {"row": [0, 1, 2], "id": ["a", "b", "c"], "path": [*map(str, paths)]}
    files = pa.table({**columns, "bytes": [300, 9_000_000, 8_000_000]})
    similarity = np.array([0.99, 0.98, 0.97], np.float32)
    pairs = Pairs(3, np.array([0, 0, 1]), np.array([1, 2, 2]), similarity, 0.95)
    rows, rule = group_rows(pairs, files, "largest")
    assert rule == ("largest" if everyone_is_here else "most_bytes")
    assert rows["path"][0].as_py() == str(paths[1])
    assert rows["reason"][0].as_py().startswith(f"{rule}: ")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures, and a store of it."""
    folder = tmp_path_factory.mktemp("pictures")
    filled = fill_folder(folder / "files")
    encoding = Encoding("isoclip-demo", device="cpu", precision="float32")
    embed_into_store(read_images(str(filled.path)), str(folder / "store"), encoding, shard_rows=4)
    return filled, folder / "store"


@pytest.mark.parametrize("band", [None, Band(0, 0)])
def test_a_store_has_the_duplicates_of_its_files(pictures, band):
    filled, folder = pictures
    clip = load_clip("isoclip-demo", device="cpu", precision="float32")
    expected = find_file_duplicates(list(filled.readable), clip, band=band, similarity=0.9)
    before = bytes_of(folder)
    found = find_store_duplicates(str(folder), band=band, similarity=0.9)
    assert bytes_of(folder) == before
    groups: dict[int, list[dict]] = {}
    for row in found.rows.to_pylist():
        groups.setdefault(row["group"], []).append(row)
    told = {
        (group[0]["path"], group[0]["reason"], frozenset(row["path"] for row in group[1:]))
        for group in groups.values()
    }
    assert told == {
        (group.keeper, group.reason, frozenset(member.path for member in group.members))
        for group in expected.groups
    }
    assert (found.facts.images, found.facts.band) == (15, expected.band)
    assert found.facts.exact and found.facts.recall == found.facts.recall_low == 1


def test_what_was_found_is_read_again(pictures, tmp_path):
    found = find_store_duplicates(str(pictures[1]))
    found.write(tmp_path / "found.parquet")
    again = read_duplicates(tmp_path / "found.parquet")
    assert again.rows.equals(found.rows) and again.facts == found.facts
    (tmp_path / "other.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match="holds no groups of duplicates"):
        read_duplicates(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="does not exist"):
        read_duplicates(tmp_path / "nowhere.parquet")


def test_a_store_that_is_not_whole_or_of_other_weights_is_refused(pictures, tmp_path):
    store = open_store(str(pictures[1]))
    recipe = replace(store.manifest.recipe, fingerprint="f" * 64)
    vectors = np.ones((5, recipe.dim), np.float32)
    made_store(tmp_path / "weights", vectors, recipe=recipe)
    with pytest.raises(StoreError, match="has the weights"):
        find_store_duplicates(str(tmp_path / "weights"))
    made = made_store(tmp_path / "stopped", vectors, recipe=store.manifest.recipe)
    made.note(complete=False, shards={})
    with pytest.raises(StoreError, match="is not whole"):
        find_store_duplicates(str(tmp_path / "stopped"))
    whole = made.note(complete=True, shards=made.manifest.shards)
    (shard,) = (tmp_path / "stopped" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(StoreError, match=f"the shard {shard.name} cannot be used"):
        find_store_duplicates(whole.uri)
    shard.unlink()
    with pytest.raises(StoreError, match="is not whole"):
        find_store_duplicates(whole.uri)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"recall": 0}, "A recall is a share"),
        ({"recall": 1.5}, "A recall is a share"),
        ({"similarity": 2}, "A similarity is a cosine"),
        ({"prefer": "most_labels"}, "files alone are not ranked by 'most_labels'"),
        ({"engine": "spark"}, "choose local or ray"),
        ({"band": Band(500, 500)}, "keeps none"),
    ],
)
def test_what_cannot_be_asked_is_told(pictures, asked, told):
    with pytest.raises(IsoClipError, match=told):
        find_store_duplicates(str(pictures[1]), **asked)


@pytest.mark.parametrize("failed", [(), (0, 1, 2)])
def test_f09_stores_of_hardly_anything_have_no_duplicates(pictures, tmp_path, failed):
    recipe = open_store(str(pictures[1])).manifest.recipe
    for n in (0, 1, 3):
        vectors = np.random.default_rng(n).standard_normal((n, recipe.dim)).astype(np.float32)
        made_store(tmp_path / str(n), vectors, recipe=recipe, failed=failed)
        found = find_store_duplicates(str(tmp_path / str(n)), similarity=0.99)
        assert (found.groups, found.duplicates, found.facts.images) == (0, 0, n)
        assert isinstance(found.rows, pa.Table) and found.to_json()["rows"] == []
