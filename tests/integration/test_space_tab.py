"""The tab Space on real datasets: what it draws, as the panel draws it, and what its buttons do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip import compare_with_clip, embed, find_similar, load_clip
from fiftyone_isoclip.app.index import BuildSimilarityIndex
from fiftyone_isoclip.app.panel import IsoClipPanel, loaded
from tests.galleries import add_pictures, paint_gallery, paint_picture

FIELD = "clip_embedding"
Part = dict[str, Any]


class App:
    """What the App's server does with a panel; its state is all that is kept between events."""

    def __init__(self, dataset: fo.Dataset, *selected: str) -> None:
        self.dataset = dataset
        self.selected = list(selected)
        self.state: dict[str, Any] = {"tab": "space"}
        self.told: dict[str, Any] = {}

    def _context(self, **params: Any) -> ExecutionContext:
        asked = {"panel_id": "p", "panel_state": self.state, **params}
        request = {
            "dataset_name": self.dataset.name,
            "params": asked,
            "selected": self.selected,
        }
        return ExecutionContext(request_params=request, executor=Executor())

    def press(self, label: str) -> dict[str, Any]:
        """Press the button with this label; -> what the App was told, by operator."""
        (button,) = [view for view in self.draw().buttons if view["label"] == label]
        ctx = self._context(**button["params"])
        IsoClipPanel().act(ctx)
        self.state = ctx.panel_state
        self.told = {sent.operator_uri: sent.params for sent in ctx.executor._requests}
        return self.told

    def draw(self) -> Drawn:
        return Drawn(IsoClipPanel().render(self._context()).to_json())


class Drawn:
    """The texts, pictures, buttons and figures of a page, in their order."""

    def __init__(self, prop: Part) -> None:
        self.texts: list[str] = []
        self.buttons: list[Part] = []
        self.figures: list[Part] = []
        self.names: list[str] = []
        self.sides: dict[str, list[str]] = {}
        self._side: str | None = None
        self._walk(prop)
        self.text = "\n".join(self.texts)

    def _walk(self, prop: Part) -> None:
        view = prop.get("view") or {}
        kind, default = view.get("name"), prop.get("default")
        if kind == "ImageView":
            path = unquote(default.partition("filepath=")[2])
            self.sides.setdefault(self._side or "query", []).append(path)
        elif kind == "MarkdownView":
            self.texts.append(default)
            if re.fullmatch(r"\*\*(Plain CLIP \(0/0\)|Band \d+/\d+)\*\*", default):
                self._side = default.strip("*")
        elif kind == "Button":
            self.buttons.append(view)
        elif kind == "PlotlyView":
            self.figures.append(view)
        elif view.get("label"):
            self.texts.append(view["label"])
        for name, inner in (prop["type"].get("properties") or {}).items():
            self.names.append(name)
            if self._side and inner.get("default", "") == "**WHERE THE TWO SPACES DISAGREE MOST**":
                self._side = "disagreement"
            self._walk(inner)


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    loaded._spaces.clear()
    yield
    loaded._spaces.clear()


@pytest.fixture
def embedded(dataset: fo.Dataset, tmp_path: Path, checkpoint: str) -> fo.Dataset:
    add_pictures(dataset, paint_gallery(tmp_path / "gallery", 30))
    embed(dataset, checkpoint, progress=False)
    return dataset


def similar_paths(dataset: fo.Dataset, sample: str, band: str) -> list[str]:
    return find_similar(dataset, sample, 6, band=band).view.values("filepath")


def loaded_app(dataset: fo.Dataset, *selected: str) -> App:
    app = App(dataset, *selected)
    app.press("Load the space (takes a few seconds)")
    return app


def test_without_embeddings_it_says_what_to_do(dataset: fo.Dataset) -> None:
    app = App(dataset)
    assert "Compute CLIP embeddings first" in app.draw().text
    assert app.press("Compute embeddings")["prompt_user_for_operation"]["operator_uri"].endswith(
        "/compute_embeddings"
    )


