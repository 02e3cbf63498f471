"""What tuning says first, and that the map shows the bands where they are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from fiftyone_isoclip.evaluation.metrics.bootstrap import Interval
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.sweep import Plane
from fiftyone_isoclip.evaluation.tuning import Tuning
from fiftyone_isoclip.evaluation.tuning_page import (
    best_bands,
    draw_plane,
    tell_tuning,
    tuning_json,
    tuning_page,
)
from fiftyone_isoclip.projector import WHOLE, Band

GAIN, NOTHING, LOSS = (
    Interval(0.1, 0.05, 0.15),
    Interval(0.01, -0.02, 0.04),
    Interval(-0.1, -0.2, -0.05),
)
SCORES = np.array([[0.3, 0.2, 0.1], [0.7, 0.5, np.nan], [0.4, np.nan, np.nan]])
PLANE = Plane(np.array([0, 4, 8]), SCORES, False)
CENTRED_PLANE = replace(PLANE, centred=True, scores=SCORES * 0.9)


def made(
    candidate: Band | None, plain: Interval | None, centred: Interval | None, centring: Interval
) -> Tuning:
    return Tuning(
        planes=(PLANE, CENTRED_PLANE),
        candidate=candidate,
        held_out={"plain CLIP": Interval(0.5, 0.4, 0.6)},
        over_plain=plain,
        over_centred=centred,
        centring=centring,
        choosing=np.arange(30),
        holding=np.arange(30, 65),
        n_queries=33,
        n_classes=5,
        n_unlabelled=0,
        n_repeated=0,
        n_undrawn=0,
        labels_from="labels",
    )


BAND = Band(4, 0)
CASES = {
    "Band 4/0 beats plain CLIP by +0.100 [+0.050, +0.150] and mean-centred": (
        (BAND, GAIN, GAIN, NOTHING), BAND),
    "Keep plain CLIP: band 4/0, the best of 12 on the images to choose on, shows no measurable": (
        (BAND, NOTHING, NOTHING, NOTHING), WHOLE),
    "Keep plain CLIP: band 4/0, the best of 12 on the images to choose on, loses to plain CLIP": (
        (BAND, LOSS, NOTHING, NOTHING), WHOLE),
    "Keep plain CLIP: band 4/0, the best of 12 on the images to choose on, beats plain CLIP (": (
        (BAND, GAIN, NOTHING, NOTHING), WHOLE),
    "Keep plain CLIP, or centre it: mean-centred plain CLIP beats plain CLIP by +0.100": (
        (BAND, GAIN, LOSS, GAIN), WHOLE),
    "Keep plain CLIP: of 12 bands on the images to choose on none came out better": (
        (None, None, None, NOTHING), WHOLE),
}  # fmt: skip


@pytest.mark.parametrize(("first", "case"), CASES.items())
def test_the_verdict_names_the_winner_first(first: str, case: tuple) -> None:
    found, recommended = made(*case[0]), case[1]
    told = tell_tuning(found, "ViT-B-32/openai")
    assert told.startswith(first)
    assert "33 queries among 35 images that no band was chosen on" in told
    assert found.recommended == recommended
    assert "self-trained" not in told
    assert "self-trained demo weights" in tell_tuning(found, "isoclip-demo")


@pytest.mark.parametrize(
    ("case", "needed"),
    [
        ((Band(4, 0, centred=True), GAIN, GAIN, NOTHING), True),
        ((BAND, GAIN, GAIN, GAIN), True),  # centring is offered as well
        ((None, None, None, GAIN), True),
        ((BAND, GAIN, GAIN, NOTHING), False),
        ((Band(4, 0, centred=True), GAIN, NOTHING, NOTHING), False),
    ],
)
def test_what_centring_needs_is_said_where_it_is_to_be_used(case: tuple, needed: bool) -> None:
    told = tell_tuning(made(*case), "x")
    assert ("`isoclip.fit_centre(dataset)`" in told) == needed
    assert ("the command line take no centred band" in told) == needed


def test_the_json_holds_every_band() -> None:
    written = json.loads(
        json.dumps(tuning_json(made(BAND, GAIN, GAIN, NOTHING), "x"), allow_nan=False)
    )
    assert written["recommended"] == written["candidate"] == "4/0"
    assert written["planes"][0]["scores"] == [[0.3, 0.2, 0.1], [0.7, 0.5, None], [0.4, None, None]]
    assert [plane["best"] for plane in written["planes"]] == ["4/0", "4/0-centred"]
    assert written["differences"]["over_plain"] == {"mean": 0.1, "low": 0.05, "high": 0.15}


def test_the_best_bands_are_named_best_first() -> None:
    assert best_bands(PLANE, 3) == [("4/0", 0.7), ("4/4", 0.5), ("8/0", 0.4)]
    assert [name for name, _ in best_bands(CENTRED_PLANE, 9)] == [
        "4/0-centred", "4/4-centred", "8/0-centred", "0/0-centred", "0/4-centred", "0/8-centred",
    ]  # fmt: skip


def test_the_map_shows_each_band_in_its_place() -> None:
    axes = Figure().add_subplot()
    draw_plane(axes, PLANE)
    (image,), (ring,) = axes.images, axes.lines
    left, right, low, high = image.get_extent()
    table = np.ma.filled(image.get_array(), np.nan)
    for top, row in zip((0, 4, 8), SCORES, strict=True):
        for bottom, score in zip((0, 4, 8), row, strict=True):
            at = int((top - low) / (high - low) * 3), int((bottom - left) / (right - left) * 3)
            np.testing.assert_equal(table[at], score)
    assert image.origin == "lower"
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0, 4)


def test_the_page_is_written(tmp_path) -> None:
    found = made(BAND, GAIN, GAIN, NOTHING)
    write_page(tmp_path / "page.html", tuning_page(found, "isoclip-demo", {"images from": "a <b>"}))
    content = (tmp_path / "page.html").read_text()
    assert tell_tuning(found, "isoclip-demo") in content
    assert "a &lt;b&gt;" in content
    assert content.count("data:image/") == 2
