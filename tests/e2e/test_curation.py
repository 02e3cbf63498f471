"""The story of a curator: from a folder of pictures to a cleaned dataset, with a break in between.

Told on real photographs with known copies where they are at hand, else on generated ones. Each test
goes on where the one before ended.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone import ViewField as F
from playwright.sync_api import Browser

from fiftyone_isoclip import find_duplicates, find_similar
from fiftyone_isoclip.dataset import list_runs, load_duplicates, read_verdicts
from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.files.edits import edit_image
from fiftyone_isoclip.install import install_plugin
from tests.e2e.app_page import AppPage
from tests.e2e.panel_page import PanelPage
from tests.mongod import free_port

REAL = Path(__file__).parents[3] / "shared" / "data" / "copies_clothing_cc0"
ATTACKS = {"original": "original", "jpeg50": "recompressed", "half": "half size"}
GROUPS = 10
LEAKED = "0"
EMBED = "IsoCLIP: Compute embeddings"


def pictures(folder: Path) -> list[tuple[str, str, str]]:
    """Paths, groups and attacks of ten pictures with two copies each, and of twenty others."""
    if REAL.is_dir():
        with (REAL / "groups.csv").open() as file:
            rows = [(r["file"], r["group"], r["attack"]) for r in csv.DictReader(file)]
        wanted = [r for r in rows if r[2] in ATTACKS and int(r[1]) < GROUPS]
        others = [r for r in rows if r[2] == "distractor"][:20]
        return [(str(REAL / name), group, attack) for name, group, attack in wanted + others]
    found = []
    for number in range(GROUPS + 20):
        scene = render_scene(number, 320).image
        attacks = ATTACKS if number < GROUPS else {"distractor": "original"}
        for attack, kind in attacks.items():
            path = folder / f"{number:04d}_{attack}.jpg"
            image = scene if kind == "original" else edit_image(scene, kind, 0)
            image.convert("RGB").save(path, quality=92)
            found.append((str(path), str(number), attack))
    return found


class Desk:
    """The App on the dataset, which can be closed and opened again."""

    def __init__(self, dataset: fo.Dataset, browser: Browser) -> None:
        self.dataset = dataset
        self.browser = browser
        self.port = free_port()
        self.open()

    def open(self) -> None:
        """Start a server and open a page on it."""
        self.session: Any = fo.launch_app(
            self.dataset, remote=True, address="localhost", port=self.port
        )
        page = self.browser.new_page(viewport={"width": 1600, "height": 1200})
        self.app = AppPage(page)
        self.app.open(f"http://localhost:{self.port}/datasets/{self.dataset.name}")
        self.panel = PanelPage(self.app)

    def close(self) -> None:
        """Close the page and end the server."""
        self.app.page.close()
        self.session.close()


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    install_plugin()
    dataset = fo.Dataset("curation", persistent=True)
    samples = []
    for path, group, attack in pictures(tmp_path_factory.mktemp("scenes")):
        # The distractors are the test split; one copy of one training picture leaks into it.
        leaked = (group, attack) == (LEAKED, "jpeg50")
        split = "test" if attack == "distractor" or leaked else "train"
        samples.append(fo.Sample(filepath=path, tags=[split], truth=group, attack=attack))
    dataset.add_samples(samples, progress=False)
    desk = Desk(dataset, browser)
    yield desk
    desk.close()
    fo.delete_dataset("curation")


@pytest.fixture(autouse=True)
def picture_of_the_end(desk: Desk, request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves a picture, and no complaint of ours in the console."""
    yield
    folder = Path(request.config.rootpath, "build", "e2e")
    desk.app.photograph(folder / f"{request.node.name}.png")
    assert desk.app.errors == []


def stored(desk: Desk) -> list[dict[str, Any]]:
    """The samples as MongoDB holds them, not as FiftyOne shows them."""
    collection = fo.core.odm.get_db_conn()[desk.dataset._sample_collection_name]
    return list(collection.find())


def test_embeddings_and_duplicates_from_the_panel(desk: Desk) -> None:
    desk.app.open_operator(EMBED)
    desk.app.execute()
    desk.app.leave_result()
    desk.panel.open()
    desk.panel.tab("Duplicates")
    desk.panel.press("Find near-duplicates")
    desk.app.fill("Similarity from which images are duplicates", "0.9")
    desk.app.expect_in_form("To undo, delete the run")
    desk.panel.execute()
    desk.dataset.reload()
    report = load_duplicates(desk.dataset)
    assert len(report.groups) >= GROUPS - 2
    desk.panel.expect_text(f"{len(report.groups)} groups")
    truth = dict(zip(*desk.dataset.values(["id", "truth"]), strict=True))
    found = [{truth[id_] for id_ in (g.keeper, *(c.id for c in g.copies))} for g in report.groups]
    assert sum(len(group) == 1 for group in found) >= GROUPS - 2


