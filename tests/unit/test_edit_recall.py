"""How many edits are recognised, and the guide made of it: against cosines computed one by one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from fiftyone_isoclip.encoder import load_clip, read_image
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.threshold_page import row_cells
from fiftyone_isoclip.files import embed_files, guide_file_thresholds, list_files
from fiftyone_isoclip.files.edit_recall import LONGEST_SIDE, EditRecall, measure_edits
from fiftyone_isoclip.files.edits import EDITS, edit_image
from fiftyone_isoclip.files.threshold_guide import make_guide
from fiftyone_isoclip.index.false_matches import (
    STEPS,
    FalseMatches,
    false_match_rates,
    similarity_for,
)
from fiftyone_isoclip.projector import Band
from tests.folders import N_SCENES, fill_folder

KINDS = ("as png", "mirrored", "crop 30", "noisy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(scope="module")
def clip():
    return load_clip(DEMO_NAME, device="cpu")


@pytest.fixture(scope="module")
def measured(folder, clip):
    return measure_edits(folder.scenes, clip, clip.isoclip(), kinds=KINDS)


@pytest.fixture(scope="module")
def guide(folder, clip):
    return guide_file_thresholds(
        list_files(folder.path), clip, band=Band(5, 5), false_matches=0.05, pictures=3
    )


def plain_vector(clip, image):
    """One picture alone, through open_clip's own transform, in float64."""
    return clip.image_embeddings(clip.preprocess(image)[None])[0].astype(np.float64)


def test_each_similarity_is_that_of_the_picture_to_its_edit(folder, clip, measured):
    matrix = clip.isoclip().matrix.astype(np.float64)
    assert sorted(measured.rows) == [*range(N_SCENES)]
    for kind in KINDS:
        for place, row in list(enumerate(measured.rows.tolist()))[:4]:
            picture = read_image(folder.scenes[row])
            a = matrix @ plain_vector(clip, picture)
            b = matrix @ plain_vector(clip, edit_image(picture, kind, row))
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert measured.similarities[kind][place] == pytest.approx(cosine, abs=5e-3), kind


def test_what_changes_no_pixel_is_always_recognised(measured):
    assert measured.similarities["as png"] == pytest.approx(1, abs=1e-6)
    share = measured.by_kind(0.9999)["as png"]
    assert (share.share, share.high) == (1, 1)
    exact = binomtest(N_SCENES, N_SCENES).proportion_ci(0.95, method="exact")
    assert share.low == pytest.approx(exact.low)


def test_the_recall_is_the_share_at_or_above(measured):
    found = measured.similarities["crop 30"]
    similarity = float(np.sort(found)[3])
    assert measured.by_kind(similarity)["crop 30"].share == (N_SCENES - 3) / N_SCENES
    by_picture = measured.by_picture(similarity)
    table = np.stack([measured.similarities[kind] >= similarity for kind in KINDS])
    assert by_picture.tolist() == table.mean(axis=0).tolist()


def test_which_pictures_are_drawn_is_always_the_same(folder, clip, measured):
    few = measure_edits(folder.scenes, clip, clip.isoclip(), kinds=KINDS[:1], pictures=3)
    again = measure_edits(folder.scenes, clip, clip.isoclip(), kinds=KINDS[:1], pictures=3)
    assert few.rows.tolist() == again.rows.tolist() == measured.rows[:3].tolist()


def test_a_picture_that_cannot_be_read_fails_alone(folder, clip):
    paths = [folder.scenes[0], *folder.damaged]
    steps = []
    found = measure_edits(
        paths, clip, clip.isoclip(), kinds=KINDS, progress=lambda *step: steps.append(step)
    )
    assert found.rows.tolist() == [0]
    assert set(found.failed) == set(folder.damaged)
    assert all(found.failed.values())
    assert steps[-1] == (4, 4)


def test_an_edit_that_fails_costs_its_picture_and_a_tracking_pixel_nothing(
    clip, folder, tmp_path, monkeypatch
):
    pixel = tmp_path / "pixel.png"
    Image.new("RGB", (1, 1), (9, 80, 7)).save(pixel)
    grey = EDITS["grey"]

    def fails_on_pixels(image, rng):
        return grey(image, rng) if min(image.size) > 1 else image.crop((0, 0, 5, -5))

    paths = [folder.scenes[0], str(pixel)]
    assert sorted(measure_edits(paths, clip, clip.isoclip()).rows) == [0, 1]
    monkeypatch.setitem(EDITS, "grey", fails_on_pixels)
    found = measure_edits(paths, clip, clip.isoclip())
    assert found.rows.tolist() == [0]
    assert list(found.failed) == [str(pixel)]
    assert "'grey' cannot be made of a picture of 1 x 1" in found.failed[str(pixel)]


