"""An index whose vectors lie in a database: its answers, its run, and what it leaves behind."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_isoclip.dataset import build_similarity, embed
from fiftyone_isoclip.dataset.brain_runs import delete_brain_run, list_brain_runs, need_index
from fiftyone_isoclip.dataset.fields import Origin, write_origin
from fiftyone_isoclip.dataset.model import load_model
from fiftyone_isoclip.dataset.similarity_backends.index import TableSimilarityIndex
from fiftyone_isoclip.dataset.similarity_backends.lancedb import LanceDBConfig, LanceTable
from fiftyone_isoclip.dataset.similarity_changes import find_changes
from fiftyone_isoclip.dataset.similarity_refresh import find_index_staleness, refresh_similarity
from fiftyone_isoclip.dataset.staleness import Staleness
from fiftyone_isoclip.encoder import Clip, load_clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from tests.galleries import add_pictures, paint_gallery, paint_picture
from tests.integration.similarity.oracles import (
    EXACT,
    FIELD,
    NAME,
    Floats,
    check_order,
    fill,
    ordered,
    unit,
)

pytest.importorskip("lancedb", reason="the extra lancedb is not installed")

N = 40


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(NAME, **EXACT)


@pytest.fixture
def plain(clip: Clip) -> Floats:
    random = np.random.default_rng(3)
    return (random.normal(size=(N, clip.dim)) + 0.5).astype(np.float32)


@pytest.fixture
def ids(
    dataset: fo.Dataset, plain: Floats, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Samples that hold plain embeddings of the checkpoint, and no files to embed."""
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_runs.embed", lambda *_, **__: None)
    found = fill(dataset, plain)
    write_origin(dataset, FIELD, Origin(NAME, clip.fingerprint, clip.dim))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tables"


def build(dataset: fo.Dataset, folder: Path, **said: object) -> TableSimilarityIndex:
    model = load_model(NAME, **EXACT)
    said = {"brain_key": "found", "backend": "lancedb", "uri": str(folder)} | said
    index = build_similarity(dataset, model, **said)
    assert isinstance(index, TableSimilarityIndex)
    return index


def tables_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def found_by(samples: fo.Dataset, query: object, **said: object) -> list[str]:
    return samples.sort_by_similarity(query, brain_key="found", **said).values("id")


@pytest.fixture
def index(dataset: fo.Dataset, ids: list[str], folder: Path) -> TableSimilarityIndex:
    return build(dataset, folder)


