"""The App's form for near-duplicates: a similarity, or how rare false matches shall be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest

from fiftyone_isoclip.app import FindNearDuplicates
from fiftyone_isoclip.app.duplicates import BY_FALSE_MATCHES, BY_SIMILARITY
from fiftyone_isoclip.dataset import find_duplicates, load_duplicates, load_run
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.operators import Offered
from tests.panels import Panel, texts
from tests.planted import members, plant_copies

RATE = 0.05


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def offered(dataset: fo.Dataset, fill: Any, pictures: Path, checkpoint: str) -> Offered:
    plant_copies(dataset, fill, pictures, checkpoint)
    return Offered(FindNearDuplicates, dataset)


def test_the_form_asks_for_one_of_the_two(offered: Offered) -> None:
    plain = offered.form()
    assert plain["by"]["default"] == BY_SIMILARITY
    assert "similarity" in plain and "false_matches" not in plain
    rare = offered.form(by=BY_FALSE_MATCHES)
    assert "false_matches" in rare and "similarity" not in rare
    assert rare["false_matches"]["default"] == 1e-4


def test_a_rate_that_is_none_is_said_in_the_form(offered: Offered) -> None:
    (told,) = offered.refusals(by=BY_FALSE_MATCHES, false_matches=2)
    assert "above 0 and below 1" in told
    assert not offered.refusals(by=BY_FALSE_MATCHES, false_matches=0.01)


def test_the_app_finds_what_python_finds(offered: Offered, dataset: fo.Dataset) -> None:
    result = offered.run(**offered.defaults(by=BY_FALSE_MATCHES, false_matches=RATE))
    direct = find_duplicates(dataset, similarity="auto", false_matches=RATE, key="direct")
    assert (result["similarity"], result["false_matches"]) == (
        direct.similarity,
        direct.false_matches,
    )
    assert members(load_duplicates(dataset)) == members(direct)
    assert load_run(dataset, "duplicates").parameters["similarity"] == "auto"
    called = foo.get_operator(f"{PLUGIN_NAME}/find_near_duplicates")
    again = called(dataset, similarity="auto", false_matches=RATE, key="again").result
    assert again["similarity"] == direct.similarity


def test_too_few_images_are_told(offered: Offered, dataset: fo.Dataset) -> None:
    told = offered.run(**offered.defaults(by=BY_FALSE_MATCHES))["error"]
    assert "1 in 10,000" in told and "1 in 66" in told
    assert not dataset.list_runs()


def test_what_was_typed_before_the_choice_was_changed_does_not_count(
    offered: Offered, dataset: fo.Dataset
) -> None:
    result = offered.run(**offered.defaults(by=BY_SIMILARITY, false_matches=RATE, similarity=0.97))
    assert (result["similarity"], result["false_matches"]) == (0.97, None)


def test_the_panel_asks_for_the_same_rate_again_and_moves_to_a_similarity(
    offered: Offered, dataset: fo.Dataset
) -> None:
    report = find_duplicates(dataset, similarity="auto", false_matches=RATE)
    panel = Panel(dataset, "duplicates")
    reached = f"1 in {1 / report.false_matches:,.0f} pairs of different files are as similar"
    assert reached in texts(panel.send())
    panel.press("Search again ...")
    asked = panel.told["prompt_user_for_operation"]["params"]
    assert (asked["by"], asked["false_matches"]) == (BY_FALSE_MATCHES, RATE)
    again = offered.run(**offered.defaults(**asked))
    assert again.get("similarity") == report.similarity, again
    moved = round(report.similarity - 0.02, 3)
    panel.state["duplicates_part"] = "threshold"
    panel.state["duplicates_similarity"] = moved
    panel.press(f"Group at {moved:.3f}")
    asked = panel.told["prompt_user_for_operation"]["params"]
    list(offered.operator.execute(offered.context(offered.defaults(**asked))))
    assert load_duplicates(dataset).similarity == moved
    assert load_run(dataset, "duplicates").parameters["false_matches"] is None
