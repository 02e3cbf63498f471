"""The tab Duplicates without a browser: what it draws from the dataset, and what its buttons do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_isoclip import find_duplicates
from fiftyone_isoclip.dataset import (
    DuplicateReport,
    load_duplicates,
    read_verdicts,
    resolve_duplicates,
)
from fiftyone_isoclip.dataset.review import list_groups
from fiftyone_isoclip.dataset.runs import load_run
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.panels import Panel, grid, pictures_of, texts, views
from tests.pictures import draw_many
from tests.planted import pair_cosines, plant_copies

SIMILARITY, LEAST = 0.98, 0.9


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def found(dataset: fo.Dataset, fill: Any, pictures: Path, checkpoint: str) -> DuplicateReport:
    plant_copies(dataset, fill, pictures, checkpoint)
    return find_duplicates(dataset, similarity=SIMILARITY, least=LEAST)


@pytest.fixture
def panel(dataset: fo.Dataset, found: DuplicateReport) -> Panel:
    return Panel(dataset, "duplicates")


def members(dataset: fo.Dataset, number: int) -> list[str]:
    view = dataset.match(fo.ViewField("duplicates_group") == number).sort_by("duplicates_rank")
    return list(view.values("id"))


def test_without_embeddings_the_first_step_is_to_compute_them(
    dataset: fo.Dataset, fill: Any, pictures: Path
) -> None:
    fill(draw_many(pictures, 2))
    panel = Panel(dataset, "duplicates")
    labels = [button["label"] for button in views(panel.send(), "Button")]
    assert "Find near-duplicates" not in labels
    panel.press("Compute embeddings")
    asked = panel.told["prompt_user_for_operation"]["operator_uri"]
    assert asked == f"{PLUGIN_NAME}/compute_embeddings"


def test_groups_are_turned_one_by_one_and_the_grid_follows(
    panel: Panel, dataset: fo.Dataset
) -> None:
    numbers = list_groups(dataset, load_run(dataset, "duplicates"))
    for at, number in enumerate(numbers[1:], 2):
        parts = panel.press("Next")
        assert f"Group {at} of {len(numbers)}" in texts(parts)
        paths = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
        assert pictures_of(parts) == [paths[id_] for id_ in members(dataset, number)]
        assert grid(panel) == set(members(dataset, number))
    assert len(str(panel.state)) < 500


def test_one_is_said_to_be_apart_and_the_rest_stays(panel: Panel, dataset: fo.Dataset) -> None:
    number = list_groups(dataset, load_run(dataset, "duplicates"))[0]
    keeper, first, *rest = members(dataset, number)
    button = next(b for b in views(panel.send(), "Button") if b["label"] == "Not one of them")
    assert button["params"]["id"] == first
    panel.send("act", **button["params"])
    said = {frozenset((first, other)) for other in (keeper, *rest)}
    assert read_verdicts(dataset) == said
    again = find_duplicates(dataset, similarity=SIMILARITY, key="again")
    groups = [{g.keeper, *(copy.id for copy in g.copies)} for g in again.groups]
    assert {keeper, *rest} in groups
    dataset.delete_run("again")
    # Another keeper does not bring the one that is apart back.
    panel.do("keep_this", id=rest[0])
    assert dataset[first]["duplicates_role"] == "not a duplicate"
    panel.press("Judge again")
    assert read_verdicts(dataset) == set()
    assert dataset[first]["duplicates_role"] != "not a duplicate"


def test_a_keeper_cannot_be_apart(panel: Panel, dataset: fo.Dataset) -> None:
    keeper = members(dataset, 1)[0]
    panel.do("keep_apart", id=keeper)
    assert "keep another one first" in panel.told["notify"]["message"]
    assert read_verdicts(dataset) == set()


def test_what_was_removed_is_brought_back(
    panel: Panel, dataset: fo.Dataset, found: DuplicateReport
) -> None:
    resolve_duplicates(dataset, "duplicates", "remove")
    assert "no group left to judge" in texts(panel.send())
    panel.press(f"Bring back the {found.n_duplicates} that were removed")
    assert load_duplicates(dataset).groups == found.groups
    labels = [button["label"] for button in views(panel.send(), "Button")]
    assert not any(label.startswith("Bring back") for label in labels)


@pytest.mark.parametrize("whole", [True, False])
def test_the_similarity_is_moved_on_the_samples_of_the_run(
    dataset: fo.Dataset, fill: Any, pictures: Path, checkpoint: str, whole: bool
) -> None:
    plant_copies(dataset, fill, pictures, checkpoint)
    about = dataset if whole else dataset.limit(12)
    find_duplicates(about, similarity=SIMILARITY, least=LEAST)
    panel = Panel(dataset, "duplicates")
    panel.state["duplicates_part"] = "threshold"
    panel.state["duplicates_similarity"] = 0.95
    panel.press("Group at 0.950")
    sent = panel.told["prompt_user_for_operation"]
    assert sent["skip_prompt"] and sent["params"]["similarity"] == 0.95
    if whole:
        assert sent["params"]["view_target"] == "DATASET"
    else:
        target = fo.DatasetView._build(dataset, sent["params"]["custom_view_target"])
        assert target.values("id") == about.values("id")


def test_the_borderline_pairs_are_the_nearest_to_the_similarity(
    panel: Panel, dataset: fo.Dataset, checkpoint: str
) -> None:
    panel.state["duplicates_part"] = "threshold"
    shown = pictures_of(panel.send())
    ids = dict(zip(*dataset.values(["filepath", "id"]), strict=True))
    pairs = [frozenset((ids[a], ids[b])) for a, b in zip(shown[::2], shown[1::2], strict=True)]
    cosines = {pair: c for pair, c in pair_cosines(dataset, checkpoint).items() if c >= LEAST}
    above = sorted((pair for pair in cosines if cosines[pair] >= SIMILARITY), key=cosines.get)[:3]
    below = sorted((p for p in cosines if cosines[p] < SIMILARITY), key=cosines.get)[::-1][:3]
    assert pairs == [*above, *below]
