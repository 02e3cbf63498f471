from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_isoclip.dataset.embeddings import embed
from fiftyone_isoclip.dataset.fields import Origin, write_origin
from fiftyone_isoclip.dataset.model import load_model
from fiftyone_isoclip.dataset.similarity import FaissSimilarityConfig, FaissSimilarityIndex
from fiftyone_isoclip.dataset.similarity_changes import find_changes
from fiftyone_isoclip.dataset.similarity_runs import build_similarity
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import Band
from tests.galleries import add_pictures, paint_gallery, paint_picture
from tests.integration.similarity.oracles import (
    EXACT,
    FIELD,
    NAME,
    Floats,
    check_order,
    compute,
    fill,
    ordered,
    unit,
)


@pytest.mark.parametrize("is_external", [True, False])
def test_a_new_process_finds_the_same(
    dataset: fo.Dataset, plain: Floats, ids: list[str], is_external: bool
) -> None:
    dataset.persistent = True
    where = {"embeddings": plain} if is_external else {"embeddings_field": FIELD}
    index = compute(dataset, brain_key="found", **where)
    queries = [ids[3], "a red circle"]
    code = (
        "import sys, fiftyone as fo\n"
        f"dataset = fo.load_dataset({dataset.name!r})\n"
        f"for query in {queries!r}:\n"
        "    view = dataset.sort_by_similarity(query, brain_key='found')\n"
        "    print('FOUND', *view.values('id'))\n"
        "    print('TORCH', 'torch' in sys.modules)\n"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    # Only text needs the model: a search by sample does not wait for torch.
    assert re.findall("TORCH (.*)", shown) == ["False", "True"]
    found = [line.split() for line in re.findall("FOUND (.*)", shown)]
    assert found == [index.sort_by_similarity(query).values("id") for query in queries]


def test_the_run_says_what_it_was_made_with(
    dataset: fo.Dataset, index: FaissSimilarityIndex, clip: Clip
) -> None:
    dataset.reload()
    config = dataset.get_brain_info("found").config
    assert isinstance(config, FaissSimilarityConfig)
    said = (config.method, config.checkpoint, config.band, config.fingerprint)
    assert said == ("faiss", NAME, str(clip.image_band), clip.fingerprint)
    assert "similarity" in config.cls
    assert dataset.list_brain_runs(type=fob.Similarity, supports_prompts=True) == ["found"]


def test_the_config_can_be_made_of_two_fields() -> None:
    config = FaissSimilarityConfig(embeddings_field="a", patches_field="b")
    assert (config.embeddings_field, config.patches_field) == ("a", "b")


def test_reload_reads_what_others_wrote(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats
) -> None:
    dataset.set_values(FIELD, {ids[0]: plain[5]}, key_field="id")
    index.reload()
    assert set(index.sort_by_similarity(ids[5], k=2).values("id")) == {ids[0], ids[5]}


def test_compressed_vectors_are_searched_as_they_are(
    dataset: fo.Dataset, plain: Floats, clip: Clip
) -> None:
    compressed = clip.isoclip()(plain)
    ids = fill(dataset, compressed)
    compute(dataset, embeddings_field=FIELD, brain_key="found")

    by_image = dataset.sort_by_similarity(ids[4], brain_key="found").values("id")
    by_text = dataset.sort_by_similarity("a red circle", brain_key="found").values("id")

    assert by_image == ordered(ids, compressed @ compressed[4])
    text = clip.isoclip().query(clip.text_embeddings(["a red circle"]))[0]
    assert by_text == ordered(ids, compressed @ text)


def test_brain_s_own_way_of_embedding(dataset: fo.Dataset, tmp_path: Path, clip: Clip) -> None:
    paths = paint_gallery(tmp_path, 8)
    paths[2].write_bytes(b"not a picture")
    ids = add_pictures(dataset, paths)

    index = compute(dataset, brain_key="found", batch_size=4, num_workers=0)

    assert index.is_external
    assert index.total_index_size == 7
    assert index.get_embeddings()[0].shape[1] == clip.isoclip().dim
    assert ids[2] not in dataset.sort_by_similarity(ids[0], brain_key="found").values("id")


def test_an_index_without_a_model(dataset: fo.Dataset, ids: list[str], plain: Floats) -> None:
    compute(dataset, model=None, model_kwargs=None, embeddings=FIELD, brain_key="found")
    found = dataset.sort_by_similarity(ids[2], brain_key="found").values("id")
    assert found == ordered(ids, unit(plain) @ unit(plain)[2])


@pytest.mark.parametrize("dim", [7, 200])
def test_f13_vectors_of_another_checkpoint_are_refused(
    dataset: fo.Dataset, clip: Clip, dim: int
) -> None:
    fill(dataset, np.random.default_rng(0).normal(size=(5, dim)))
    with pytest.raises(VectorError, match=rf"dim {dim}.*{NAME}.*{clip.dim}.*{clip.isoclip().dim}"):
        compute(dataset, embeddings_field=FIELD, brain_key="found")


def test_f13_vectors_of_several_dims_are_refused(dataset: fo.Dataset, plain: Floats) -> None:
    fill(dataset, plain)
    dataset.add_sample(fo.Sample(filepath="/nowhere/odd.png", clip_embedding=np.ones(3)))
    with pytest.raises(VectorError, match=r"1 of dim 3 \([0-9a-f]{24}\), 30 of dim 96"):
        compute(dataset, embeddings_field=FIELD)


def test_f13_a_field_of_other_weights_is_refused(
    dataset: fo.Dataset, ids: list[str], clip: Clip
) -> None:
    write_origin(dataset, FIELD, Origin("isoclip-other", "0" * 64, clip.dim))
    with pytest.raises(DatasetError, match=r"isoclip-other.*000000.*isoclip-demo"):
        compute(dataset, embeddings_field=FIELD)


def test_f13_a_field_embedded_anew_with_other_weights_is_noticed(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], clip: Clip
) -> None:
    write_origin(dataset, FIELD, Origin("isoclip-other", "0" * 64, clip.dim))
    index.reload()
    with pytest.raises(DatasetError, match="build it with the checkpoint that made the field"):
        index.sort_by_similarity(ids[0])


