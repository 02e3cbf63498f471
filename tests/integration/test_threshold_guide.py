"""A threshold guide of samples: its numbers by brute force, what it writes, and the App's form."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fiftyone_isoclip.app.thresholds import GuideThreshold
from fiftyone_isoclip.dataset import delete_run, embed, guide_threshold, load_run, rerun
from fiftyone_isoclip.encoder import load_clip, read_image
from fiftyone_isoclip.errors import DatasetError, IsoClipError, VectorError
from fiftyone_isoclip.files.edits import EDITS, edit_image
from fiftyone_isoclip.projector import WHOLE, Band
from tests.operators import Offered
from tests.panels import Panel, texts
from tests.pictures import draw_many
from tests.planted import pair_cosines, plant_copies

RATE = 0.05


@pytest.fixture
def planted(dataset, fill, pictures, checkpoint):
    """Fourteen samples of twelve different files."""
    return plant_copies(dataset, fill, pictures, checkpoint)


@pytest.mark.parametrize("band", [None, WHOLE, Band(1, 2)])
def test_false_matches_are_counted_over_the_pairs_of_different_files(
    dataset, planted, checkpoint, band
):
    report = guide_threshold(dataset, false_matches=RATE, band=band, pictures=0)
    cosines = np.array([*pair_cosines(dataset, checkpoint, band).values()], np.float32)
    assert report.guide.rates.compared == len(cosines) == 66
    for row in report.guide.rows:
        assert row.false.share == (cosines >= np.float32(row.similarity)).mean()
        assert row.recall is None
    steps = np.arange(-9_999, 10_001) / 10_000
    shares = (cosines[:, None] >= steps.astype(np.float32)).mean(axis=0)
    assert report.suggested == steps[np.argmax(shares <= RATE)]


def test_edited_pictures_are_told_by_kind_and_by_picture(
    dataset, fill, pictures, planted, checkpoint
):
    # Copies of one file come first, so that the numbers of files and of samples differ.
    ids = dataset.values("id")
    copies = [pictures / f"a copy {number}.png" for number in range(3)]
    for copy in copies:
        copy.write_bytes((pictures / "copy of 0.png").read_bytes())
    first = fill(copies)
    embed(dataset, checkpoint, progress=False)
    view = dataset.select([*first, *ids], ordered=True)
    report = guide_threshold(view, false_matches=RATE, pictures=2)
    edits = report.guide.edits
    clip = load_clip(checkpoint)
    matrix = clip.isoclip().matrix.astype(np.float64)

    def vector(image):
        return matrix @ clip.image_embeddings(clip.preprocess(image)[None])[0].astype(np.float64)

    view = dataset.exists("thresholds_recall")
    found = {}
    for path, recall in zip(*view.values(["filepath", "thresholds_recall"]), strict=True):
        picture = read_image(path)
        for place, row in enumerate(edits.rows.tolist()):
            a, b = vector(picture), vector(edit_image(picture, "mirrored", row))
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            if abs(edits.similarities["mirrored"][place] - cosine) < 5e-3:
                found[place] = recall
    table = np.stack([edits.similarities[kind] for kind in EDITS])
    recalls = (table >= np.float32(report.suggested)).mean(axis=0)
    assert [found[place] for place in range(2)] == pytest.approx(recalls.tolist())
    assert report.view.values("thresholds_recall") == sorted(recalls.tolist())


def test_the_run_keeps_what_was_asked_and_found_and_takes_it_along(dataset, planted):
    report = guide_threshold(dataset, false_matches=RATE, pictures=2, band="1/1", key="mine")
    run = load_run(dataset, "mine", "thresholds")
    assert run.parameters == {
        "field": "clip_embedding", "band": "1/1", "false_matches": RATE, "pictures": 2,
    }  # fmt: skip
    assert run.details["suggested"] == report.suggested
    assert run.details["verdict"] == str(report)
    rows = {row["similarity"]: row for row in run.details["rows"]}
    assert rows[report.suggested]["false"]["share"] <= RATE
    shown = texts(Panel(dataset, "runs").send())
    assert "2 pictures edited" in shown and str(report) in shown
    assert run.counts == {"compared": 12, "skipped": 0, "edited": 2}
    assert dataset.load_saved_view("mine").values("id") == report.view.values("id")
    delete_run(dataset, "mine")
    assert not dataset.has_field("mine_recall") and not dataset.has_saved_view("mine")


def test_a_rerun_measures_what_came_since(dataset, planted, fill, pictures, checkpoint):
    guide_threshold(dataset, false_matches=RATE, pictures=1)
    (pictures / "more").mkdir()
    fill(draw_many(pictures / "more", 10)[8:])
    after = rerun(dataset, "thresholds", progress=False).run
    cosines = [*pair_cosines(dataset, checkpoint).values()]
    assert after.details["n_pairs"] == len(cosines) == 91
    assert after.counts["compared"] == 14


def test_the_report_is_one_page_with_the_verdict_and_every_row(dataset, planted, tmp_path):
    report = guide_threshold(
        dataset, false_matches=RATE, pictures=2, report=tmp_path / "guide.html"
    )  # fmt: skip
    page = (tmp_path / "guide.html").read_text()
    assert "From similarity" in page and "near-copies among them counted as chance" in page
    for row in report.guide.rows:
        assert f"{row.similarity:.4f}" in page
    for kind in EDITS:
        assert kind in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


class TestRefusals:
    def test_what_has_no_meaning_writes_nothing(self, dataset, planted, tmp_path):
        for options, error in (
            ({"false_matches": 3}, VectorError),
            ({"pictures": -1}, VectorError),
            ({"report": tmp_path / "nowhere" / "a.html"}, IsoClipError),
            ({"key": "Not a key"}, DatasetError),
        ):
            with pytest.raises(error):
                guide_threshold(dataset, **options)
        with pytest.raises(VectorError, match="none of 1 image"):
            guide_threshold(dataset.limit(1))
        assert not dataset.list_runs()

    def test_too_few_images_for_the_rate_are_said_and_the_rest_is_told(self, dataset, planted):
        report = guide_threshold(dataset, pictures=1)
        assert report.suggested is None
        assert str(report).startswith("No similarity can be suggested")
        assert "1 in 66" in str(report)
        assert dataset.count("thresholds_recall") == 1


class TestOperator:
    def test_the_app_shows_what_python_finds(self, dataset, planted):
        offer = Offered(GuideThreshold, dataset)
        result = offer.run(**offer.defaults(false_matches=RATE, pictures=2))
        report = guide_threshold(dataset, false_matches=RATE, pictures=2, key="direct")
        assert result["suggested"] == report.suggested
        assert result["report"] == str(report).replace("direct", "thresholds")
        shown = offer.operator.describe(result).to_json()
        told = str(shown)
        for row in report.guide.rows:
            assert f"{row.similarity:.4f}" in told
        assert "crop 30" in told

    @pytest.mark.parametrize(
        ("files", "why"), [("few", "Allow more, take more images"), ("alike", "one and the same")]
    )
    def test_where_no_similarity_can_be_suggested_the_notice_says_why(
        self, dataset, fill, pictures, checkpoint, files, why
    ):
        paths = draw_many(pictures, 3)
        if files == "alike":
            picture = read_image(paths[0])
            for level, path in enumerate(paths):  # other bytes, the same pixels
                picture.save(path, compress_level=level)
        fill(paths)
        embed(dataset, checkpoint, progress=False)
        offer = Offered(GuideThreshold, dataset)
        rate = 0.5 if files == "alike" else 0.01
        ctx = offer.context(offer.defaults(false_matches=rate, pictures=0))
        shown = [each for each in offer.operator.execute(ctx) if hasattr(each, "operator_uri")]
        shown += ctx.executor._requests
        (told,) = [each.params for each in shown if each.operator_uri.endswith("notify")]
        assert why in told["message"]
        assert told["variant"] == "warning"

    def test_a_rate_that_is_none_is_said_in_the_form(self, dataset, planted):
        offer = Offered(GuideThreshold, dataset)
        assert "above 0 and below 1" in offer.refusals(false_matches=1.5)[0]
        assert not offer.refusals()

    def test_without_embeddings_the_form_says_what_to_do(self, dataset, fill, pictures):
        fill(draw_many(pictures, 2))
        (told,) = Offered(GuideThreshold, dataset).refusals()
        assert "Compute embeddings" in told


def test_changed_files_are_left_out(dataset, planted, pictures, checkpoint):
    draw_many(pictures, 1)  # as it was
    before = guide_threshold(dataset, pictures=0, false_matches=RATE).guide.rates.n
    path = dataset.first().filepath
    read_image(path).rotate(90).save(path)
    report = guide_threshold(dataset, pictures=0, false_matches=RATE)
    # Its exact copy stays in its place.
    assert report.guide.rates.n == before
    assert len(report.skipped) == 1
    embed(dataset, checkpoint, progress=False)
    assert guide_threshold(dataset, pictures=0, false_matches=RATE).guide.rates.n == before + 1