def test_images_are_found_by_isoclip_and_texts_by_plain_embeddings(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images, text = clip.isoclip()(plain), clip.text_embeddings(["a red circle"])[0]
    check_order(found_by(dataset, ids[4], k=7), ids, images @ images[4])
    check_order(found_by(dataset, ids[4]), ids, images @ images[4])
    check_order(found_by(dataset, ids[:3], k=9), ids, images @ images[:3].mean(axis=0))
    check_order(found_by(dataset, "a red circle", k=9), ids, unit(plain) @ text)
    check_order(found_by(dataset, ids[4], k=9, reverse=True), ids, -images @ images[4])
    # An uploaded image comes compressed, and a plain embedding is one, too.
    check_order(found_by(dataset, images[6], k=5), ids, images @ images[6])
    check_order(found_by(dataset, plain[6], k=5), ids, images @ images[6])
    # The Similarity Search panel: twice the wanted, less the unwanted.
    wanted = 2 * images[:2].mean(axis=0) - images[5]
    check_order(found_by(dataset, wanted, k=6), ids, images @ unit(wanted))


def test_distances_are_one_minus_the_cosine(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    view = dataset.sort_by_similarity(ids[4], k=8, brain_key="found", dist_field="far")
    cosines = [float(images[ids.index(id_)] @ images[4]) for id_ in view.values("id")]
    np.testing.assert_allclose(view.values("far"), 1 - np.array(cosines), atol=1e-5)


def test_only_the_view_is_searched(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images, rows = clip.isoclip()(plain), list(range(1, N, 3))
    view = dataset.select([ids[row] for row in rows])
    found = found_by(view, ids[0], k=5)  # the query itself is not among them
    assert found == ordered(ids, images @ images[0], rows=rows)[:5]
    assert found_by(view, ids[0]) == ordered(ids, images @ images[0], rows=rows)
    text = unit(plain) @ clip.text_embeddings(["red"])[0]
    assert found_by(view, "red", k=4) == ordered(ids, text, rows=rows)[:4]
    assert found_by(dataset.limit(0), ids[0], k=4) == []


def test_half_precision_takes_half_the_room(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], folder: Path
) -> None:
    half = build(dataset, folder, brain_key="half", storage="float16")
    exact, rounded = (each.get_embeddings(sample_ids=ids)[0] for each in (index, half))
    assert 0 < np.abs(exact - rounded).max() < 5e-4
    import pyarrow as pa

    with half.tables() as tables:
        kind = tables.images._table().schema.field("vector").type.value_type
    assert kind == pa.float16()


def test_an_index_without_texts_says_so(dataset: fo.Dataset, ids: list[str], folder: Path) -> None:
    build(dataset, folder, text=False)
    assert len(tables_in(folder)) == 1
    with pytest.raises(DatasetError, match=r"built with text=False.*build it with text=True"):
        found_by(dataset, "red")
    assert not dataset.get_brain_info("found").config.supports_prompts
    assert found_by(dataset, ids[2], k=1) == [ids[2]]


def test_what_cannot_be_asked_is_told(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str]
) -> None:
    with pytest.raises(DatasetError, match=r"find_duplicates\(dataset, field='clip_embedding'\)"):
        index.find_duplicates(thresh=0.1)
    with pytest.raises(DatasetError, match="can only be averaged"):
        index.sort_by_similarity(ids[:2], aggregation="max")
    with pytest.raises(VectorError, match="dim 5 were given to an index that takes 96 or 60"):
        index.sort_by_similarity(np.ones(5))
    with pytest.raises(VectorError):
        index.sort_by_similarity(np.full(60, np.nan))
    with pytest.raises(DatasetError, match=f"1 of the samples.*{'0' * 24}"):
        index.sort_by_similarity("0" * 24)


def test_vectors_without_direction_stay_out_and_are_named(
    dataset: fo.Dataset, ids: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {ids[1]: np.full(96, np.nan), ids[2]: np.zeros(96)}
    dataset.set_values(FIELD, bad, key_field="id")
    with caplog.at_level(logging.WARNING):
        index = build(dataset, folder)
    assert index.total_index_size == N - 2
    assert re.search(rf"2 of 40 vectors.*stay out of the index: {ids[1]}, {ids[2]}", caplog.text)
    assert not {ids[1], ids[2]} & set(found_by(dataset, ids[0]))


def test_blocks_of_samples_are_one_index(
    dataset: fo.Dataset,
    ids: list[str],
    folder: Path,
    plain: Floats,
    clip: Clip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_blocks.BLOCK_SAMPLES", 7)
    index = build(dataset, folder)
    vectors, found, labels = index.get_embeddings()
    order = [found.tolist().index(id_) for id_ in ids]
    np.testing.assert_allclose(vectors[order], clip.isoclip()(plain), atol=1e-6)
    assert labels is None


def test_rows_come_change_and_go(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    late = dataset.add_samples([fo.Sample(filepath="/nowhere/late.png")])
    index.add_to_index(plain[:1], late)
    assert set(found_by(dataset, ids[0], k=2)) == {ids[0], late[0]}
    index.add_to_index(plain[5:6], late)  # in the place of the earlier one
    assert set(found_by(dataset, ids[5], k=2)) == {ids[5], late[0]}
    index.add_to_index(plain[:1], late, overwrite=False)
    assert set(found_by(dataset, ids[5], k=2)) == {ids[5], late[0]}
    with pytest.raises(DatasetError, match="1 ids are in the index already"):
        index.add_to_index(plain[:1], late, overwrite=False, allow_existing=False)
    assert index.total_index_size == N + 1
    with pytest.raises(VectorError, match="dim 96 and was given some of dim 12"):
        index.add_to_index(np.ones((1, 12)), late)
    index.remove_from_index(sample_ids=late)
    assert late[0] not in found_by(dataset, ids[5])
    with pytest.raises(DatasetError, match="1 ids are not in the index"):
        index.remove_from_index(sample_ids=late, allow_missing=False)
    index.remove_from_index(sample_ids=late)


def test_rows_are_counted_only_to_find_all_of_them(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], monkeypatch
) -> None:
    assert len(found_by(dataset, ids[0])) == N
    monkeypatch.setattr(LanceTable, "count", lambda _: pytest.fail("counted"))
    assert found_by(dataset, ids[0], k=1) == [ids[0]]
    assert len(found_by(dataset, ids[0], k=N + 5)) == N
    assert len(found_by(dataset.limit(3), ids[0])) == 3


def test_samples_that_were_deleted_are_not_found(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    nearest = ordered(ids, images @ images[0])
    dataset.delete_samples(nearest[1:4])
    assert found_by(dataset, ids[0], k=4) == [nearest[0], *nearest[4:7]]
    assert index.total_index_size == N - 3


def test_a_search_never_lists_all_ids(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    nearest = ordered(ids, clip.isoclip()(plain) @ clip.isoclip()(plain)[0])
    dataset.delete_samples([*nearest[1:12], nearest[-1]])
    monkeypatch.setattr(LanceTable, "list_ids", lambda _: pytest.fail("listed"))
    assert found_by(dataset, ids[0], k=4) == [nearest[0], *nearest[12:15]]
    assert index.total_index_size == N - 11  # the last one was not met


def test_what_happened_to_the_field_is_found_and_brought_in(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    assert str(find_changes(index)) == "0 new, 0 gone, 0 changed"
    (late,) = dataset.add_samples(
        [fo.Sample(filepath="/nowhere/late.png", clip_embedding=plain[0])]
    )
    dataset.set_values(FIELD, {ids[1]: plain[2], ids[3]: None}, key_field="id")
    dataset.delete_samples([ids[4]])
    changes = find_changes(index)
    assert (changes.new, set(changes.gone), changes.changed) == ([late], {ids[3], ids[4]}, [ids[1]])

    index.fill()

    assert not find_changes(index)
    assert set(found_by(dataset, ids[0], k=2)) == {ids[0], late}
    assert set(found_by(dataset, ids[1], k=2)) == {ids[1], ids[2]}
    text = clip.text_embeddings(["red"])[0]
    left = [late, *ids[:3], *ids[5:]]
    rows = np.stack([dataset[id_][FIELD] for id_ in left])
    check_order(found_by(dataset, "red"), left, unit(rows) @ text)


@pytest.mark.parametrize("model", [NAME, None])
def test_an_index_that_was_built_of_nothing_remembers_its_first_vectors(
    dataset: fo.Dataset, ids: list[str], folder: Path, plain: Floats, clip: Clip, model: str | None
) -> None:
    vectors = dict(zip(ids, plain, strict=True))
    dataset.clear_sample_field(FIELD)
    if model is None:
        said = {"backend": LanceDBConfig, "uri": str(folder), "embeddings_field": FIELD}
        index = fob.compute_similarity(dataset, embeddings=False, brain_key="found", **said)
    else:
        index = build(dataset, folder)
    dataset._brain_cache.clear()
    elsewhere = dataset.load_brain_results("found")  # loaded while there was nothing
    assert found_by(dataset, plain[3]) == []
    dataset.set_values(FIELD, vectors, key_field="id")

    index.fill()

    compared = unit(plain) if model is None else clip.isoclip()(plain)
    text = unit(plain) @ clip.text_embeddings(["red"])[0]
    dataset._brain_cache.clear()
    for each in (elsewhere, dataset.load_brain_results("found")):
        for query in (ids[4], plain[4]):
            found = each.sort_by_similarity(query, k=7).values("id")
            check_order(found, ids, compared @ compared[4])
        if model is not None:
            check_order(each.sort_by_similarity("red", k=7).values("id"), ids, text)
        assert (each.config.texts_table is None) == (model is None)


def test_f13_a_field_of_other_weights_is_neither_filled_in_nor_searched(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], clip: Clip
) -> None:
    write_origin(dataset, FIELD, Origin("isoclip-other", "0" * 64, clip.dim))
    with pytest.raises(DatasetError, match=r"weights [0-9a-f]{12}.*isoclip-other.*build it again"):
        index.fill()
    with pytest.raises(DatasetError, match=r"isoclip-other.*build it again"):
        refresh_similarity(dataset, "found")
    dataset._brain_cache.clear()
    for query in (ids[0], "red"):
        with pytest.raises(DatasetError, match=r"isoclip-other.*build it again"):
            found_by(dataset, query, k=1)


def stale(dataset: fo.Dataset) -> Staleness:
    return find_index_staleness(dataset, need_index(dataset, "found"))


@pytest.mark.parametrize("patches_field", [None, "boxes"])
def test_an_index_that_no_longer_fits_its_field_says_so_and_is_brought_up_to_date(
    dataset: fo.Dataset, tmp_path: Path, folder: Path, patches_field: str | None
) -> None:
    ids = add_pictures(dataset, paint_gallery(tmp_path, 6))
    for sample in dataset:
        sample["boxes"] = fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 0.5, 0.5])])
        sample.save()
    build(dataset, folder, patches_field=patches_field)
    assert stale(dataset) == Staleness()
    dataset.select(ids[:2]).tag_samples("seen")
    assert stale(dataset) == Staleness()

    paint_picture(77).save(dataset[ids[1]].filepath)
    model = load_model(NAME, **EXACT)
    embed(dataset, model, FIELD, patches_field=patches_field, progress=False)
    assert stale(dataset) == Staleness(changed=1)
    paint_picture(99).save(tmp_path / "late.png")
    (late,) = add_pictures(dataset, [tmp_path / "late.png"])
    sample = dataset[late]
    sample["boxes"] = fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 0.5, 0.5])])
    sample.save()
    assert stale(dataset) == Staleness(added=1, changed=1)
    dataset.delete_samples(ids[4:])
    assert stale(dataset).removed == 1

    report = refresh_similarity(dataset, "found", progress=False)

    assert (report.vectors, report.embedded and report.embedded.computed) == (5, 1)
    assert stale(dataset) == Staleness()
    loaded = dataset.load_brain_results("found")
    assert not find_changes(loaded)
    assert not refresh_similarity(dataset, "found", progress=False).stale


