"""A centre is fitted once: what it is, where it holds, and that nothing moves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip import fit_centre
from fiftyone_isoclip.app import ClusterImages, FitCentre
from fiftyone_isoclip.dataset import (
    build_similarity,
    compare_with_clip,
    embed,
    find_clusters,
    find_duplicates,
    find_leaks,
    find_similar,
    load_run,
    map_embeddings,
    rerun,
    upgrade,
)
from fiftyone_isoclip.dataset.centres import Centre, read_centre
from fiftyone_isoclip.dataset.fields import need_origin, write_origin
from fiftyone_isoclip.dataset.groups import DuplicateReport
from fiftyone_isoclip.dataset.model import load_model
from fiftyone_isoclip.dataset.staleness import find_staleness
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import BandError, DatasetError, VectorError
from fiftyone_isoclip.files import embed_files, find_file_duplicates
from fiftyone_isoclip.projector import Band
from tests.operators import Offered
from tests.pictures import draw_many, recompress
from tests.reference import paper

FIELD, TOP, BOTTOM = "clip_embedding", 4, 3
BAND = f"{TOP}/{BOTTOM}-centred"


@pytest.fixture
def gallery(
    dataset: fo.Dataset, fill: Callable[..., list[str]], pictures: Path, checkpoint: str
) -> list[str]:
    """12 pictures with embeddings; -> their ids."""
    ids = fill(draw_many(pictures, 12))
    embed(dataset, checkpoint, progress=False)
    return ids


@pytest.fixture
def more(fill: Callable[..., list[str]], pictures: Path) -> Callable[[], list[str]]:
    """Adds four pictures unlike the others."""
    return lambda: fill(draw_many(pictures / "more", 4, first_seed=90))


def plain_of(samples: Any) -> Any:
    return np.stack(samples.values(FIELD)).astype(np.float64)


def at_unit_length(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compared(checkpoint: str, rows: Any, centre: Any, drop: tuple[int, int] = (TOP, BOTTOM)) -> Any:
    """Plain embeddings less the centre through the paper's projector, in float64: (n, r)."""
    clip = load_clip(checkpoint)
    image, text = clip.image_head.matrix, clip.text_head.matrix
    rewritten, _, _ = paper.rewritten_projectors(image, text, *drop)
    return (at_unit_length(rows) - centre) @ np.linalg.pinv(image).T @ rewritten.T


def brute_force(dataset: fo.Dataset, checkpoint: str, query: Any, centre: Any) -> dict[str, float]:
    """The cosine of every sample to plain vectors (1, r), from the centre."""
    here = compared(checkpoint, plain_of(dataset), centre)
    scores = paper.cosines(here, compared(checkpoint, query, centre))[:, 0]
    return dict(zip(dataset.values("id"), scores.tolist(), strict=True))


def check_found(found: Any, expected: dict[str, float]) -> None:
    np.testing.assert_allclose(found.similarities, [expected[i] for i in found.ids], atol=2e-5)
    assert (
        min(expected[id_] for id_ in found.ids)
        >= max((score for id_, score in expected.items() if id_ not in found.ids), default=-1.0)
        - 2e-5
    )


def test_the_centre_is_the_mean_of_the_embeddings_at_unit_length(
    dataset: fo.Dataset, gallery: list[str]
) -> None:
    centre = fit_centre(dataset)
    np.testing.assert_allclose(centre.numbers, at_unit_length(plain_of(dataset)).mean(axis=0))
    assert centre.n == 12 and str(centre) == f"centre {centre.digest} of 12 images"
    part = fit_centre(dataset.select(gallery[:5]), overwrite=True)
    np.testing.assert_allclose(
        part.numbers, at_unit_length(plain_of(dataset.select(gallery[:5]))).mean(axis=0)
    )
    assert part.n == 5 and part.digest != centre.digest


def test_it_is_kept_with_the_field_also_of_a_clone(dataset: fo.Dataset, gallery: list[str]) -> None:
    centre = fit_centre(dataset)
    dataset.reload()
    clone = dataset.clone()
    clone.rename_sample_field(FIELD, "called")
    clone.rename_sample_field(f"{FIELD}_source", "called_source")
    write_origin(dataset, FIELD, need_origin(dataset, FIELD))
    for where, field in ((dataset, FIELD), (clone, "called")):
        found = read_centre(where, field)
        assert found is not None and (found.n, found.digest) == (12, centre.digest)
        np.testing.assert_array_equal(found.numbers, centre.numbers)
    clone.delete()


