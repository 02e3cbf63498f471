"""The paper's experiment on small copies of its sets: oracles, and what may not be claimed."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from dataclasses import replace
from functools import partial
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_r_precision,
)

from fiftyone_isoclip import files
from fiftyone_isoclip.encoder import find_checkpoint, load_clip
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation import latency, paper, reproduction
from fiftyone_isoclip.evaluation.inversion_method import oti_method
from fiftyone_isoclip.evaluation.reproduction import reproduce
from fiftyone_isoclip.evaluation.reproduction_means import find_means, verdict
from fiftyone_isoclip.evaluation.reproduction_page import make_rows
from fiftyone_isoclip.evaluation.reproduction_results import Measured, Reproduction, SetResult
from fiftyone_isoclip.evaluation.scores import OWN_GALLERY, Sampling
from fiftyone_isoclip.evaluation.sets import IMAGE_SETS, TEXT_SETS, open_set, survey_sets
from tests.pictures import draw_many
from tests.small_sets import make_aircraft, make_all_sets, make_coop_set, make_landmarks
from tests.terminal import isoclip, sentence

SELF_TRAINED = "self-trained demo weights"


@pytest.fixture(scope="module")
def clip():
    return load_clip(DEMO_NAME, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    make_all_sets(root)
    return root


@pytest.fixture(scope="module")
def report(root, tmp_path_factory):
    """What the command reports on every set, and the page it writes."""
    folder = tmp_path_factory.mktemp("reports")
    outs = ["--json", folder / "all.json", "--report", folder / "all.html"]
    result = isoclip("reproduce", "--data", root, "--model", DEMO_NAME, *outs)
    assert result.exit_code == 0, result.stderr
    told = json.loads((folder / "all.json").read_text())
    return result, told, (folder / "all.html").read_text()


def cosines(queries, gallery):
    """In float64, from embeddings of any scale."""
    queries, gallery = (np.asarray(side, np.float64) for side in (queries, gallery))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    return queries @ gallery.T


def plain_sides(clip, found):
    """Embeddings of queries and gallery, each file on its own."""
    return [
        np.concatenate([files.embed_files([path], clip).embeddings for path in paths])
        for paths in (found.query_paths, found.gallery_paths)
    ]


def both_spaces(mapping, sides):
    return {"plain": sides, "band": [side @ mapping.matrix.T for side in sides]}


def expected_labelled(found, sides):
    """Each query by itself with torchmetrics, its own row taken out as the paper's code does."""
    rows = []
    for query, scores in enumerate(cosines(*sides)):
        relevant = found.gallery_labels == found.query_labels[query]
        if found.own_rows[query] >= 0:
            scores = np.delete(scores, found.own_rows[query])
            relevant = np.delete(relevant, found.own_rows[query])
        told = torch.tensor(scores), torch.tensor(relevant)
        rows.append(
            (
                retrieval_average_precision(*told).item(),
                retrieval_r_precision(*told).item(),
                retrieval_hit_rate(*told, top_k=1).item(),
            )
        )
    return dict(zip(("mAP", "precision@R", "recall@1"), 100 * np.mean(rows, axis=0), strict=True))


def expected_ncm(found, sides):
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    means = NearestCentroid().fit(
        units[1][found.train_rows], found.gallery_labels[found.train_rows]
    )
    tested = found.test_rows
    return 100 * means.score(units[0][tested], found.query_labels[tested])


def expected_easy(found, sides):
    """The easy protocol by hand: junk and hard are struck out, then trapezoids."""
    precisions = []
    for query, scores in enumerate(cosines(*sides)):
        judged = found.judged[query]
        struck = {*judged.junk.tolist(), *judged.hard.tolist()}
        ranked = [row for row in np.argsort(-scores).tolist() if row not in struck]
        right = [row in judged.easy for row in ranked]
        area = 0.0
        for place, hit in enumerate(right):
            if hit:
                seen = sum(right[:place])
                before = 1.0 if place == 0 else seen / place
                area += (before + (seen + 1) / (place + 1)) / 2 / len(judged.easy)
        precisions.append(area)
    return 100 * np.mean(precisions)


def told_metrics(told, name):
    """Kind of method -> metrics, of one set."""
    (found,) = (entry for entry in told["reproductions"][0]["sets"] if entry["name"] == name)
    return {method["kind"]: method["metrics"] for method in found["methods"]}