def test_patches_are_searched_by_label(
    dataset: fo.Dataset, plain: Floats, clip: Clip, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_runs.embed", lambda *_, **__: None)
    boxes = [fo.Detection(label="x", bounding_box=[0, 0, 1, 1], **{FIELD: row}) for row in plain]
    of = [
        fo.Sample(filepath=f"/nowhere/{n}.png", boxes=fo.Detections(detections=boxes[n::4]))
        for n in range(4)
    ]
    samples = dataset.add_samples(of)
    labels = [label for n in range(4) for label in dataset[samples[n]].boxes.detections]
    ids, rows = [label.id for label in labels], np.stack([label[FIELD] for label in labels])
    images = clip.isoclip()(rows)

    index = build(dataset, folder, patches_field="boxes")

    patches = dataset.to_patches("boxes")
    assert found_by(patches, ids[3], k=6) == ordered(ids, images @ images[3])[:6]
    part = patches.select(ids[::2])
    expected = ordered(ids, images @ images[3], rows=list(range(0, N, 2)))
    assert found_by(part, ids[3], k=6) == expected[:6]
    assert set(index.get_embeddings(sample_ids=samples[:1])[2]) == set(ids[:10])
    vectors, owners, found = index.get_embeddings(label_ids=[ids[12], ids[1]])
    assert (owners.tolist(), found.tolist()) == ([samples[1], samples[0]], [ids[12], ids[1]])
    np.testing.assert_allclose(vectors, images[[12, 1]], atol=1e-6)


def test_vectors_that_are_kept_in_files_are_indexed(
    dataset: fo.Dataset, tmp_path: Path, folder: Path, clip: Clip
) -> None:
    ids = add_pictures(dataset, paint_gallery(tmp_path, 9))
    embed(dataset, load_model(NAME, **EXACT), FIELD, on_samples=True, progress=False)
    plain = np.stack(dataset.values(FIELD))
    embed(dataset, load_model(NAME, **EXACT), FIELD, on_samples=False, progress=False)
    assert dataset.count(FIELD) == 0
    index = build(dataset, folder)
    images = clip.isoclip()(plain)
    check_order(found_by(dataset, ids[2], k=6), ids, images @ images[2])
    for on_samples in (True, False):  # an index that has a copy lets the vectors move
        embed(dataset, load_model(NAME, **EXACT), FIELD, on_samples=on_samples, progress=False)
        assert not find_changes(index)
    check_order(found_by(dataset, "red"), ids, unit(plain) @ clip.text_embeddings(["red"])[0])


def test_deleting_the_run_deletes_its_tables(
    dataset: fo.Dataset, index: TableSimilarityIndex, folder: Path
) -> None:
    assert len(tables_in(folder)) == 2
    dataset._brain_cache.clear()  # as in another session
    dataset.delete_brain_run("found")
    assert tables_in(folder) == []


@pytest.mark.parametrize("name", ["tables", "password=word"])  # the latter is not stored
def test_f02_an_interrupted_build_leaves_no_run_and_no_tables(
    dataset: fo.Dataset, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_blocks.BLOCK_SAMPLES", 7)
    put, calls = TableSimilarityIndex._put, []

    def interrupted(self: TableSimilarityIndex, new: object) -> None:
        put(self, new)
        calls.append(tables_in(folder))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(TableSimilarityIndex, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(dataset, folder)
    assert len(calls[-1]) == 2  # they were there
    assert (dataset.list_brain_runs(), tables_in(folder)) == ([], [])


@pytest.mark.parametrize("failure", [OSError("full"), KeyboardInterrupt()])
def test_f02_tables_that_cannot_be_deleted_stay_with_their_run(
    dataset: fo.Dataset,
    ids: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: BaseException,
) -> None:
    put = LanceTable.put

    def full(*said: object) -> None:
        put(*said)  # type: ignore[arg-type]
        raise failure

    def away(_: object) -> None:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(LanceTable, "put", full)
        patch.setattr(LanceTable, "drop", away)
        with pytest.raises((DatasetError, KeyboardInterrupt)) as raised:
            build(dataset, folder)
    (table,) = tables_in(folder)
    told = caplog.text if isinstance(failure, KeyboardInterrupt) else str(raised.value)
    assert re.search(
        rf"the tables {table.removesuffix('.lance')}.*stay, with the run 'found'", told
    )
    if isinstance(failure, OSError):
        assert "did not do what was asked: full" in told
    assert dataset.list_brain_runs() == ["found"]
    delete_brain_run(dataset, "found")
    assert (dataset.list_brain_runs(), tables_in(folder)) == ([], [])


def test_f02_tables_of_a_build_that_was_killed_go_with_its_run(
    dataset: fo.Dataset, ids: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:  # a killed process cleans nothing up
        patch.setattr("fiftyone.brain.similarity.Similarity.save_run_results", killed)
        patch.setattr(TableSimilarityIndex, "cleanup", lambda _: None)
        patch.setattr(fo.Dataset, "delete_brain_run", lambda *_: None)
        with pytest.raises(Killed):
            build(dataset, folder)
    assert len(tables_in(folder)) == 2
    assert [run.what for run in list_brain_runs(dataset)] == ["index in lancedb"]
    dataset._brain_cache.clear()
    delete_brain_run(dataset, "found")
    assert (dataset.list_brain_runs(), tables_in(folder)) == ([], [])


def test_brain_builds_one_that_knows_its_tables(
    dataset: fo.Dataset, ids: list[str], folder: Path, plain: Floats, clip: Clip
) -> None:
    said = {"model": NAME, "model_kwargs": EXACT, "backend": LanceDBConfig, "uri": str(folder)}
    fob.compute_similarity(dataset, embeddings=FIELD, brain_key="found", **said)
    said |= {"model": None, "model_kwargs": None}  # vectors of anybody, compared as they are
    fob.compute_similarity(dataset, embeddings=FIELD, brain_key="theirs", **said)
    dataset._brain_cache.clear()
    theirs = dataset.sort_by_similarity(ids[4], k=7, brain_key="theirs").values("id")
    check_order(theirs, ids, unit(plain) @ unit(plain)[4])
    images = clip.isoclip()(plain)
    check_order(found_by(dataset, ids[4], k=7), ids, images @ images[4])
    text = clip.text_embeddings(["red"])[0]
    check_order(found_by(dataset, "red", k=7), ids, unit(plain) @ text)
    dataset.delete_brain_runs()
    assert tables_in(folder) == []


def test_vectors_of_anybody_need_no_table_of_texts(
    dataset: fo.Dataset, ids: list[str], folder: Path, plain: Floats
) -> None:
    said = {"backend": LanceDBConfig, "uri": str(folder), "embeddings_field": FIELD}
    index = fob.compute_similarity(dataset, embeddings=False, brain_key="found", **said)
    index.fill()
    assert len(tables_in(folder)) == 1
    check_order(found_by(dataset, ids[4], k=7), ids, unit(plain) @ unit(plain)[4])
    dataset.delete_brain_run("found")
    assert tables_in(folder) == []


def test_a_clone_reads_the_tables_and_never_writes_them(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], folder: Path, plain: Floats
) -> None:
    clone = dataset.clone()
    try:
        assert found_by(clone, ids[3], k=6) == found_by(dataset, ids[3], k=6)
        copied = clone.load_brain_results("found")
        with pytest.raises(DatasetError, match="belong to the dataset it was cloned from"):
            copied.add_to_index(plain[:1], ids[:1])
        with pytest.raises(DatasetError, match="belong to the dataset it was cloned from"):
            copied.remove_from_index(sample_ids=ids[:1])
        clone.delete_samples(found_by(clone, ids[3], k=6)[1:3])
        assert set(found_by(clone, ids[3], k=6)) <= set(clone.values("id"))
        delete_brain_run(clone, "found")
        assert len(tables_in(folder)) == 2
        assert index.total_index_size == N
    finally:
        clone.delete()


def test_two_indexes_share_no_table(dataset: fo.Dataset, ids: list[str], folder: Path) -> None:
    build(dataset, folder)
    build(dataset, folder, brain_key="other", text=False)
    assert len(tables_in(folder)) == 3
    dataset.delete_brain_run("other")
    assert len(tables_in(folder)) == 2
    assert found_by(dataset, ids[0], k=1) == [ids[0]]


def test_an_address_with_a_secret_is_not_stored_and_asked_for_by_name(
    dataset: fo.Dataset, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"file://{tmp_path}/word@home"
    build(dataset, tmp_path, uri=uri)
    run = fo.core.odm.get_db_conn().runs.find_one({"_dataset_id": dataset._doc.id, "key": "found"})
    assert "word" not in json.dumps(run, default=str)

    dataset._brain_cache.clear()
    with pytest.raises(DatasetError, match="FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI"):
        found_by(dataset, ids[0], k=1)
    settings = fob.brain_config.similarity_backends["lancedb"]  # read from the environment
    monkeypatch.setitem(settings, "uri", uri)
    dataset._brain_cache.clear()
    assert found_by(dataset, ids[0], k=1) == [ids[0]]


def test_a_stored_address_is_the_place_of_the_vectors_whatever_the_environment_says(
    dataset: fo.Dataset,
    index: TableSimilarityIndex,
    ids: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = fob.brain_config.similarity_backends["lancedb"]
    monkeypatch.setitem(settings, "uri", str(tmp_path / "elsewhere"))
    dataset._brain_cache.clear()
    assert found_by(dataset, ids[0], k=1) == [ids[0]]


def test_a_database_that_is_away_is_one_sentence(
    dataset: fo.Dataset, index: TableSimilarityIndex, ids: list[str], folder: Path
) -> None:
    for table in folder.iterdir():
        for path in table.rglob("*"):
            if path.is_file():
                path.write_bytes(b"not a table")
    for loaded in (index, None):
        if loaded is None:
            dataset._brain_cache.clear()
        with pytest.raises(DatasetError, match=rf"lancedb at {folder} did not do what was asked"):
            found_by(dataset, ids[0], k=3)


def test_f12_nothing_is_embedded_for_a_database_that_is_away(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    add_pictures(dataset, paint_gallery(tmp_path, 2))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match="did not do what was asked"):
        build(dataset, tmp_path / "file" / "tables")
    assert not dataset.has_field(FIELD)
    assert dataset.list_brain_runs() == []


def test_what_cannot_be_built_is_refused(dataset: fo.Dataset, ids: list[str], folder: Path) -> None:
    with pytest.raises(DatasetError, match="choose one of faiss, lancedb"):
        build(dataset, folder, backend="elsewhere")
    with pytest.raises(DatasetError, match=r"FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI.*uri="):
        build(dataset, folder, uri=None)
    assert (dataset.list_brain_runs(), tables_in(folder)) == ([], [])


def test_centred_bands_are_refused(
    dataset: fo.Dataset, ids: list[str], folder: Path, clip: Clip
) -> None:
    from fiftyone_isoclip.dataset import fit_centre

    fit_centre(dataset, FIELD)
    with pytest.raises(DatasetError, match=r"3/7-centred.*backend='faiss', or band 3/7"):
        build_similarity(
            dataset,
            load_model(NAME, band="3/7-centred", **EXACT),
            brain_key="found",
            backend="lancedb",
            uri=str(folder),
        )


@pytest.fixture(autouse=True)
def _no_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(fob.brain_config.similarity_backends["lancedb"], "uri", raising=False)
    yield
