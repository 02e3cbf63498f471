"""The tab Clusters on a real dataset: what it draws, and where its buttons lead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import fiftyone as fo
import fiftyone.operators.types as types
import pytest

from fiftyone_isoclip.app.panel.clusters import CARDS, ClustersTab
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.panel import IsoClipPanel
from fiftyone_isoclip.dataset import delete_run, embed, find_clusters, load_clusters, map_embeddings
from tests.pictures import draw_many

TAB = ClustersTab()


class Session:
    """What the App keeps of a panel: its state, and what it was told to do."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self.dataset = dataset
        self.params: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        self.panel = SimpleNamespace(get_state=self.state.get, set_state=self.state.__setitem__)
        names = ("set_view", "notify", "reload_dataset", "open_panel")
        self.ops = SimpleNamespace(**{name: self._teller(name) for name in names})
        self.prompt = self._teller("prompt")

    def _teller(self, name: str) -> Any:
        return lambda *args, **_: self.told.__setitem__(name, args[0] if args else None)

    def press(self, do: str, **params: Any) -> dict[str, Any]:
        """Press a button; -> what the App was told to do."""
        self.told.clear()
        self.params = params
        TAB.actions[do](self)
        return self.told

    def show(self) -> Drawn:
        drawn = types.Object()
        TAB.show(self, Page(drawn, IsoClipPanel().act, TAB.name))
        return Drawn(drawn.to_json())


class Drawn:
    """What is on a page: its texts, its pictures' paths and its buttons' parameters."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.texts: list[str] = []
        self.paths: list[str] = []
        self.buttons: list[dict[str, Any]] = []
        self.traces: list[dict[str, Any]] = []
        self._walk(shown)
        self.text = "\n".join(self.texts)

    def _walk(self, shown: dict[str, Any]) -> None:
        for prop in shown["properties"].values():
            view, default = prop["view"] or {}, prop["default"]
            if view.get("name") == "ImageView":
                self.paths.append(unquote(default.partition("filepath=")[2]))
            elif view.get("name") == "Button":
                self.buttons.append(view["params"])
            elif view.get("name") == "PlotlyView":
                self.traces += view["data"]
            elif isinstance(default, str):
                self.texts.append(default)
            if "properties" in prop["type"]:
                self._walk(prop["type"])


@pytest.fixture
def session(dataset: fo.Dataset, fill: Any, pictures: Any, checkpoint: str) -> Session:
    """Twenty-two pictures in eleven clusters."""
    fill(draw_many(pictures, 22))
    embed(dataset, checkpoint, progress=False)
    dataset.add_sample_field("truth", fo.StringField)
    find_clusters(dataset, count=11)
    return Session(dataset)


def test_without_clusters_the_tab_says_what_to_do_next(dataset: fo.Dataset) -> None:
    session = Session(dataset)
    shown = session.show()
    assert "No clusters yet" in shown.text
    assert session.press(shown.buttons[0]["do"])["prompt"].endswith("/compute_embeddings")


def test_with_embeddings_the_next_step_is_to_cluster(session: Session) -> None:
    delete_run(session.dataset, "clusters")
    shown = session.show()
    assert "No clusters yet" in shown.text
    assert session.press(shown.buttons[0]["do"])["prompt"].endswith("/cluster_images")


def test_pages_show_the_medoids_largest_first(session: Session) -> None:
    clusters = load_clusters(session.dataset).clusters
    medoids = [session.dataset[cluster.medoid].filepath for cluster in clusters]
    first = session.show()
    assert first.paths == medoids[:CARDS]
    assert list(first.traces[0]["x"]) == [cluster.name for cluster in clusters]
    assert list(first.traces[0]["y"]) == [cluster.size for cluster in clusters]
    session.press("turn", to=1)
    assert session.show().paths == medoids[CARDS:]
    session.press("turn", to=9)
    assert session.show().paths == medoids[CARDS:]


def test_every_button_of_a_card_shows_its_cluster(session: Session) -> None:
    names = dict(zip(*session.dataset.values(["id", "clusters"]), strict=True))
    cards = [button for button in session.show().buttons if "cluster" in button]
    assert len(cards) == 2 * CARDS
    for button in cards:
        view = session.press(**button)["set_view"]
        expected = {id_ for id_, name in names.items() if name == button["cluster"]}
        assert set(view.values("id")) == expected
    bar = session.press("members", x=cards[0]["cluster"])["set_view"]
    assert set(bar.values("clusters")) == {cards[0]["cluster"]}


def test_naming_is_shown_and_a_mistake_changes_nothing(session: Session) -> None:
    names = session.dataset.values("clusters")
    first, second = (cluster.name for cluster in load_clusters(session.dataset).clusters[:2])
    session.state |= {"clusters_named": second, "clusters_name": " *odd* "}
    view = session.press("name")["set_view"]
    assert set(view.values("clusters")) == {"*odd*"}
    changed = [("*odd*" if name == second else name) for name in names]
    assert session.dataset.values("clusters") == changed
    assert "**\\*odd\\***" in session.show().text
    session.state |= {"clusters_named": first, "clusters_name": "*odd*"}
    with pytest.raises(Exception, match="already; choose another"):
        session.press("name")
    assert session.dataset.values("clusters") == changed


def test_labels_name_all_clusters(session: Session) -> None:
    session.dataset.set_values(
        "truth", [f"kind {name}" for name in session.dataset.values("clusters")]
    )
    (button,) = [button for button in session.show().buttons if button["do"] == "name_by"]
    told = session.press(**button)
    assert "11 of 11 clusters named by truth, purity 1.00" in told["notify"]
    assert session.dataset.values("clusters") == session.dataset.values("truth")
    assert "kind 00" in session.show().text


def test_the_map_is_opened_or_offered(session: Session) -> None:
    assert session.press("map")["prompt"].endswith("/map_embeddings")
    map_embeddings(session.dataset)
    assert session.press("map")["open_panel"] == "Embeddings"


def test_what_was_deleted_meanwhile_is_no_error(session: Session) -> None:
    find_clusters(session.dataset, count=3, key="looks")
    session.state["clusters_run"] = "looks"
    assert "**3 clusters** of 22 images" in session.show().text
    medoid = load_clusters(session.dataset, "looks").clusters[0].medoid
    session.dataset.delete_samples([medoid])
    assert "its medoid was deleted" in session.show().text
    delete_run(session.dataset, "looks")
    assert "**11 clusters** of 22 images" in session.show().text