def test_a_query_of_any_kind_is_compared_from_the_stored_centre(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, pictures: Path
) -> None:
    centre = fit_centre(dataset).numbers
    plain = plain_of(dataset)
    expected = brute_force(dataset, checkpoint, plain[3:4], centre)
    check_found(find_similar(dataset, 5 * plain[3], 12, band=BAND), expected)
    del expected[gallery[3]]
    check_found(find_similar(dataset, gallery[3], 5, band=BAND), expected)

    path = recompress(str(pictures / "004.png"), pictures / "query.jpg")
    lone = fo.Dataset()
    lone.add_sample(fo.Sample(filepath=str(path)))
    embed(lone, checkpoint, progress=False)
    expected = brute_force(dataset, checkpoint, plain_of(lone), centre)
    check_found(find_similar(dataset, path, 12, band=BAND), expected)
    lone.delete()


def test_the_whole_band_centred_is_mean_centred_clip(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    fit_centre(dataset)
    units = at_unit_length(plain_of(dataset))
    clip = load_clip(checkpoint)
    assert clip.spectrum.rank == clip.dim  # else the whole band is not plain CLIP
    scores = paper.cosines(units - units.mean(axis=0), units - units.mean(axis=0))[3]
    found = find_similar(dataset, gallery[3], 11, band="0/0-centred")
    np.testing.assert_allclose(
        found.similarities, [scores[gallery.index(id_)] for id_ in found.ids], atol=2e-5
    )


def test_what_comes_later_moves_neither_the_centre_nor_what_was_found(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, more: Callable[[], list[str]]
) -> None:
    centre = fit_centre(dataset)
    index = build_similarity(dataset, load_model(checkpoint, band=BAND), brain_key="near")
    before = find_similar(dataset, gallery[3], 11, band=BAND)
    in_index = index._kneighbors(query=gallery[3], k=None, return_dists=True)
    new = more()
    embed(dataset, checkpoint, progress=False)
    index.reload()

    after = find_similar(dataset, gallery[3], 15, band=BAND)
    old = [place for place, id_ in enumerate(after.ids) if id_ in gallery]
    assert [after.ids[place] for place in old] == before.ids
    assert [after.similarities[place] for place in old] == before.similarities
    check_found(after, brute_force_but_one(dataset, checkpoint, gallery[3], centre))
    ids, _, distances = index._kneighbors(query=gallery[3], k=None, return_dists=True)
    assert set(new) <= set(ids)
    kept = [(id_, gap) for id_, gap in zip(ids, distances, strict=True) if id_ not in new]
    assert kept == list(zip(in_index[0], in_index[2], strict=True))


def brute_force_but_one(
    dataset: fo.Dataset, checkpoint: str, id_: str, centre: Centre
) -> dict[str, float]:
    query = np.asarray(dataset[id_][FIELD], np.float64)[None]
    expected = brute_force(dataset, checkpoint, query, centre.numbers)
    del expected[id_]
    return expected


def test_every_verb_with_a_band_takes_a_centred_one(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    centre = fit_centre(dataset).numbers
    here = compared(checkpoint, plain_of(dataset), centre)
    scores = paper.cosines(here, here)
    pairs = np.stack(np.triu_indices(12, 1), axis=1)
    between = float(np.sort(scores[tuple(pairs.T)])[-6:-4].mean())

    check_groups(find_duplicates(dataset, similarity=between, band=BAND), gallery, scores)

    dataset.select(gallery[:6]).tag_samples("train")
    dataset.select(gallery[6:]).tag_samples("test")
    leaks = find_leaks(dataset, similarity=between, band=BAND)
    crossing = [(a, b) for a, b in pairs if scores[a, b] > between and (a < 6) != (b < 6)]
    assert (leaks.n_pairs, leaks.band) == (len(crossing), BAND)

    report = compare_with_clip(dataset, band=BAND, k=3)
    near = np.argsort(-(scores - 9 * np.eye(12)), axis=1)[:, :3]
    units = at_unit_length(plain_of(dataset))
    plain = np.argsort(-(units @ units.T - 9 * np.eye(12)), axis=1)[:, :3]
    shared = [len(set(a) & set(b)) / 3 for a, b in zip(near, plain, strict=True)]
    assert report.overlap == pytest.approx(np.mean(shared)) and report.band == BAND

    find_clusters(dataset, count=2, band=BAND)
    assert load_run(dataset, "clusters").band == BAND
    assert map_embeddings(dataset, band=BAND).band == BAND


def check_groups(report: DuplicateReport, ids: list[str], scores: Any) -> None:
    """Every group is what brute force says of its pairs, and every best pair is in one."""
    rows = {id_: row for row, id_ in enumerate(ids)}
    assert report.band == BAND and report.groups
    for group in report.groups:
        for copy in group.copies:
            expected = scores[rows[group.keeper], rows[copy.id]]
            assert copy.similarity == pytest.approx(expected, abs=2e-5)
    best = np.unravel_index(np.argmax(scores - 9 * np.eye(len(ids))), scores.shape)
    grouped = [{group.keeper, *(copy.id for copy in group.copies)} for group in report.groups]
    assert any({ids[row] for row in best} <= group for group in grouped)


def test_another_dataset_is_compared_from_the_centre_of_the_first(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, pictures: Path
) -> None:
    centre = fit_centre(dataset).numbers
    other = fo.Dataset()
    other.add_samples(
        [fo.Sample(filepath=p) for p in draw_many(pictures / "other", 5, first_seed=70)]
    )
    embed(other, checkpoint, progress=False)
    fit_centre(other)
    scores = paper.cosines(
        compared(checkpoint, plain_of(dataset), centre),
        compared(checkpoint, plain_of(other), centre),
    )
    middle = float(np.sort(scores.ravel())[-9:-7].mean())
    found = find_leaks(dataset, splits=[], other={"other": other}, similarity=middle, band=BAND)
    assert found.n_pairs == 8
    other.delete()


def test_text_is_searched_for_in_plain_clip_through_a_centred_index(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    fit_centre(dataset)
    centred = build_similarity(dataset, load_model(checkpoint, band=BAND), brain_key="centred")
    whole = build_similarity(dataset, checkpoint, brain_key="own")
    text = "a photo of a cat"
    found = [index.sort_by_similarity(text).values("id") for index in (centred, whole)]
    assert found[0] == found[1] == find_similar(dataset, text=text, k=12).ids


@pytest.mark.parametrize("band", [BAND, "0/0-centred"])
def test_an_index_takes_samples_and_plain_vectors_and_lasts(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, band: str
) -> None:
    fit_centre(dataset)
    index = build_similarity(dataset, load_model(checkpoint, band=band), brain_key="near")
    config = dataset.get_brain_info("near").config
    assert (config.band, config.centre) == (band, read_centre(dataset, FIELD).digest)
    plain = plain_of(dataset)
    right = find_similar(dataset, plain[3], 12, band=band)
    with Image.open(dataset[gallery[3]].filepath) as picture:
        made = index.get_model().embed(np.asarray(picture.convert("RGB")))
    handed_out = index.get_embeddings(sample_ids=[gallery[3]])[0][0]
    for query in (gallery[3], 5 * plain[3], made, handed_out):
        ids, _, distances = index._kneighbors(query=query, k=None, return_dists=True)
        assert ids == right.ids
        np.testing.assert_allclose(1 - np.array(distances), right.similarities, atol=1e-5)
    dataset.clear_cache()
    dataset._brain_cache.clear()
    again = dataset.load_brain_results("near")
    assert again is not index
    found = again._kneighbors(query=handed_out, k=None, return_dists=True)
    assert found == (ids, None, distances)


def test_a_vector_of_another_band_is_no_query_for_a_centred_index(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    fit_centre(dataset)
    index = build_similarity(dataset, load_model(checkpoint, band=BAND), brain_key="near")
    same_dim = load_model(checkpoint, band=f"{TOP}/{BOTTOM}").embedding_map(plain_of(dataset))
    with pytest.raises(VectorError, match=r"give \(n, \d+\)"):
        index._kneighbors(query=same_dim[3], k=3)


def test_another_centre_makes_runs_stale_and_indexes_refuse(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    fit_centre(dataset)
    build_similarity(dataset, load_model(checkpoint, band=BAND), brain_key="near")
    find_duplicates(dataset, similarity=0.5, band=BAND, key="centred")
    find_duplicates(dataset, similarity=0.5, key="own")
    find_clusters(dataset, count=2, band=BAND)
    compare_with_clip(dataset, band=BAND)
    keys = ("centred", "own", "clusters", "comparison")
    assert not any(find_staleness(dataset, load_run(dataset, key)) for key in keys)

    fit_centre(dataset.select(gallery[:6]), overwrite=True)

    stale = {key: find_staleness(dataset, load_run(dataset, key)).changed for key in keys}
    assert stale == {"centred": 12, "own": 0, "clusters": 12, "comparison": 12}
    dataset.clear_cache()
    dataset._brain_cache.clear()
    index = dataset.load_brain_results("near")
    for query in (gallery[3], "a photo of a cat"):
        with pytest.raises(DatasetError, match=r"built with centre .* of 6 images now; build it"):
            index.sort_by_similarity(query)
    for key in ("centred", "clusters", "comparison"):
        rerun(dataset, key)
        assert not find_staleness(dataset, load_run(dataset, key))
        assert load_run(dataset, key).band == BAND


def test_pairs_from_another_centre_are_not_taken_for_those_of_this_one(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    for samples in (dataset, dataset.select(gallery[:3])):
        centre = fit_centre(samples, overwrite=True).numbers
        here = compared(checkpoint, plain_of(dataset), centre)
        scores = paper.cosines(here, here)
        between = float(np.sort(scores[np.triu_indices(12, 1)])[-6:-4].mean())
        report = find_duplicates(dataset, similarity=between, least=between - 0.2, band=BAND)
        check_groups(report, gallery, scores)


def test_without_a_centre_every_verb_says_to_fit_one(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, other_checkpoint: str
) -> None:
    clone = dataset.clone()
    asks = (
        lambda: find_similar(dataset, gallery[0], band=BAND),
        lambda: find_duplicates(dataset, band=BAND),
        lambda: find_clusters(dataset, band=BAND),
        lambda: compare_with_clip(dataset, band=BAND),
        lambda: map_embeddings(dataset, band=BAND),
        lambda: find_leaks(dataset, splits=[], other={"other": clone}, band=BAND),
        lambda: build_similarity(dataset, load_model(checkpoint, band=BAND), brain_key="near"),
    )
    for ask in asks:
        with pytest.raises(DatasetError, match=r"fit one with fit_centre\(dataset, 'clip_embeddin"):
            ask()
    clone.delete()
    assert not dataset.list_runs() and not dataset.list_brain_runs()
    with pytest.raises(DatasetError, match="no field"):
        load = load_model(checkpoint, band=BAND)
        build_similarity(dataset, load, brain_key="near", field="another")
    fit_centre(dataset)
    embed(dataset, other_checkpoint, overwrite=True, progress=False)
    assert read_centre(dataset, FIELD) is None
    with pytest.raises(DatasetError, match="none of the weights"):
        find_similar(dataset, gallery[0], band=BAND)
    assert fit_centre(dataset).n == 12


def test_a_centre_is_not_replaced_unasked_nor_fitted_on_what_has_none(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    centre = fit_centre(dataset)
    with pytest.raises(DatasetError, match=f"has a {centre} already.*overwrite=True"):
        fit_centre(dataset.limit(3))
    assert read_centre(dataset, FIELD).digest == centre.digest
    for view, found in ((dataset.limit(1), "1 embeddings, all alike"), (dataset.limit(0), "no ")):
        with pytest.raises(DatasetError, match=found):
            fit_centre(view, overwrite=True)
    upgrade(dataset, FIELD, checkpoint)
    with pytest.raises(DatasetError, match="use the field of plain embeddings"):
        fit_centre(dataset, "isoclip_embedding")
    with pytest.raises(DatasetError, match="the plain embeddings serve centred bands"):
        upgrade(dataset, FIELD, checkpoint, band=Band.parse(BAND))
    with pytest.raises(DatasetError, match="has no field 'nothing'"):
        fit_centre(dataset, "nothing")


def test_the_app_fits_a_centre_and_its_forms_ask_for_one(
    dataset: fo.Dataset, gallery: list[str], more: Callable[[], list[str]]
) -> None:
    clusters = Offered(ClusterImages, dataset)
    asked = {"field": FIELD, "band": BAND}
    assert ["fit_centre" in told for told in clusters.refusals(**asked)] == [True]
    offer = Offered(FitCentre, dataset.select(gallery[:7]))
    told = offer.run(**offer.defaults(field=FIELD, overwrite=False))
    centre = read_centre(dataset, FIELD)
    assert told == {"field": FIELD, "images": 7, "centre": centre.digest} and centre.n == 7
    assert clusters.refusals(**asked) == []
    assert ["already" in told for told in offer.refusals(field=FIELD)] == [True]
    told = Offered(FitCentre, dataset).run(**offer.defaults(field=FIELD, overwrite=True))
    assert told["images"] == read_centre(dataset, FIELD).n == 12


def test_files_have_no_centre(checkpoint: str, pictures: Path) -> None:
    clip = load_clip(checkpoint)
    embedded = embed_files(draw_many(pictures, 2), clip)
    with pytest.raises(BandError, match=f"without a centre .* use {TOP}/{BOTTOM}"):
        find_file_duplicates(embedded, clip, band=Band.parse(BAND))


def test_boxes_and_vectors_outside_a_field_have_no_centre(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    box = fo.Detection(label="a", bounding_box=[0, 0, 0.5, 0.5])
    dataset.set_values("boxes", [fo.Detections(detections=[box.copy()]) for _ in gallery])
    fit_centre(dataset)
    with pytest.raises(
        DatasetError, match=r"on boxes in 'boxes', and centres are of .* use band 4/3"
    ):
        build_similarity(
            dataset, load_model(checkpoint, band=BAND), brain_key="near", patches_field="boxes"
        )
    with pytest.raises(DatasetError, match="vectors that lie in no field, and centres are of who"):
        fob.compute_similarity(
            dataset,
            embeddings=plain_of(dataset),
            model="isoclip",
            model_kwargs={"checkpoint": checkpoint, "band": BAND},
            backend="faiss",
            brain_key="near",
        )