def test_f13_text_is_not_asked_of_other_weights(index: FaissSimilarityIndex) -> None:
    index.config.fingerprint = "0" * 64  # the checkpoint's name gives other weights by now
    with pytest.raises(DatasetError, match=r"built with weights 000000.*build it again"):
        index.sort_by_similarity("red")


def test_a_field_that_holds_no_vectors_is_refused(dataset: fo.Dataset) -> None:
    dataset.add_sample(fo.Sample(filepath="/nowhere/1.png", label="cat"))
    with pytest.raises(DatasetError, match="StringField"):
        compute(dataset, embeddings_field="label")


def test_a_field_kept_in_files_alone_is_refused(dataset: fo.Dataset, tmp_path: Path) -> None:
    add_pictures(dataset, paint_gallery(tmp_path, 3))
    embed(dataset, NAME, on_samples=False, progress=False)
    with pytest.raises(DatasetError, match="on_samples=True"):
        build_similarity(dataset, NAME, brain_key="found")
    assert dataset.list_brain_runs() == []


def test_from_pictures_to_search_in_one_call(
    dataset: fo.Dataset, tmp_path: Path, clip: Clip
) -> None:
    ids = add_pictures(dataset, paint_gallery(tmp_path, 10))
    exact = load_model(NAME, **EXACT)

    index = build_similarity(dataset, exact, brain_key="found")

    plain = np.stack(dataset.values(FIELD))
    assert plain.shape == (10, clip.dim)
    images = clip.isoclip()(plain)
    check_order(index.sort_by_similarity(ids[0]).values("id"), ids, images @ images[0])
    assert index.config.model == NAME
    late = add_pictures(dataset, [tmp_path / "late.png"] if late_picture(tmp_path) else [])
    index.add_to_index(*index.compute_embeddings(dataset.select(late), num_workers=0))
    assert index.total_index_size == 11
    assert dataset[late[0]][FIELD].shape == (clip.dim,)


def late_picture(folder: Path) -> bool:
    paint_picture(99).save(folder / "late.png")
    return True