def test_a_large_picture_is_reduced_before_it_is_edited(clip, tmp_path, folder):
    large = read_image(folder.scenes[0]).resize((1500, 1500), Image.Resampling.LANCZOS)
    large.save(tmp_path / "large.png")
    found = measure_edits([str(tmp_path / "large.png")], clip, clip.isoclip(), kinds=["noisy"])
    small = large.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    matrix = clip.isoclip().matrix.astype(np.float64)
    a = matrix @ plain_vector(clip, large)
    b = matrix @ plain_vector(clip, edit_image(small, "noisy", 0))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.similarities["noisy"][0] == pytest.approx(cosine, abs=1e-3)


class TestGuide:
    def test_the_rows_are_what_brute_force_counts(self, guide, folder, clip):
        embedded = embed_files(list_files(folder.path), clip)
        kept = [row for row, p in enumerate(embedded.embedded_paths) if p != folder.exact_copy]
        rows = clip.isoclip(Band(5, 5))(embedded.embeddings[kept]).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)].astype(np.float32)
        assert guide.rates.pairs == len(cosines) == 55
        for row in guide.rows:
            reached = (cosines >= np.float32(row.similarity)).sum()
            assert row.false.share == reached / 55
            assert row.pairs == pytest.approx(reached)
            assert set(row.by_kind) == set(EDITS)
            assert row.recall == pytest.approx(np.mean([s.share for s in row.by_kind.values()]))
        (chosen,) = [row for row in guide.rows if row.similarity == guide.suggested]
        assert chosen.false.share <= 0.05
        similarities = [row.similarity for row in guide.rows]
        assert similarities == sorted(similarities) and 0.95 in similarities

    def test_the_verdict_says_what_was_measured_and_with_what(self, guide):
        assert f"From similarity {guide.suggested:g} on at most 1 in 20 pairs" in guide.verdict
        assert "near-copies among them counted as chance" in guide.verdict
        assert "self-trained demo weights" in guide.verdict
        assert "band 5/5, on 11 different images, 3 of them edited" in guide.verdict

    def test_where_no_pair_matches_none_is_said(self):
        counts = np.where(STEPS <= 0.5, 4950, 0)
        edits = EditRecall(np.empty(0, np.int64), {}, {})
        rates = FalseMatches(100, 4950, False, counts)
        guide = make_guide(rates, edits, model="m", band="0", false_matches=1e-3)
        assert guide.suggested == 0.5001
        assert "match by chance: none of 4,950 pairs compared" in guide.verdict
        assert {row_cells(row)[1] for row in guide.rows} == {"none"}

    def test_the_guide_as_json_holds_every_row(self, guide):
        told = json.loads(json.dumps(guide.to_json()))
        assert [row["similarity"] for row in told["rows"]] == [r.similarity for r in guide.rows]
        shown = told["rows"][0]["by_kind"]["mirrored"]
        assert shown["low"] <= shown["share"] <= shown["high"]

    def test_too_few_images_are_said_and_the_rest_is_told(self, folder, clip):
        guide = guide_file_thresholds(folder.scenes, clip, pictures=0)
        assert guide.suggested is None
        assert "1 in 10,000" in guide.verdict and "1 in 45" in guide.verdict
        assert guide.rows and all(row.recall is None for row in guide.rows)

    @pytest.mark.parametrize("options", [{"false_matches": 0}, {"pictures": -1}])
    def test_what_has_no_meaning(self, folder, clip, options):
        with pytest.raises(VectorError, match=r"above 0|0 or more"):
            guide_file_thresholds(folder.scenes, clip, **options)

    def test_one_image_makes_no_pair(self, folder, clip):
        with pytest.raises(VectorError, match="none of 1 image;"):
            guide_file_thresholds(folder.scenes[:1], clip)


@pytest.mark.parametrize("drawn", [False, True])
def test_the_promise_holds_among_photographs_that_are_no_copies(
    shared_data: Path, clip, monkeypatch, drawn
):
    """Originals, distractors and some copies; the copies make the rate larger, never smaller."""
    folder = shared_data / "copies_clothing_cc0"
    with (folder / "groups.csv").open() as file:
        listed = list(csv.DictReader(file))
    wanted = {"original", "distractor", "jpeg20", "crop50"}
    chosen = [row for row in listed if row["attack"] in wanted][::2]
    embedded = embed_files([str(folder / row["file"]) for row in chosen], clip)
    groups = np.array([row["group"] or row["file"] for row in chosen])
    # Distractors are of no group; each is a group of its own.
    alone = np.array([row["attack"] == "distractor" for row in chosen])
    groups[alone] = [row["file"] for row in chosen if row["attack"] == "distractor"]
    units = clip.isoclip()(embedded.embeddings)
    cosines = units.astype(np.float64) @ units.T.astype(np.float64)
    left, right = np.triu_indices(len(units), 1)
    different = groups[left] != groups[right]
    assert different.mean() > 0.99
    for allowed in (1e-2, 1e-3, 1e-4):
        options = {"all_rows": 0, "draws": 200_000} if drawn else {}
        similarity = similarity_for(false_match_rates(units, **options), allowed)
        reached = cosines[left, right] >= similarity
        assert reached[different].sum() / different.sum() <= allowed
        # The next lower step of a hundredth would break it, or else the promise is worth little.
        assert (cosines[left, right] >= similarity - 0.02).mean() > allowed
