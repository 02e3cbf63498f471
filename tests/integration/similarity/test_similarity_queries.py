from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip.dataset.model import load_model
from fiftyone_isoclip.dataset.similarity import FaissSimilarityIndex
from fiftyone_isoclip.dataset.similarity_runs import build_similarity
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import WHOLE
from tests.galleries import add_pictures, paint_gallery
from tests.integration.similarity.oracles import (
    EXACT,
    NAME,
    Floats,
    N,
    check_order,
    ordered,
    unit,
)


def test_an_image_query_is_answered_in_the_isoclip_space(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    rewritten = unit(plain @ clip.isoclip().oblique.T)  # the paper's projector, not compressed
    scores = rewritten @ rewritten[4]

    view = dataset.sort_by_similarity(ids[4], brain_key="found", dist_field="far")

    assert view.values("id") == ordered(ids, scores)
    assert index.get_embeddings()[0].shape == (N, clip.isoclip().dim)
    np.testing.assert_allclose(dataset.values("far"), 1 - scores, atol=1e-5)


def test_a_text_query_is_answered_by_plain_embeddings(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    text = unit(clip.text_embeddings(["a red circle"]))[0]
    scores = unit(plain) @ text

    view = dataset.sort_by_similarity("a red circle", brain_key="found", dist_field="far")

    assert index.config.supports_prompts
    assert view.values("id") == ordered(ids, scores)
    np.testing.assert_allclose(dataset.values("far"), 1 - scores, atol=1e-5)


def test_several_queries_are_averaged(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    by_image = dataset.sort_by_similarity([ids[2], ids[9], ids[5]], brain_key="found")
    assert by_image.values("id") == ordered(ids, images @ images[[2, 9, 5]].sum(axis=0))

    text = unit(clip.text_embeddings(["a red circle", "a blue square"]))
    by_text = dataset.sort_by_similarity(["a red circle", "a blue square"], brain_key="found")
    assert by_text.values("id") == ordered(ids, unit(plain) @ text.sum(axis=0))


def test_vectors_of_either_space_are_understood(
    index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    right = ordered(ids, images @ images[6])
    for query in (plain[6], images[6], images[6].tolist()):
        assert index.sort_by_similarity(query).values("id") == right
    with pytest.raises(VectorError, match="dim 5"):
        index.sort_by_similarity(np.ones(5))
    with pytest.raises(VectorError, match="no direction"):
        index.sort_by_similarity(np.full(images.shape[1], np.nan))


def test_an_index_of_every_direction_is_asked_by_plain_vectors(
    dataset: fo.Dataset, tmp_path: Path, clip: Clip
) -> None:
    ids = add_pictures(dataset, paint_gallery(tmp_path, 12))
    whole = build_similarity(dataset, load_model(NAME, band="0/0", **EXACT), brain_key="whole")
    plain = np.stack(dataset.values("clip_embedding"))

    found = whole.sort_by_similarity(plain[6]).values("id")

    assert clip.isoclip(WHOLE).dim == clip.dim
    check_order(found, ids, unit(plain) @ unit(plain)[6])
    assert found[0] == ids[6]


def test_negative_samples_push_away_as_the_app_does_it(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    from plugins.panels.similarity_search.operators import SimilaritySearchOperator

    query = SimilaritySearchOperator._compute_combined_query(
        dataset, "found", [ids[1], ids[2]], [ids[3]]
    )

    images = clip.isoclip()(plain)
    right = images @ (2 * (images[1] + images[2]) / 2 - images[3])
    assert index.sort_by_similarity(query).values("id") == ordered(ids, right)


def test_the_least_similar_come_first_if_reversed(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    view = dataset.sort_by_similarity(
        ids[4], brain_key="found", k=7, reverse=True, dist_field="far"
    )
    assert view.values("id") == ordered(ids, -(images @ images[4]))[:7]
    np.testing.assert_allclose(view.values("far"), 1 - np.sort(images @ images[4])[:7], atol=1e-5)


def test_a_view_gets_as_many_results_as_it_can_give(
    dataset: fo.Dataset, index: FaissSimilarityIndex, ids: list[str], plain: Floats, clip: Clip
) -> None:
    images = clip.isoclip()(plain)
    rows = [25, 3, 17, 8, 29, 11]
    view = dataset.select([ids[row] for row in rows], ordered=True)

    for query in (ids[0], ids[8]):
        scores = images @ images[ids.index(query)]
        for k in (4, None):
            found = view.sort_by_similarity(query, brain_key="found", k=k).values("id")
            assert found == ordered(ids, scores, rows=rows)[:k]
    text = unit(plain) @ unit(clip.text_embeddings(["red"]))[0]
    found = view.sort_by_similarity("red", brain_key="found").values("id")
    assert found == ordered(ids, text, rows=rows)


def test_unknown_samples_are_named(index: FaissSimilarityIndex) -> None:
    with pytest.raises(DatasetError, match="0123456789abcdef01234567"):
        index.sort_by_similarity("0123456789abcdef01234567")


def test_an_uploaded_image_finds_its_sample_in_the_app_s_panel(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    from plugins.panels.similarity_search.operators import SimilaritySearchOperator
    from plugins.panels.similarity_search.run_manager import RunManager

    paths = paint_gallery(tmp_path, 12)
    ids = add_pictures(dataset, paths)
    build_similarity(dataset, NAME, brain_key="found")
    uploaded = {"name": "5.png", "content": b64encode(paths[5].read_bytes()).decode()}
    params = {"brain_key": "found", "query_type": "upload", "query_image": uploaded, "k": 3}
    asked = {"dataset_name": dataset.name, "params": params}
    context = ExecutionContext(request_params=asked, executor=Executor())

    told = SimilaritySearchOperator().execute(context)

    found = RunManager(context).get_run(told["run_id"])["result_ids"]
    assert len(found) == 3
    assert found[0] == ids[5]


def test_patches_are_indexed_by_label(dataset: fo.Dataset, tmp_path: Path, clip: Clip) -> None:
    paths = paint_gallery(tmp_path, 4)
    add_pictures(dataset, paths)
    for sample in dataset.limit(3):
        boxes = [[0, 0, 0.5, 0.5], [0.4, 0.4, 0.6, 0.6]]
        sample["parts"] = fo.Detections(detections=[fo.Detection(bounding_box=b) for b in boxes])
        sample.save()
    exact = load_model(NAME, **EXACT)

    index = build_similarity(dataset, exact, brain_key="parts_found", patches_field="parts")

    labels = dataset.values("parts.detections.id", unwind=True)
    vectors = np.stack(dataset.values("parts.detections.clip_embedding", unwind=True))
    images = clip.isoclip()(vectors)
    assert index.total_index_size == 6
    patches = dataset.to_patches("parts")
    found = patches.sort_by_similarity(labels[1], brain_key="parts_found", k=4).values("id")
    assert len(found) == 4
    check_order(found, labels, images @ images[1])
    assert index.get_embeddings(sample_ids=[dataset.first().id])[2].tolist() == labels[:2]
    samples = dataset.sort_by_similarity(labels[1], brain_key="parts_found", k=2)
    assert sorted(samples.values("parts.detections.id", unwind=True)) == sorted(found[:2])
    index.find_duplicates(thresh=1e-6)
    assert index.duplicate_ids == []