@pytest.mark.parametrize("name", ["caltech", "cub", "aircraft", "cars", "sun397"])
def test_figures_of_labelled_sets_are_those_of_torchmetrics(root, clip, report, name):
    found = open_set(root, name)
    for kind, sides in both_spaces(clip.isoclip(), plain_sides(clip, found)).items():
        metrics = told_metrics(report[1], name)[kind]
        for metric, value in expected_labelled(found, sides).items():
            assert metrics[metric] == pytest.approx(value, abs=1e-4), (kind, metric)
        assert metrics["NCM accuracy"] == pytest.approx(expected_ncm(found, sides), abs=1e-6)


@pytest.mark.parametrize("name", ["roxford", "rparis"])
def test_the_figure_of_landmarks_is_that_of_the_easy_protocol(root, clip, report, name):
    found = open_set(root, name)
    for kind, sides in both_spaces(clip.isoclip(), plain_sides(clip, found)).items():
        metrics = told_metrics(report[1], name)[kind]
        assert metrics["mAP"] == pytest.approx(expected_easy(found, sides), abs=1e-6)
        assert metrics["mAP"] == metrics["mAP easy"]
        assert "mP@10 hard" in metrics


@pytest.mark.parametrize("name", TEXT_SETS)
def test_texts_are_compared_by_the_text_sides_band(root, clip, report, name):
    found = open_set(root, name)
    sides = [clip.text_embeddings(texts) for texts in (found.query_texts, found.gallery_texts)]
    told = told_metrics(report[1], name)
    for kind, moved in both_spaces(clip.isoclip_text(), sides).items():
        expected = expected_labelled(found, moved)["mAP"]
        assert told[kind]["mAP"] == pytest.approx(expected, abs=1e-4)
    as_images = [side @ clip.isoclip().matrix.T for side in sides]
    assert expected_labelled(found, as_images)["mAP"] != pytest.approx(expected, abs=1e-2)


def test_all_sets_are_measured_and_the_mean_is_of_the_image_sets(report):
    result, told, page = report
    (found,) = told["reproductions"]
    assert [entry["name"] for entry in found["sets"]] == [*IMAGE_SETS, *TEXT_SETS]
    assert (told["absent"], told["damaged"], found["failed"]) == ({}, {}, {})
    for mean in found["means"]:
        figures = [told_metrics(told, name)[mean["kind"]]["mAP"] for name in IMAGE_SETS]
        assert mean["mAP"] == pytest.approx(np.mean(figures))
        assert f"{mean['mAP']:.1f}" in result.stdout
        assert f"{mean['mAP']:.1f}" in page


def test_beside_demo_weights_stands_no_figure_of_the_paper(report):
    result, told, page = report
    (found,) = told["reproductions"]
    assert found["paper_backbone"] is None
    methods = [method for entry in found["sets"] for method in entry["methods"]]
    for figures in (*methods, *found["means"]):
        assert (figures["paper_mAP"], figures["difference"]) == (None, None)
    assert SELF_TRAINED in found["weights"]
    first = result.stdout.splitlines()[0]
    for text in (first, page, found["verdict"]):
        assert SELF_TRAINED in text
        assert "no figure of the paper is of this checkpoint" in text
    assert "difference" not in result.stdout.split("set ")[1]
    assert ">difference<" not in page


