"""Plain CLIP and a band compared, against brute force and scikit-learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor
from sklearn.neighbors import NearestNeighbors

from fiftyone_isoclip import Band, compare_with_clip, embed, load_clip
from fiftyone_isoclip.app.compare import CompareWithClip
from fiftyone_isoclip.dataset import delete_run, load_comparison, load_run
from fiftyone_isoclip.dataset.comparison_reports import ComparisonReport, LabelPrecision
from fiftyone_isoclip.errors import BandError, DatasetError, VectorError
from fiftyone_isoclip.index import agreement
from tests.galleries import add_pictures, paint_gallery

FIELD = "clip_embedding"
BAND = Band(3, 2)
Rows = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return paint_gallery(tmp_path_factory.mktemp("gallery"), 40)


@pytest.fixture
def labelled(dataset: fo.Dataset, gallery: list[Path], checkpoint: str) -> fo.Dataset:
    """40 pictures; 36 have one of three labels that follow the brightness of their corner."""
    add_pictures(dataset, gallery)
    embed(dataset, checkpoint, progress=False)
    vectors = np.stack(dataset.values(FIELD))
    thirds = np.argsort(np.argsort(vectors[:, 0])) * 3 // 40
    names = [None if row % 10 == 9 else f"class-{third}" for row, third in enumerate(thirds)]
    dataset.set_values("kind", [name and fo.Classification(label=name) for name in names])
    dataset.set_values("word", names)
    return dataset


def mapped(dataset: fo.Dataset, checkpoint: str, band: Band) -> Rows:
    """The rows M e of the paper in float64, of length 1: not by way of the compressed map."""
    rows = np.stack(dataset.values(FIELD)).astype(np.float64)
    rows = rows @ load_clip(checkpoint, device="cpu").isoclip(band).oblique.T
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def by_sklearn(rows: Rows, k: int) -> Rows:
    """The k nearest of each row by cosine, itself left out."""
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(rows)
    return np.asarray(search.kneighbors(return_distance=False))


def brute_overlaps(one: Rows, other: Rows, k: int) -> list[float]:
    """By sorting all cosines of one query at a time, and Python's sets."""
    shares = []
    for row in range(len(one)):
        near = []
        for space in (one, other):
            cosines = space @ space[row]
            cosines[row] = -np.inf
            near.append(set(np.argsort(-cosines)[:k].tolist()))
        shares.append(len(near[0] & near[1]) / k)
    return shares