def test_nothing_heavy_is_done_before_it_is_asked_for(
    embedded: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded by a drawing")

    monkeypatch.setattr("fiftyone_isoclip.dataset.spaces.clip_for", refuse)
    drawn = App(embedded).draw()
    assert [button["label"] for button in drawn.buttons] == ["Load the space (takes a few seconds)"]
    assert drawn.figures == []


def test_the_spectrum_is_that_of_psi_and_the_band_lies_on_it(
    embedded: fo.Dataset, checkpoint: str
) -> None:
    app = loaded_app(embedded)
    clip = load_clip(checkpoint, device="cpu")
    psi = clip.image_head.matrix.T @ clip.text_head.matrix
    values = np.linalg.svd(psi, compute_uv=False)[: clip.spectrum.rank]
    app.state |= {"space_top": 3.0, "space_bottom": 2.0}
    (figure,) = app.draw().figures
    np.testing.assert_allclose(figure["data"][0]["y"], values, rtol=1e-3)
    assert figure["layout"]["yaxis"]["type"] == "log"
    (shape,) = figure["layout"]["shapes"]
    inside = [x for x in figure["data"][0]["x"] if shape["x0"] < x < shape["x1"]]
    assert (inside[0], len(inside)) == (4, clip.spectrum.rank - 5)
    told = app.draw().text
    assert f"keeps {clip.spectrum.rank - 5} of {clip.spectrum.rank} directions" in told
    assert f"own band is {clip.image_band}" in told


@pytest.mark.parametrize("row", [0, 17])
def test_neighbours_are_those_of_find_similar_and_follow_the_band(
    embedded: fo.Dataset, row: int
) -> None:
    sample = embedded.values("id")[row]
    app = loaded_app(embedded, sample)
    shown = {}
    for top, bottom in ((3, 2), (0, 20), (0, 0)):
        app.state |= {"space_top": float(top), "space_bottom": float(bottom)}
        drawn, band = app.draw(), f"{top}/{bottom}"
        shown[band] = drawn.sides[f"Band {band}"]
        assert shown[band] == similar_paths(embedded, sample, band)
        plain = similar_paths(embedded, sample, "0/0")
        assert drawn.sides["Plain CLIP (0/0)"] == plain
        assert drawn.sides["query"] == [embedded[sample].filepath]
        common = set(plain) & set(shown[band])
        assert f"{len(common)} of its 6 nearest neighbours are the same" in drawn.text
        assert drawn.text.count("only here") == 2 * (6 - len(common))
        cosines = find_similar(embedded, sample, 6, band=band).similarities
        assert all(f"{cosine:.3f}" in drawn.text for cosine in cosines)
    assert len({tuple(paths) for paths in shown.values()}) == 3, "the band must matter here"


def test_without_a_selection_it_is_about_the_first_sample(embedded: fo.Dataset) -> None:
    drawn = loaded_app(embedded).draw()
    assert drawn.sides["query"] == [embedded.first().filepath]
    assert "select another in the grid" in drawn.text


def test_state_holds_choices_only(embedded: fo.Dataset) -> None:
    app = loaded_app(embedded, embedded.first().id)
    app.state |= {"space_top": 5.0, "space_bottom": 4.0, "space_field": FIELD}
    compare_with_clip(embedded, k=3, progress=False)
    app.draw()
    own = next(b["label"] for b in app.draw().buttons if b["label"].startswith("Use "))
    app.press(own)
    assert f"{app.state['space_top']:g}/{app.state['space_bottom']:g}" == own.removeprefix("Use ")
    assert set(app.state) == {"tab", "space_top", "space_bottom", "space_field"}
    assert len(json.dumps(app.state)) < 2000


def test_a_band_that_keeps_nothing_is_a_sentence_and_the_rest_stays(embedded: fo.Dataset) -> None:
    app = loaded_app(embedded)
    app.state |= {"space_top": 900.0, "space_bottom": 900.0}
    drawn = app.draw()
    assert "keeps none of" in drawn.text and "Plain CLIP (0/0)" not in drawn.sides
    assert "DISAGREE" in drawn.text


def test_where_the_spaces_disagree_most_is_what_the_latest_comparison_says(
    embedded: fo.Dataset,
) -> None:
    app = loaded_app(embedded)
    asked = app.press("Compare with plain CLIP")["prompt_user_for_operation"]
    assert asked["operator_uri"].endswith("/compare_with_clip")
    assert asked["params"] == {"view_target": "DATASET", "field": FIELD, "band": _own(app)}
    compare_with_clip(embedded, k=3, key="older", band="0/0", progress=False)
    report = compare_with_clip(embedded, k=5, key="newer", band="3/2", progress=False)
    drawn = app.draw()
    assert str(report) in drawn.text
    paths, overlaps = embedded.values(["filepath", "newer_overlap"])
    overlap_of = dict(zip(paths, overlaps, strict=True))
    shown = [overlap_of[path] for path in drawn.sides["disagreement"]]
    assert shown == sorted(overlaps)[:6]
    view = app.press("Show in the grid")["set_view"]["view"]
    assert fo.DatasetView._build(embedded, view).values("newer_overlap") == sorted(overlaps)
    look = next(button for button in app.draw().buttons if button["label"] == "Look")
    assert embedded[look["params"]["id"]].newer_overlap == min(overlaps)


def test_new_embeddings_are_announced_and_loaded_again(
    embedded: fo.Dataset, tmp_path: Path, checkpoint: str
) -> None:
    app = loaded_app(embedded)
    said = "Embeddings were added, removed or made anew"
    embedded.set_values("anything", [1] * len(embedded))
    assert said not in app.draw().text
    paint_picture(99).save(tmp_path / "new.png")
    (new,) = add_pictures(embedded, [tmp_path / "new.png"])
    app.selected = [new]
    assert "cannot be compared: it was not there when the space was read" in app.draw().text
    embed(embedded, checkpoint, progress=False)
    assert said in app.draw().text
    app.press("Reload")
    drawn = app.draw()
    assert said not in drawn.text
    assert drawn.sides["Plain CLIP (0/0)"] == similar_paths(embedded, new, "0/0")


def test_what_is_kept_in_memory_is_bounded(
    embedded: fo.Dataset, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "third"):
        embed(embedded, checkpoint, name, progress=False)
    for name in (FIELD, "second", "third"):
        loaded.load_space(embedded, name)
    assert [key[1] for key in loaded._spaces] == ["second", "third"]
    space = loaded.load_space(embedded, "third")
    for top in range(5):
        space.under(loaded.Band(top, 1))
    assert list(space._bands) == [loaded.Band(3, 1), loaded.Band(4, 1)]
    monkeypatch.setattr(loaded, "MOST_SAMPLES", 10)
    small = loaded.load_space(embedded, FIELD)
    assert small.plain.stored.ids == embedded.values("id")[:10] and small.n_left_out == 20
    assert "20 more are left out here" in App(embedded).draw().text


def test_an_index_is_built_with_the_band_that_was_chosen(embedded: fo.Dataset) -> None:
    app = loaded_app(embedded)
    app.state |= {"space_top": 3.0, "space_bottom": 2.0}
    asked = app.press("Build an index with this band")["prompt_user_for_operation"]
    assert asked["operator_uri"].endswith("/build_similarity_index")
    operator = BuildSimilarityIndex()
    request = {"dataset_name": embedded.name, "params": dict(asked["params"])}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    form = operator.resolve_input(ctx).type.properties
    ctx.params.update({name: p.default for name, p in form.items() if p.default and name != "band"})
    assert not any(prop.invalid for prop in form.values()), "the form can be executed as it is"
    assert operator.execute(ctx)["band"] == "3/2"
    sample = embedded.first().id
    nearest = embedded.sort_by_similarity(sample, k=7, brain_key=ctx.params["key"])
    assert nearest.values("filepath")[1:] == similar_paths(embedded, sample, "3/2")
    assert isinstance(operator, foo.Operator)


def _own(app: App) -> str:
    label = next(b["label"] for b in app.draw().buttons if b["label"].startswith("Use "))
    return str(label.removeprefix("Use "))