def test_beside_a_checkpoint_of_the_paper_stand_its_figures_and_the_difference(
    root, clip, monkeypatch
):
    monkeypatch.setattr(paper, "BACKBONES", {DEMO_NAME: "ViT-B/16"})
    found = reproduce(survey_sets(root, ["caltech", "rparis", "nocaps"]), clip)
    table = package_files("fiftyone_isoclip.evaluation.sets").joinpath("paper_table.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()[1:]))
    asked = {row["method"]: row for row in rows if row["backbone"] == "ViT-B/16"}
    paper_name = {"plain": "clip", "band": "isoclip"}
    for result in found.results[:2]:
        for measured in result.measured:
            figure = float(asked[paper_name[measured.kind]][result.name])
            assert measured.paper == figure
            assert measured.difference == pytest.approx(measured.metrics["mAP"] - figure)
    assert [measured.paper for measured in found.results[2].measured] == [None, None]
    plain, band = find_means(found)
    assert plain.paper == pytest.approx((80.6 + 75.3) / 2)
    assert band.paper == pytest.approx((85.0 + 82.0) / 2)
    assert f"against {band.paper:.1f} ({band.value - band.paper:+.1f})" in verdict(found)
    columns, cells = make_rows(found)
    assert columns.count("paper") == columns.count("difference") == 2
    ours = found.results[0].measured[1]
    assert cells[0][-3:] == [f"{ours.metrics['mAP']:.1f}", "85.0", f"{ours.difference:+.1f}"]
    assert cells[2][-2:] == ["-", "-"]
    assert cells[4][0] == "milliseconds a query"
    assert cells[4][4:6] == cells[4][7:] == ["6", "-"]


def test_only_the_papers_own_weights_count_as_the_papers():
    official = find_checkpoint("ViT-B-32/openai")
    assert paper.paper_backbone(official) == "ViT-B/32"
    assert paper.paper_backbone(find_checkpoint("ViT-B-16/datacomp_xl_s13b_b90k")) == (
        "ViT-B/16-open"
    )
    assert paper.paper_backbone(replace(official, pretrained="/my/weights.pt")) is None
    assert paper.paper_backbone(find_checkpoint("ViT-B-32/datacomp_xl_s13b_b90k")) is None
    assert paper.paper_backbone(find_checkpoint(DEMO_NAME)) is None


def test_sets_that_are_not_there_are_listed_and_a_damaged_one_fails_alone(tmp_path):
    make_coop_set(tmp_path, "pets")
    make_coop_set(tmp_path, "dtd")
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").write_text("[")
    result = isoclip("reproduce", "--data", tmp_path, "--model", DEMO_NAME, "--json", "-")
    told = json.loads(result.stdout)
    assert [entry["name"] for entry in told["reproductions"][0]["sets"]] == ["pets"]
    assert list(told["damaged"]) == ["dtd"]
    assert set(told["absent"]) == {*IMAGE_SETS, *TEXT_SETS} - {"pets", "dtd"}
    assert "cub: " in result.stderr
    assert "CUB-200-2011, of the California Institute" in result.stderr
    assert "split_zhou_DescribableTextures.json cannot be used" in result.stderr


def test_a_folder_without_a_set_is_told_before_any_model_is_loaded(tmp_path):
    told = sentence(isoclip("reproduce", "--data", tmp_path, "--model", "nowhere"))
    assert "holds none of the 16 sets" in told
    told = sentence(isoclip("reproduce", "--data", tmp_path, "--sets", "mnist"))
    assert "no set is called 'mnist'" in told


def test_a_checkpoint_that_cannot_be_loaded_costs_no_other(tmp_path):
    make_aircraft(tmp_path)
    words = ["reproduce", "--data", tmp_path, "--model", "nowhere", "--json", "-"]
    told = json.loads(isoclip(*words, "--model", DEMO_NAME).stdout)
    assert list(told["failed_models"]) == ["nowhere"]
    assert [found["checkpoint"] for found in told["reproductions"]] == [DEMO_NAME]
    assert "nothing was measured" in sentence(isoclip(*words))


def test_images_that_cannot_be_read_are_left_out_and_told(tmp_path, clip):
    made = make_aircraft(tmp_path)
    for split in ("test", "train"):
        Path(made.paths[split][0]).write_bytes(b"<html>not found</html>")
    found = reproduce(survey_sets(tmp_path, ["aircraft"]), clip)
    assert make_rows(found)[1][0][:3] == ["aircraft (2 left out)", "5", "8"]
    (result,) = found.results
    assert list(result.left_out) == [made.paths[split][0] for split in ("test", "train")]
    assert (result.n_queries, result.n_gallery) == (5, 8)
    whole = open_set(tmp_path, "aircraft")
    kept = whole.only({*made.paths["test"][1:], *made.paths["train"][1:]})
    assert kept.query_labels.tolist() == whole.query_labels[1:].tolist()
    expected = expected_labelled(kept, plain_sides(clip, kept))["mAP"]
    assert result.measured[0].metrics["mAP"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["cub", "roxford"])
def test_rows_are_counted_anew_when_images_are_left_out(root, name):
    whole = open_set(root, name)
    gone = {whole.gallery_paths[0], whole.gallery_paths[4], whole.query_paths[2]}
    kept = whole.only({*whole.query_paths, *whole.gallery_paths} - gone)
    assert not {*kept.query_paths, *kept.gallery_paths} & gone

    def meaning(found):
        """What is said of each query, in paths instead of rows."""
        said = {}
        for row, path in enumerate(found.query_paths):
            own = found.own_rows[row]
            said[path] = [
                found.query_labels[row],
                found.gallery_paths[own] if own >= 0 else None,
                row in found.test_rows,
                *(
                    [found.gallery_paths[r] for r in rows if found.gallery_paths[r] not in gone]
                    for each in found.judged[row : row + 1]
                    for rows in (each.easy, each.hard, each.junk)
                ),
            ]
        return {path: value for path, value in said.items() if path not in gone}

    assert meaning(kept) == meaning(whole)
    train = [whole.gallery_paths[row] for row in whole.train_rows]
    assert [kept.gallery_paths[row] for row in kept.train_rows] == [
        path for path in train if path not in gone
    ]


def test_a_set_of_which_nothing_can_be_read_fails_alone(tmp_path, clip):
    made = make_aircraft(tmp_path)
    make_landmarks(tmp_path, "rparis")
    for path in made.paths["test"]:
        Path(path).write_bytes(b"no picture")
    found = reproduce(survey_sets(tmp_path, ["aircraft", "rparis"]), clip)
    assert [result.name for result in found.results] == ["rparis"]
    assert "aircraft has no queries" in found.failed["aircraft"]


def test_a_run_that_was_stopped_goes_on(tmp_path, clip, monkeypatch):
    make_aircraft(tmp_path)
    survey, cache = survey_sets(tmp_path, ["aircraft"]), tmp_path / "cache"
    embedded: list[int] = []
    embed = files.embed_files

    def counting(listing, *rest, **more):
        embedded.append(len(listing.paths))
        return embed(listing, *rest, **more)

    monkeypatch.setattr(reproduction.files, "embed_files", counting, raising=False)
    figures = [
        reproduce(survey, clip, cache_folder=cache).results[0].measured[1].metrics for _ in range(2)
    ]
    assert embedded == [15]
    assert figures[0] == figures[1]
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert reproduce(survey, clip, cache_folder=cache).results[0].measured[1].metrics == figures[0]
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "fgvc_aircraft", other / "fgvc_aircraft")
    reproduce(survey_sets(other, ["aircraft"]), clip, cache_folder=cache)
    assert embedded == [15, 15, 15]


def made_up(plain, band, n_sets=1, is_apart=True):
    """A reproduction with given average precisions of the queries."""
    precision = {"plain": np.array(plain), "band": np.array(band)}
    measured = [
        Measured(name, kind, {"mAP": 100 * precision[kind].mean()}, precision[kind], 0.01, None)
        for kind, name in (("plain", "plain CLIP"), ("band", "IsoCLIP 4/32"))
    ]
    results = [
        SetResult(str(n), False, is_apart, len(plain), 1, {}, measured) for n in range(n_sets)
    ]
    checkpoint = find_checkpoint(DEMO_NAME)
    bands = checkpoint.image_band, checkpoint.text_band
    return Reproduction(checkpoint, None, *bands, "float32 on cpu", results, {})


def test_the_first_line_names_the_better_method_whichever_it_is():
    low, high = np.full(50, 0.2), np.full(50, 0.5)
    wobble = np.linspace(-0.1, 0.1, 50)
    assert verdict(made_up(low, high + wobble)).startswith(
        "IsoCLIP 4/32 (mAP 50.0 %) is better than plain CLIP (mAP 20.0 %): +30.00 ["
    )
    assert verdict(made_up(high + wobble, low)).startswith(
        "plain CLIP (mAP 50.0 %) is better than IsoCLIP 4/32 (mAP 20.0 %): -30.00 ["
    )
    noise = np.random.default_rng(0).normal(0, 0.2, 50)
    assert verdict(made_up(high, high + noise)).startswith("No measurable difference between")


def test_of_few_queries_no_winner_is_named():
    """Two queries that gain the same have a variance of none, and one query has none at all."""
    low = np.full(30, 0.5)
    for n in (1, 2, 19):
        told = verdict(made_up(low[:n], low[:n] + 0.1))
        assert told.startswith(f"Too few queries (0: {n}) to tell IsoCLIP 4/32 (mAP 60.0 %) from ")
        assert "[" not in told and "inf" not in told
    assert "is better than" in verdict(made_up(low, low + 0.1))
    many, few = made_up(low, low + 0.1), made_up(low[:5], low[:5] + 0.1).results[0]
    told = verdict(replace(many, results=[*many.results, replace(few, name="small")]))
    assert told.startswith("Too few queries (small: 5) to tell")


def test_where_the_queries_are_the_gallery_the_interval_is_as_much_wider_as_in_an_evaluation():
    rng = np.random.default_rng(2)
    plain = rng.random(200)
    noise = rng.normal(0, 0.1, 200)
    found = made_up(plain, plain + noise - noise.mean() + 0.02, is_apart=False)
    ends = [float(end) for end in verdict(found).partition("[")[2].partition("]")[0].split(", ")]
    methods = [each.average_precision for each in found.results[0].measured]
    wide = Sampling(widen=OWN_GALLERY).difference(methods[1], methods[0], 0.95)
    assert ends == pytest.approx([100 * wide.low, 100 * wide.high], abs=0.15)
    narrow = Sampling().difference(methods[1], methods[0], 0.95)
    assert narrow.low > 0 and verdict(found).startswith("No measurable difference")


def test_birds_are_queries_and_gallery_and_pets_are_not(clip, root):
    found = {
        each.name: each for each in reproduce(survey_sets(root, ["cub", "pets"]), clip).results
    }
    assert not found["cub"].is_apart and found["pets"].is_apart


def test_the_interval_is_that_of_a_bootstrap_of_the_queries():
    rng = np.random.default_rng(1)
    plain = rng.random(400)
    found = made_up(plain, plain + rng.normal(0.01, 0.1, 400), n_sets=2)
    told = verdict(found).partition("[")[2].partition("]")[0]
    low, high = (float(number) for number in told.split(", "))
    gains = 100 * (found.results[0].measured[1].average_precision - plain)
    draws = rng.choice(gains, (4000, 2, 400)).mean(axis=2).mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=0.1)