def test_moving_the_similarity_regroups_without_a_form(desk: Desk) -> None:
    panel, dataset = desk.panel, desk.dataset
    panel.tab("Set the similarity")
    panel.expect_text("Just duplicates")
    panel.move("Similarity", 0.97)
    panel.press("Group at 0.970")
    panel.expect_text("similarity from 0.97")
    dataset.reload()
    moved = load_duplicates(dataset)
    fresh = find_duplicates(dataset, similarity=0.97, key="fresh")
    assert moved.groups == fresh.groups
    dataset.delete_run("fresh")
    panel.move("Similarity", 0.9)
    panel.press("Group at 0.900")
    panel.expect_text("similarity from 0.9, ")
    panel.tab("Review the groups")


def test_three_groups_are_reviewed_and_one_is_none(desk: Desk) -> None:
    panel, dataset = desk.panel, desk.dataset
    before = load_duplicates(dataset)
    panel.press("Next")
    panel.expect_text(re.compile("Group 2 of"))
    second = panel.pictures(re.compile("of group"))
    panel.press("Keep this one")
    panel.expect_text("chosen by hand")
    panel.press("Next")
    panel.expect_text(re.compile("Group 3 of"))
    third = panel.pictures(re.compile("of group"))
    panel.press("Keep all: not duplicates")
    panel.expect_text(re.compile("Group 4 of"))
    dataset.reload()
    after = {group.path: group for group in load_duplicates(dataset).groups}
    assert len(after) == len(before.groups) - 1
    # The keeper of the second group is another one of its pictures than before.
    [chosen] = dataset.match(F("preferred_keeper") == True).values("filepath")  # noqa: E712
    assert chosen in after and chosen not in {group.path for group in before.groups}
    assert any(chosen.endswith(Path(path).name) for path in second)
    said = {frozenset(map(str, pair)) for pair in read_verdicts(dataset)}
    names = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
    apart = {Path(names[id_]).name for pair in said for id_ in pair}
    assert apart == {Path(path).name for path in third}


def test_tags_are_in_the_database(desk: Desk) -> None:
    desk.panel.press("Tag all groups ...")
    desk.panel.execute()
    held = stored(desk)
    going = {s["filepath"] for s in held if s.get("duplicates_role") == "duplicate"}
    staying = {s["filepath"] for s in held if s.get("duplicates_role") == "keeper"}
    assert going and staying
    assert {s["filepath"] for s in held if "duplicate" in s["tags"]} == going
    assert {s["filepath"] for s in held if "keeper" in s["tags"]} == staying
    assert all(Path(s["filepath"]).exists() for s in held)


def test_the_planted_leak_is_found(desk: Desk) -> None:
    desk.panel.tab("Leaks")
    desk.panel.press("Find leaks between splits")
    desk.panel.execute()
    held = {(s["truth"], s["attack"]): s for s in stored(desk)}
    leaked = held[LEAKED, "jpeg50"]
    partners = {str(held[LEAKED, attack]["_id"]) for attack in ("original", "half")}
    assert leaked["leaks_with"] == ["train"]
    assert leaked["leaks_partner"] in partners
    # The copy in the test split stays, so that what was measured on it stays comparable.
    assert not leaked["leaks_drop"]
    assert all(held[LEAKED, attack]["leaks_drop"] for attack in ("original", "half"))


def test_clusters_are_shown(desk: Desk) -> None:
    desk.panel.tab("Clusters")
    desk.panel.press("Cluster images")
    desk.panel.execute()
    desk.dataset.reload()
    counts = desk.dataset.count_values("clusters")
    desk.panel.expect_text(f"{len(counts)} clusters")
    desk.panel.press("Show")
    largest = max(counts.values())
    desk.app.expect_counts(f"{largest} samples")


def test_moving_the_band_changes_the_neighbours(desk: Desk) -> None:
    panel, dataset = desk.panel, desk.dataset
    desk.app.show_everything(f"{len(dataset)} samples")
    panel.tab("Space")
    panel.press(re.compile("Load the space"))
    first = dataset.first()
    panel.expect_text(re.compile("keeps"))
    own = panel.neighbours_in_band()
    assert own == [Path(p).name for p in find_similar(dataset, first.id, 6).view.values("filepath")]
    panel.move("Directions left out at the top", 40)
    panel.expect_text("Band 40/32")
    moved = panel.neighbours_in_band()
    expected = find_similar(dataset, first.id, 6, band="40/32").view.values("filepath")
    assert moved == [Path(path).name for path in expected]
    assert moved != own


def test_everything_is_there_after_a_restart(desk: Desk) -> None:
    desk.close()
    desk.open()
    desk.panel.open()
    desk.panel.tab("Runs")
    for run in list_runs(desk.dataset):
        desk.panel.expect_text(run.key)
    desk.panel.tab("Duplicates")
    desk.panel.expect_text(", 1 said to be no duplicates")
    said, chosen = read_verdicts(desk.dataset), load_duplicates(desk.dataset)
    again = find_duplicates(desk.dataset, similarity=0.9, key="again")
    members = [{group.keeper, *(copy.id for copy in group.copies)} for group in again.groups]
    assert said and not any(pair <= group for pair in said for group in members)
    assert {group.keeper for group in again.groups} == {group.keeper for group in chosen.groups}