@pytest.mark.parametrize("k", [1, 7])
def test_overlaps_are_those_of_brute_force(
    labelled: fo.Dataset, checkpoint: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fiftyone_isoclip.index.agreement._BLOCK_QUERIES", 16)
    report = compare_with_clip(labelled, band=BAND, k=k, progress=False)
    plain, isoclip = mapped(labelled, checkpoint, Band()), mapped(labelled, checkpoint, BAND)
    truth = brute_overlaps(plain, isoclip, k)
    assert 0.1 < np.mean(truth) < 0.9, "the spaces must differ, or nothing is tested"
    assert labelled.values("comparison_overlap") == pytest.approx(truth)
    assert report.overlap == pytest.approx(np.mean(truth))
    assert (report.k, report.queries, report.n_compared, report.band) == (k, 40, 40, "3/2")
    shown = labelled.load_saved_view("comparison").values("comparison_overlap")
    assert shown == pytest.approx(sorted(truth))


@pytest.mark.parametrize("label_field", ["kind", "word"])
def test_precision_is_that_of_sklearn_in_all_three_spaces(
    labelled: fo.Dataset, checkpoint: str, label_field: str
) -> None:
    report = compare_with_clip(labelled, band=BAND, k=5, label_field=label_field, progress=False)
    plain = mapped(labelled, checkpoint, Band())
    spaces = (mapped(labelled, checkpoint, BAND), plain, plain - plain.mean(axis=0))
    names = np.array(labelled.values("word"), dtype=object)
    asked = np.flatnonzero(names != None)  # noqa: E711
    shares = [(names[by_sklearn(rows, 5)] == names[:, None])[asked].mean(axis=1) for rows in spaces]
    found = report.precision
    assert found is not None and found.queries == 36
    told = [found.isoclip, found.plain, found.centred]
    assert told == pytest.approx([share.mean() for share in shares])
    assert len(set(told)) == 3, "the spaces must differ, or nothing is tested"
    better = shares[1] if shares[1].mean() > shares[2].mean() else shares[2]
    spread = np.std(shares[0] - better, ddof=1)
    assert found.error == pytest.approx(spread / np.sqrt(36))


def test_plain_clip_compared_with_itself_agrees(labelled: fo.Dataset) -> None:
    report = compare_with_clip(labelled, band="0/0", label_field="word", progress=False)
    assert report.overlap == 1
    assert report.precision is not None and report.precision.isoclip == report.precision.plain


def test_many_samples_are_asked_about_by_a_sample_of_them(
    labelled: fo.Dataset, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare_with_clip(labelled, band=BAND, k=4, progress=False).dataset
    truth = dict(zip(*whole.values(["id", "comparison_overlap"]), strict=True))
    few = partial(agreement.pick_queries, all_up_to=30)
    monkeypatch.setattr("fiftyone_isoclip.dataset.comparisons.pick_queries", few)
    monkeypatch.setattr(agreement, "SAMPLED_QUERIES", 12)
    report = compare_with_clip(labelled, band=BAND, k=4, progress=False)
    assert (report.queries, report.n_compared) == (12, 40)
    assert "12 queries picked at random among 40 images" in str(report)
    asked = dict(zip(*report.view.values(["id", "comparison_overlap"]), strict=True))
    assert len(asked) == 12
    assert set(asked) != set(labelled.values("id")[:12]), "the first ones are not a sample"
    # Their neighbours were sought among all 40.
    assert asked == {id_: pytest.approx(truth[id_]) for id_ in asked}
    again = compare_with_clip(labelled, band=BAND, k=4, queries=12, key="again", progress=False)
    assert set(again.view.values("id")) == set(asked)


def test_a_run_remembers_the_report_and_is_undone(labelled: fo.Dataset) -> None:
    schema = labelled.get_field_schema().keys()
    report = compare_with_clip(labelled, band=BAND, k=5, label_field="word", progress=False)
    assert load_comparison(labelled) == report
    run = load_run(labelled, "comparison")
    assert (run.method, run.parameters["label_field"], run.complete) == ("comparison", "word", True)
    delete_run(labelled, "comparison")
    assert labelled.get_field_schema().keys() == schema
    assert not labelled.has_saved_view("comparison")


def test_the_better_space_is_said_first_and_noise_is_called_noise() -> None:
    def told(isoclip: float, plain: float, centred: float, error: float) -> str:
        found = LabelPrecision("kind", 100, isoclip, plain, centred, error)
        return str(
            ComparisonReport(fo.Dataset(), "c", FIELD, "name", "3/2", 5, 100, 0, 100, 0.5, found)
        )

    better = told(0.9, 0.7, 0.8, 0.01)
    assert better.startswith("Band 3/2 is better than mean-centred plain CLIP by 0.100")
    assert told(0.7, 0.9, 0.8, 0.01).startswith("Plain CLIP is better than band 3/2 by 0.200")
    assert told(0.7, 0.6, 0.8, 0.01).startswith("Mean-centred plain CLIP is better than band 3/2")
    for values in ((0.81, 0.8, 0.7), (0.8, 0.81, 0.7), (0.8, 0.8, 0.8)):
        assert told(*values, 0.01).startswith("These samples show no better space")
    assert better.endswith("Measured with name.")


def test_demo_weights_are_named_as_such(dataset: fo.Dataset, gallery: list[Path]) -> None:
    add_pictures(dataset, gallery[:12])
    embed(dataset, "isoclip-demo", progress=False)
    report = compare_with_clip(dataset, progress=False)
    assert "Measured with isoclip-demo (self-trained demo weights" in str(report)
    assert report.band == "4/32"


def test_what_cannot_be_compared_is_counted_and_nothing_at_all_is_refused(
    dataset: fo.Dataset, gallery: list[Path], checkpoint: str
) -> None:
    with pytest.raises(DatasetError, match=f"no field '{FIELD}'"):
        compare_with_clip(dataset)
    ids = add_pictures(dataset, gallery[:6])
    embed(dataset[:1], checkpoint, progress=False)
    with pytest.raises(DatasetError, match=r"two images .* found 1 of 6"):
        compare_with_clip(dataset)
    embed(dataset[:4], checkpoint, progress=False)
    report = compare_with_clip(dataset, k=10, progress=False)
    assert (report.n_compared, report.n_skipped, report.k, report.overlap) == (4, 2, 3, 1)
    assert dataset[ids[4:]].values("comparison_overlap") == [None, None]


def test_mistakes_are_sentences(labelled: fo.Dataset, checkpoint: str) -> None:
    with pytest.raises(DatasetError, match="0 neighbours were asked for; ask for at least 1"):
        compare_with_clip(labelled, k=0)
    with pytest.raises(VectorError, match="0 queries were asked for; ask for at least 1"):
        compare_with_clip(labelled, queries=0)
    for name, found in (("nothing", "no such field"), (FIELD, "a VectorField")):
        with pytest.raises(DatasetError, match=found):
            compare_with_clip(labelled, label_field=name)
    labelled.add_sample_field("empty", fo.StringField)
    with pytest.raises(DatasetError, match="none of the 40 queries has a label"):
        compare_with_clip(labelled, label_field="empty", progress=False)
    with pytest.raises(BandError, match="keeps none"):
        compare_with_clip(labelled, band="500/500")
    with pytest.raises(DatasetError, match="would be overwritten"):
        labelled.set_values("mine_overlap", [0.0] * 40)
        compare_with_clip(labelled, key="mine")
    assert labelled.list_runs() == []


def test_the_operator_gives_pythons_numbers_and_offers_labels_but_not_our_own_text(
    labelled: fo.Dataset,
) -> None:
    operator = CompareWithClip()
    direct = compare_with_clip(labelled, band=BAND, k=5, label_field="word", progress=False)
    asked = {"field": FIELD, "band": "3/2", "k": 5, "label_field": "word", "key": "from_app"}
    request = {"dataset_name": labelled.name, "params": asked}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    form = operator.resolve_input(ctx).type.properties
    offered = [choice.value for choice in form["label_field"].view.choices]
    assert offered == ["kind", "word"]
    result = operator.execute(ctx)
    assert result["overlap"] == direct.overlap
    assert direct.precision is not None
    assert result["precision"]["isoclip"] == direct.precision.isoclip
    assert labelled.values("from_app_overlap") == labelled.values("comparison_overlap")
    empty = fo.Dataset()
    bare = ExecutionContext(request_params={"dataset_name": empty.name}, executor=Executor())
    refusal = operator.resolve_input(bare).type.properties["refusal"].error_message
    assert "Compute embeddings first" in refusal
    empty.delete()