def test_inversion_is_measured_when_it_is_asked_for(tmp_path, clip, monkeypatch):
    """With few steps, because all that is asked here is whose figures stand in the table."""
    quick = partial(oti_method, steps=10)
    monkeypatch.setattr(reproduction, "oti_method", quick)
    monkeypatch.setattr(latency, "invert_images", partial(latency.invert_images, steps=10))
    make_coop_set(tmp_path, "caltech")
    (result,) = reproduce(survey_sets(tmp_path, ["caltech"]), clip, inversion=True).results
    plain, band, inverted = result.measured
    found = open_set(tmp_path, "caltech")
    queries, gallery = plain_sides(clip, found)
    expected = expected_labelled(found, (quick(clip, queries, gallery).queries, gallery))["mAP"]
    assert inverted.metrics["mAP"] == pytest.approx(expected, abs=1e-3)
    assert inverted.metrics["mAP"] != plain.metrics["mAP"]
    assert inverted.seconds_per_query > max(plain.seconds_per_query, band.seconds_per_query)


def test_a_query_with_nothing_to_be_found_counts_as_0(tmp_path, clip):
    """As in the paper's code; elsewhere here it is left out of the mean."""
    make_coop_set(tmp_path, "caltech")
    path = tmp_path / "caltech-101/split_zhou_Caltech101.json"
    splits = json.loads(path.read_text())
    splits["train"] = [entry for entry in splits["train"] if entry[2] != "fox"]
    path.write_text(json.dumps(splits))
    found = open_set(tmp_path, "caltech")
    assert found.classes == ("cat", "dog", "fox")
    (result,) = reproduce(survey_sets(tmp_path, ["caltech"]), clip).results
    expected = expected_labelled(found, plain_sides(clip, found))
    for metric, value in expected.items():
        assert result.measured[0].metrics[metric] == pytest.approx(value, abs=1e-4)
    assert result.measured[0].average_precision[-2:].tolist() == [0, 0]


def test_a_set_in_which_nothing_can_be_found_fails_alone(tmp_path, clip):
    make_landmarks(tmp_path, "rparis", arrays=False)
    path = tmp_path / "rparis6k/gnd_rparis6k.pkl"
    truth = pickle.loads(path.read_bytes())
    truth["gnd"] = [{**judged, "easy": []} for judged in truth["gnd"]]
    path.write_bytes(pickle.dumps(truth, protocol=2))
    found = reproduce(survey_sets(tmp_path, ["rparis"]), clip)
    assert "no query of rparis has anything to be found" in found.failed["rparis"]
    assert verdict(found).startswith("No set of images was measured with isoclip-demo: self-")


def test_a_folder_of_pictures_is_no_set(tmp_path):
    draw_many(tmp_path / "pictures", 3)
    with pytest.raises(IsoClipError, match="is no folder"):
        survey_sets(tmp_path / "pictures" / "000.png", ["cub"])
    assert not survey_sets(tmp_path / "pictures", ["cub"]).found
