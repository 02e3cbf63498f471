"""Retrieval by label measured on samples, against scikit-learn, torchmetrics and the paper's M."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from fiftyone.operators.executor import ExecutionContext, Executor
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid
from torchmetrics.functional.retrieval import retrieval_r_precision

from fiftyone_isoclip import Band, embed, evaluate, load_clip
from fiftyone_isoclip.app.evaluate import EvaluateRetrieval
from fiftyone_isoclip.dataset import (
    delete_run,
    evaluation_sides,
    find_staleness,
    load_evaluation,
    load_run,
    rerun,
)
from fiftyone_isoclip.errors import BandError, DatasetError, IsoClipError, VectorError
from tests.galleries import add_pictures, paint_gallery
from tests.panels import Panel, texts

FIELD = "clip_embedding"
BAND = Band(3, 2)
N = 40
Rows = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return paint_gallery(tmp_path_factory.mktemp("gallery"), N)


@pytest.fixture
def labelled(dataset: fo.Dataset, gallery: list[Path], checkpoint: str) -> fo.Dataset:
    """40 pictures; 36 have one of three labels that follow their embedding; 12 are of a test."""
    ids = add_pictures(dataset, gallery)
    embed(dataset, checkpoint, progress=False)
    vectors = np.stack(dataset.values(FIELD))
    along = np.linalg.svd(vectors - vectors.mean(axis=0))[0][:, 0]
    thirds = np.argsort(np.argsort(along)) * 3 // N
    names = [None if row % 10 == 9 else f"class-{third}" for row, third in enumerate(thirds)]
    dataset.set_values("kind", [name and fo.Classification(label=name) for name in names])
    dataset.set_values("word", names)
    dataset.select(ids[::3]).tag_samples("test")
    return dataset


def mapped(dataset: fo.Dataset, checkpoint: str, band: Band) -> Rows:
    """The rows M e of the paper in float64, of length 1: not by way of the compressed map."""
    rows = np.stack(dataset.values(FIELD)).astype(np.float64)
    rows = rows @ load_clip(checkpoint, device="cpu").isoclip(band).oblique.T
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def by_sklearn(rows: Rows, names: list[str | None], asked: list[int], found: list[int]) -> Rows:
    """The average precision of each query, itself left out where it is among those to be found."""
    scores = []
    for query in asked:
        others = [row for row in found if row != query]
        relevant = [names[row] == names[query] for row in others]
        scores.append(average_precision_score(relevant, rows[others] @ rows[query]))
    return np.array(scores)


def means(report: Any, name: str) -> dict[str, float]:
    (method,) = (each for each in report.results["methods"] if each["name"] == name)
    return {metric: found["mean"] for metric, found in method["metrics"].items()}


@pytest.mark.parametrize("label_field", ["kind", "word"])
def test_each_querys_precision_is_that_of_sklearn(
    labelled: fo.Dataset, checkpoint: str, label_field: str
) -> None:
    report = evaluate(labelled, label_field, bands=BAND, progress=False)
    names = labelled.values("word")
    asked = [row for row, name in enumerate(names) if name is not None]
    for part, band, name in (
        ("plain", Band(), "plain CLIP"), ("isoclip", BAND, "IsoCLIP 3/2"),
    ):  # fmt: skip
        truth = by_sklearn(mapped(labelled, checkpoint, band), names, asked, asked)
        written = np.array(labelled.values(f"evaluation_{part}"), dtype=object)
        assert written[asked].astype(float) == pytest.approx(truth, abs=1e-6)
        assert set(written[9::10]) == {None}
        assert means(report, name)["mAP"] == pytest.approx(truth.mean(), abs=1e-6)
        assert 0.4 < truth.mean() < 0.95, "neither chance nor perfect, or nothing is tested"
    assert labelled.values("evaluation_plain") != labelled.values("evaluation_isoclip")
    assert (report.n_queries, report.n_compared, report.n_skipped) == (36, 36, 4)
    assert (report.n_unlabelled, report.band) == (4, "3/2")
    shown = labelled.load_saved_view("evaluation").values("evaluation_isoclip")
    assert len(shown) == 36 and shown == sorted(shown), "the worst first"


def test_a_tag_or_a_saved_view_asks_and_all_others_are_found(
    labelled: fo.Dataset, checkpoint: str
) -> None:
    report = evaluate(labelled, "word", bands=BAND, queries="test", progress=False)
    names, rows = labelled.values("word"), mapped(labelled, checkpoint, BAND)
    kept = [row for row, name in enumerate(names) if name is not None]
    asked = [row for row in kept if row % 3 == 0]
    found = [row for row in kept if row % 3]
    truth = by_sklearn(rows, names, asked, found)
    written = np.array(labelled.values("evaluation_isoclip"), dtype=object)
    assert written[asked].astype(float) == pytest.approx(truth, abs=1e-6)
    assert set(written[found]) == {None}
    told = means(report, "IsoCLIP 3/2")
    labels = np.array(names, dtype=object)
    centroids = NearestCentroid().fit(rows[found], labels[found].astype(str))
    accuracy = np.mean(centroids.predict(rows[asked]) == labels[asked].astype(str))
    assert told["NCM accuracy"] == pytest.approx(accuracy)
    at_r = [
        retrieval_r_precision(
            torch.from_numpy(rows[found] @ rows[query]),
            torch.from_numpy(labels[found] == labels[query]),
        )
        for query in asked
    ]
    assert told["precision@R"] == pytest.approx(np.mean(at_r), abs=1e-6)
    assert (report.n_queries, report.results["gallery"]) == (len(asked), len(found))
    labelled.save_view("held out", labelled.match_tags("test"))
    again = evaluate(labelled, "word", bands=BAND, queries="held out", key="again", progress=False)
    assert again.results == report.results | {"task": again.results["task"]}


def test_every_baseline_stands_beside_the_bands(labelled: fo.Dataset) -> None:
    report = evaluate(labelled, "word", bands=["3/2", "1/1-centred"], progress=False)
    names = [method["name"] for method in report.results["methods"]]
    assert {
        "plain CLIP", "mean-centred plain CLIP", "all-but-the-top", "whitening",
        "IsoCLIP 3/2", "IsoCLIP 3/2, centred", "IsoCLIP 1/1", "IsoCLIP 1/1, centred",
    } <= set(names)  # fmt: skip
    assert sum(name.startswith("random band of equal size") for name in names) == 2
    assert str(report).startswith(report.verdict)
    assert load_run(labelled, "evaluation").parameters["bands"] == ["3/2", "1/1"]


def test_of_many_samples_some_are_asked_and_all_are_found(
    labelled: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(labelled, "word", bands=BAND, progress=False)
    truth = dict(zip(*labelled.values(["id", "evaluation_isoclip"]), strict=True))
    monkeypatch.setattr(evaluation_sides, "ALL_QUERIES", 30)
    monkeypatch.setattr("fiftyone_isoclip.index.agreement.SAMPLED_QUERIES", 12)
    report = evaluate(labelled, "word", bands=BAND, progress=False)
    assert (report.n_queries, report.n_compared, report.results["gallery"]) == (12, 36, 36)
    asked = dict(zip(*report.view.values(["id", "evaluation_isoclip"]), strict=True))
    assert asked == {id_: pytest.approx(truth[id_]) for id_ in asked} and len(asked) == 12
    again = evaluate(labelled, "word", bands=BAND, queries=12, key="again", progress=False)
    assert set(again.view.values("id")) == set(asked)


def test_a_run_remembers_the_report_is_found_again_and_undone(
    labelled: fo.Dataset, gallery: list[Path]
) -> None:
    schema = labelled.get_field_schema().keys()
    report = evaluate(labelled, "kind", queries="test", progress=False)
    assert load_evaluation(labelled) == report
    assert report.verdict in texts(Panel(labelled, "runs").send())
    run = load_run(labelled, "evaluation")
    assert not find_staleness(labelled, run, thorough=True)
    assert rerun(labelled, "evaluation", progress=False).run.details == run.details
    # What is labelled since then counts, once it is found again.
    unlabelled = labelled.match_tags("test").exists("word", False)
    unlabelled.set_values("kind", [fo.Classification(label="class-0")] * len(unlabelled))
    found = rerun(labelled, "evaluation", progress=False).run
    assert found.counts["queries"] == report.n_queries + len(unlabelled) > report.n_queries
    delete_run(labelled, "evaluation")
    assert labelled.get_field_schema().keys() == schema
    assert not labelled.has_saved_view("evaluation")


def test_the_page_begins_with_the_verdict_and_shows_pictures(
    labelled: fo.Dataset, tmp_path: Path
) -> None:
    report = evaluate(labelled, "word", bands=BAND, report=tmp_path / "report.html", progress=False)
    page = (tmp_path / "report.html").read_text()
    assert report.verdict.split(":")[0] in page
    assert page.count("data:image/jpeg") > 5
    assert "word" in page and "IsoCLIP 3/2, centred" in page


def test_inverted_prompts_stand_beside_the_others_if_asked(
    dataset: fo.Dataset, gallery: list[Path]
) -> None:
    add_pictures(dataset, gallery[:8])
    embed(dataset, "isoclip-demo", progress=False)
    dataset.set_values("word", ["a", "b"] * 4)
    report = evaluate(dataset, "word", inversion=True, progress=False)
    (found,) = (each for each in report.results["methods"] if each["kind"] == "inversion")
    assert 0 < found["metrics"]["mAP"]["mean"] <= 1 and found["seconds_per_query"] > 0
    assert load_run(dataset, "evaluation").parameters["inversion"]


def test_demo_weights_are_named_as_such(dataset: fo.Dataset, gallery: list[Path]) -> None:
    add_pictures(dataset, gallery[:12])
    embed(dataset, "isoclip-demo", progress=False)
    dataset.set_values("word", ["a", "b", "c"] * 4)
    report = evaluate(dataset, "word", progress=False)
    assert "self-trained demo weights" in report.verdict
    assert report.band == "4/32"


def test_a_label_of_one_image_alone_is_no_query(labelled: fo.Dataset) -> None:
    names = labelled.values("word")
    labelled.set_values("word", ["alone", *names[1:]])
    report = evaluate(labelled, "word", bands=BAND, progress=False)
    first = labelled.first()
    assert (first.evaluation_plain, first.evaluation_isoclip) == (None, None)
    assert report.results["queries_scored"] == report.n_queries - 1
    assert first.id not in report.view.values("id")


def test_of_five_queries_no_method_is_called_better(labelled: fo.Dataset, tmp_path: Path) -> None:
    few, path = labelled.exists("word").limit(5), tmp_path / "report.html"
    few.set_values("few", ["a", "a", "a", "b", "b"])
    report = evaluate(few, "few", bands=BAND, report=path, progress=False)
    assert report.n_queries == 5 and "better" not in report.verdict
    assert "[" not in report.verdict and not re.search(r"\bnan\b", path.read_text())
    told = EvaluateRetrieval().describe({"results": report.results, "report": str(report)})
    assert "nan" not in told.properties["methods"].default


def test_mistakes_are_sentences_and_nothing_is_written(
    labelled: fo.Dataset, tmp_path: Path
) -> None:
    def refused(match: str, label_field: str = "word", error: Any = DatasetError, **options: Any):
        with pytest.raises(error, match=match):
            evaluate(labelled, label_field, progress=False, **options)

    refused("no such field", label_field="nothing")
    refused("neither a tag of these samples .test. nor a saved view", queries="tset")
    refused("0 queries were asked for; ask for at least 1", queries=0, error=VectorError)
    refused("keeps none", bands="500/500", error=BandError)
    refused("no band was given", bands=[])
    refused("does not exist", report=tmp_path / "no" / "report.html", error=IsoClipError)
    labelled.tag_samples("all")
    refused("names 36 of 36 labelled images", queries="all")
    labelled.set_values("own", [str(row) for row in range(N)])
    refused("of the queries have something", label_field="own", error=IsoClipError)
    labelled.add_sample_field("empty", fo.StringField)
    refused("two images with embeddings and labels .* found 0 of 40", label_field="empty")
    labelled.set_values("mine_plain", [0.0] * N)
    refused("would be overwritten", key="mine")
    assert labelled.list_runs() == []
    assert not labelled.has_field("evaluation_plain")


def test_the_operator_gives_pythons_numbers(labelled: fo.Dataset) -> None:
    operator = EvaluateRetrieval()
    direct = evaluate(labelled, "word", bands=["3/2", "1/1"], queries="test", progress=False)
    asked = {"label_field": "word", "field": FIELD, "bands": "3/2, 1/1", "queries": "test"}
    request = {"dataset_name": labelled.name, "params": asked | {"key": "from_app"}}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    form = operator.resolve_input(ctx).type.properties
    assert [choice.value for choice in form["label_field"].view.choices] == ["kind", "word"]
    assert [choice.value for choice in form["queries"].view.choices] == ["test", "evaluation"]
    assert not any(part.invalid for part in form.values())
    result = operator.execute(ctx)
    assert result["results"]["methods"] == direct.results["methods"]
    assert result["verdict"] == direct.verdict
    for part in ("plain", "isoclip"):
        assert labelled.values(f"from_app_{part}") == labelled.values(f"evaluation_{part}")
    table = operator.describe(result).properties["methods"].default.splitlines()
    assert table[0] == "| method | mAP | mAP@R | precision@R | recall@1 | NCM accuracy |"
    told = [float(line.split("|")[2].split()[0]) for line in table[2:]]
    known = [method["metrics"]["mAP"]["mean"] for method in direct.results["methods"]]
    assert told == pytest.approx(sorted(known, reverse=True), abs=5e-4)
    assert f"| IsoCLIP 3/2 | {means(direct, 'IsoCLIP 3/2')['mAP']:.3f} [" in "\n".join(table)


def test_the_form_refuses_what_cannot_be_measured(labelled: fo.Dataset) -> None:
    operator = EvaluateRetrieval()
    params = {"bands": "3/2, many", "label_field": "word"}
    request = {"dataset_name": labelled.name, "params": params}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    assert operator.resolve_input(ctx).type.properties["bands"].invalid
    labelled.delete_sample_fields(["kind", "word"])
    ctx = ExecutionContext(request_params={"dataset_name": labelled.name}, executor=Executor())
    refusal = operator.resolve_input(ctx).type.properties["refusal"].error_message
    assert "no field of labels" in refusal


def test_copies_of_files_are_no_further_queries(
    dataset: fo.Dataset, gallery: list[Path], tmp_path: Path
) -> None:
    again = [shutil.copy(path, tmp_path / path.name) for path in gallery[:24]]
    add_pictures(dataset, [*gallery[:24], *map(Path, again)])
    embed(dataset, "isoclip-demo", progress=False)
    dataset.set_values("word", ["a", "b"] * 24)
    ids = dataset.values("id")
    dataset.select(ids[24:]).tag_samples("copied")
    once = evaluate(dataset.select(ids[:24]), "word", key="once", progress=False)
    twice = evaluate(dataset, "word", key="twice", progress=False)
    leaked = evaluate(dataset, "word", queries="copied", key="leaked", progress=False)
    assert (twice.n_queries, twice.results["repeated"]) == (24, 24)
    assert "24 because another file has their bytes" in str(twice)
    assert leaked.results["queries_in_gallery"] == leaked.n_queries == 24
    for method in ("plain CLIP", "whitening"):
        assert means(twice, method) == pytest.approx(means(once, method), abs=1e-9)
        assert means(leaked, method) == pytest.approx(means(once, method), abs=1e-6)