def test_a_band_of_ones_own_is_kept_with_the_run(
    dataset: fo.Dataset, tmp_path: Path, clip: Clip
) -> None:
    ids = add_pictures(dataset, paint_gallery(tmp_path, 10))
    build_similarity(dataset, load_model(NAME, band="3/7", **EXACT), brain_key="found")

    images = clip.isoclip(Band(3, 7))(np.stack(dataset.values(FIELD)))
    found = dataset.sort_by_similarity(ids[0], brain_key="found").values("id")
    check_order(found, ids, images @ images[0])
    assert dataset.get_brain_info("found").config.model_kwargs == {"band": "3/7"}


@pytest.mark.parametrize("key", ["Found", "../found", "1st", "", "a b", "found\0"])
def test_f16_odd_brain_keys_are_refused(dataset: fo.Dataset, key: str) -> None:
    with pytest.raises(DatasetError):
        build_similarity(dataset, NAME, brain_key=key)
    assert dataset.list_brain_runs() == []


def test_a_taken_brain_key_is_refused_and_its_run_stays(
    dataset: fo.Dataset, index: FaissSimilarityIndex
) -> None:
    with pytest.raises(DatasetError, match="delete_brain_run"):
        build_similarity(dataset, NAME, brain_key="found")
    assert dataset.load_brain_results("found") is not None


def test_f02_a_failed_build_leaves_no_run(
    dataset: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pictures(dataset, paint_gallery(tmp_path, 3))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FaissSimilarityIndex, "saved", property(interrupted))
    with pytest.raises(KeyboardInterrupt):
        build_similarity(dataset, NAME, brain_key="found")
    assert dataset.list_brain_runs() == []


@pytest.mark.parametrize("is_external", [True, False])
def test_rows_in_half_precision_survive_a_reload_as_they_were(
    dataset: fo.Dataset, plain: Floats, ids: list[str], is_external: bool
) -> None:
    where = {"embeddings": plain} if is_external else {"embeddings_field": FIELD}
    exact = compute(dataset, brain_key="exact", **where)
    index = compute(dataset, brain_key="half", storage="float16", **where)
    dataset.clear_cache()
    dataset._brain_cache.clear()
    again = dataset.load_brain_results("half")
    assert again is not index

    for found in (index, again):
        rows = found.settle()
        assert rows.images.vectors.dtype == rows.source.vectors.dtype == np.float16
        whole = exact.settle().images.nearest(plain_queries(exact, 5), 10)
        half = rows.images.nearest(plain_queries(exact, 5), 10)
        np.testing.assert_allclose(half.similarities, whole.similarities, atol=3e-4)
    np.testing.assert_array_equal(again.settle().source.vectors, index.settle().source.vectors)
    if not is_external:
        assert again.settle().source.n == len(ids)
        assert str(find_changes(again)) == "0 new, 0 gone, 0 changed"


def plain_queries(index: FaissSimilarityIndex, count: int) -> Floats:
    return np.asarray(index.settle().images.vectors[:count], dtype=np.float32)


def test_an_address_without_a_database_is_refused_before_anything_is_embedded(
    dataset: fo.Dataset,
) -> None:
    with pytest.raises(DatasetError, match="name the database as well, such as backend='lancedb'"):
        build_similarity(dataset, NAME, brain_key="found", uri="/somewhere/vectors")
    assert (dataset.list_brain_runs(), dataset.has_field(FIELD)) == ([], False)


def test_an_index_is_shown_in_a_line(dataset: fo.Dataset, ids: list[str], clip: Clip) -> None:
    write_origin(dataset, FIELD, Origin(NAME, clip.fingerprint, clip.dim))
    index = compute(dataset, brain_key="found", embeddings_field=FIELD)
    told = f"'found' in faiss: {len(ids)} vectors of {FIELD}, band {clip.image_band}"
    assert str(index) == repr(index) == f"<FaissSimilarityIndex {told}>"


def test_an_unknown_storage_is_refused_before_anything_is_embedded(dataset: fo.Dataset) -> None:
    with pytest.raises(VectorError, match="float32 or float16; got 'int8'"):
        build_similarity(dataset, "isoclip-demo", brain_key="half", storage="int8")
    assert not dataset.has_brain_run("half")
