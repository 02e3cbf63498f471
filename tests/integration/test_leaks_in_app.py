"""Leaks in the App: the operator's form and results, and the tab, through FiftyOne's executors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext, ExecutionError

from fiftyone_isoclip import embed, find_leaks
from fiftyone_isoclip.app.leaks import matrix_table
from fiftyone_isoclip.dataset import delete_run, load_leaks, load_run
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.integration.test_operators import ask, form_errors, messages
from tests.panels import Panel, grid, pictures_of, texts, views
from tests.pictures import draw_many, recompress

LEAKS = f"{PLUGIN_NAME}/find_leaks"
SIMILARITY = 0.995


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"tags": ["train"]}, "tags", "two splits or more"),
    ({"tags": ["train", "dev"]}, "tags", "has the tag dev"),
    ({"splits_by": "field"}, "split_field", "Choose the field"),
    ({"splits_by": "field", "split_field": "one"}, "split_field", "one has 1 values"),
    ({"splits_by": "field", "split_field": "many"}, "split_field", "more than 20"),
    ({"drop": "dev"}, "drop", "dev is none of train, val, test"),
    ({"other": "nowhere"}, "other", "no embeddings of the same checkpoint"),
    ({"band": "wide"}, "band", "wide"),
    ({"key": "tags!"}, "key", "lower-case letters"),
]


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def planted(dataset: fo.Dataset, fill: Any, pictures: Path, checkpoint: str) -> list[str]:
    """Nine pictures in train, copies of eight of them in test and of one in val; -> the ids."""
    base = draw_many(pictures, 9)
    copies = [recompress(path, pictures / f"copy_{n}.jpg", 95) for n, path in enumerate(base)]
    ids: list[str] = fill([*base, *copies])
    dataset.select(ids[:9]).tag_samples("train")
    dataset.select(ids[9:17]).tag_samples("test")
    dataset.select(ids[17]).tag_samples("val")
    embed(dataset, checkpoint, progress=False)
    return ids


@pytest.fixture
def second(dataset: fo.Dataset, planted: list[str], checkpoint: str) -> Iterator[fo.Dataset]:
    """Another dataset that holds a picture of each of the two splits."""
    made = fo.Dataset(f"second-{uuid.uuid4().hex}")
    paths = dataset.select([planted[0], planted[9]]).values("filepath")
    made.add_samples([fo.Sample(filepath=path) for path in paths], progress=False)
    embed(made, checkpoint, progress=False)
    yield made
    made.delete()


class TestOperator:
    def test_it_finds_what_the_verb_finds_and_shows_it(
        self, dataset: fo.Dataset, planted: list[str]
    ) -> None:
        sent = messages(ask(dataset, LEAKS, similarity=SIMILARITY), LEAKS)
        report = find_leaks(dataset, similarity=SIMILARITY, key="direct")
        result = dict(sent)["show_output"]["results"]
        assert json.loads(json.dumps(result)) == result
        assert (result["pairs"], result["leaked"], result["drop"]) == (9, 18, 9)
        assert result["splits"] == ["train", "val", "test"]
        assert result["image_counts"] == [list(line) for line in report.matrix.images]
        assert result["pair_counts"] == [[0, 1, 8], [1, 0, 0], [8, 0, 0]]
        assert "| images of train |  | 1 | 8 |" in matrix_table(result)
        shares = [p["progress"] for name, p in sent if name == "set_progress" and "progress" in p]
        assert shares == sorted(shares) and shares[-1] == 1
        shown = fo.DatasetView._build(dataset, dict(sent)["set_view"]["view"])
        assert set(shown.values("id")) == set(planted)
        assert "18 images leak" in dict(sent)["notify"]["message"]

    def test_from_python_by_tags_by_field_and_against_another_dataset(
        self, dataset: fo.Dataset, planted: list[str], second: fo.Dataset
    ) -> None:
        run = foo.get_operator(LEAKS)
        usual = run(dataset, similarity=SIMILARITY).result
        assert usual["splits"] == ["train", "val", "test"]
        tagged = run(dataset, splits=["train", "val"], similarity=SIMILARITY, drop="val").result
        assert (tagged["pairs"], tagged["unsplit"]) == (1, 8)
        assert load_leaks(dataset).drop_view.values("id") == [planted[17]]
        dataset.set_values("part", [tags[0] for tags in dataset.values("tags")])
        by_field = run(dataset, splits="part", similarity=SIMILARITY).result
        assert by_field["pair_counts"] == usual["pair_counts"]
        both = run(dataset, other=second.name, similarity=SIMILARITY).result
        assert both["splits"][-1] == second.name
        # Each of its two pictures resembles the other one's copy, too.
        assert both["image_counts"][0][-1] == both["image_counts"][2][-1] == 1
        whole = ask(dataset, LEAKS, splits_by="whole", other=second.name, similarity=SIMILARITY)
        result = foo.get_operator(LEAKS).execute(_from_python(whole))
        assert result["splits"] == [dataset.name, second.name]
        assert result["leaked"] == result["drop"] == 2

    def test_nothing_in_common_leaves_the_grid_as_it_is(
        self, dataset: fo.Dataset, planted: list[str]
    ) -> None:
        dataset.delete_samples(planted[9:17])
        ctx = ask(dataset, LEAKS, similarity=SIMILARITY, tags=["val", "train"])
        dataset.delete_samples(planted[8:9])
        sent = dict(messages(ctx, LEAKS))
        assert "set_view" not in sent
        assert "None of 9 images" in sent["notify"]["message"]

    def test_the_form_answers_mistakes(
        self, dataset: fo.Dataset, planted: list[str], second: fo.Dataset
    ) -> None:
        dataset.set_values("one", ["same"] * len(planted))
        dataset.set_values("many", planted)
        dataset.add_samples([fo.Sample(filepath=f"/no/{n}.png", many=str(n)) for n in range(9)])
        for wrong, named, sentence in MISTAKES:
            ctx = ask(dataset, LEAKS, **wrong)
            assert list(form_errors(ctx, LEAKS)) == [named]
            assert sentence in form_errors(ctx, LEAKS)[named]
            with pytest.raises(ExecutionError, match="Validation error"):
                foo.execute_operator(LEAKS, dataset=dataset, params=ctx.params)

    def test_only_datasets_of_the_same_checkpoint_are_offered(
        self,
        dataset: fo.Dataset,
        planted: list[str],
        second: fo.Dataset,
        other_checkpoint: str,
    ) -> None:
        def offered() -> list[str]:
            form = foo.get_operator(LEAKS).resolve_type(ask(dataset, LEAKS), "inputs").to_json()
            other = form["type"]["properties"].get("other")
            return [choice["value"] for choice in other["view"]["choices"]] if other else []

        assert offered() == [second.name]
        embed(second, other_checkpoint, overwrite=True, progress=False)
        assert offered() == []


def _from_python(ctx: ExecutionContext) -> ExecutionContext:
    ctx.request_params.pop("operator_uri")
    return ctx


class TestTab:
    @pytest.fixture
    def panel(self, dataset: fo.Dataset, planted: list[str]) -> Panel:
        find_leaks(dataset, similarity=SIMILARITY)
        return Panel(dataset, "leaks")

    def test_before_the_first_search_it_says_what_to_do(
        self, dataset: fo.Dataset, planted: list[str]
    ) -> None:
        panel = Panel(dataset, "leaks")
        assert "no search for leaks yet" in texts(panel.send()).lower()
        panel.press("Find leaks between splits")
        assert panel.told["prompt_user_for_operation"]["operator_uri"] == LEAKS

    def test_the_table_holds_the_counts_of_the_run(self, panel: Panel) -> None:
        parts = panel.send()
        (plot,) = views(parts, "PlotlyView")
        (table,) = plot["data"]
        assert table["x"] == table["y"] == ["train", "val", "test"]
        assert table["z"] == [[None, 1, 8], [1, None, 0], [8, 0, None]]
        assert table["text"] == [["", "1", "8"], ["1", "", "0"], ["8", "0", ""]]
        assert "18 of 18 images leak" in texts(parts).replace("*", "")
        labels = [button["label"] for button in views(parts, "Button")]
        assert [label for label in labels if " and " in label] == [
            "train and test: 8 pairs",
            "train and val: 1 pairs",
        ]

    def test_a_click_on_a_cell_shows_its_pairs_page_by_page(
        self, panel: Panel, planted: list[str]
    ) -> None:
        clicked = {"path": "leaks_plot_open_cell", "x": "test", "y": "train", "z": 8}
        parts = panel.send("act", **clicked)
        assert grid(panel) == {*planted[:8], *planted[9:17]}
        shown = pictures_of(parts)
        parts = panel.press("Next")
        shown += pictures_of(parts)
        assert "7 to 8 of 8 images of train" in texts(parts)
        path_of = dict(zip(*panel.dataset.values(["id", "filepath"]), strict=True))
        truth = {(path_of[a], path_of[b]) for a, b in zip(planted[:8], planted[9:17], strict=True)}
        assert len(shown) == 16
        assert set(zip(shown[::2], shown[1::2], strict=True)) == truth
        assert texts(parts).count("**train**, should go") == 2
        assert "**test**, should go" not in texts(parts)
        assert pictures_of(panel.press("Previous")) == shown[:12]

    def test_buttons_open_cells_too_and_empty_cells_open_nothing(
        self, panel: Panel, planted: list[str]
    ) -> None:
        parts = panel.press("train and val")
        assert grid(panel) == {planted[8], planted[17]}
        assert len(pictures_of(parts)) == 2
        for x, y in (("test", "val"), ("train", "train")):
            parts = panel.send("act", path="leaks_plot_open_cell", x=x, y=y)
            assert "set_view" not in panel.told
            assert len(pictures_of(parts)) == 2

    def test_tags_are_put_on_what_should_go_and_taken_away_again(
        self, panel: Panel, planted: list[str]
    ) -> None:
        panel.dataset.select(planted[17]).tag_samples("leak")
        for _ in range(2):
            panel.press("Tag what should go (9)")
            assert set(panel.dataset.match_tags("leak").values("id")) == {*planted[:9], planted[17]}
        panel.press("Remove the tag (9)")
        assert panel.dataset.match_tags("leak").values("id") == [planted[17]]
        panel.press("Show what should go")
        assert grid(panel) == set(planted[:9])
        panel.press("Show all that leaks")
        assert grid(panel) == set(planted)

    def test_images_in_two_splits_are_shown_until_a_tag_is_gone(
        self, panel: Panel, planted: list[str]
    ) -> None:
        panel.dataset.select(planted[9]).tag_samples("train")
        find_leaks(panel.dataset, similarity=SIMILARITY)
        assert "the tags of two splits: 1" in texts(panel.send())
        panel.press("Show these")
        assert grid(panel) == {planted[9]}
        panel.dataset.select(planted[9]).untag_samples("train")
        assert "the tags of two splits" not in texts(panel.send())

    def test_the_chosen_run_is_shown_and_after_its_end_the_latest(
        self, panel: Panel, planted: list[str]
    ) -> None:
        find_leaks(panel.dataset, splits=["train", "val"], similarity=SIMILARITY, key="few")
        assert "2 of 10 images leak" in texts(panel.send()).replace("*", "")
        panel.state["leaks_run"] = "leaks"
        assert "18 of 18 images leak" in texts(panel.send()).replace("*", "")
        panel.press("train and test")
        delete_run(panel.dataset, "leaks")
        parts = panel.send()
        assert "2 of 10 images leak" in texts(parts).replace("*", "")
        assert pictures_of(parts) == []

    def test_searching_again_asks_for_the_same_on_the_same_samples(
        self, panel: Panel, planted: list[str], second: fo.Dataset
    ) -> None:
        held = panel.dataset.select(planted[4:])
        asked = {"splits": ["train", "test"], "drop": "test", "other": second.name}
        find_leaks(held, similarity=SIMILARITY, band="0/0", key="again", **asked)
        panel.press("train and test")
        panel.press("Search again")
        params = panel.told["prompt_user_for_operation"]["params"]
        before = load_run(panel.dataset, "again")
        ctx = ask(panel.dataset, LEAKS, **params)
        assert form_errors(ctx, LEAKS) == {}
        ctx.params.update(params)
        foo.get_operator(LEAKS).execute(_from_python(ctx))
        after = load_run(panel.dataset, "again")
        assert (after.parameters, after.band) == (before.parameters, before.band)
        assert (after.counts, after.time != before.time) == (before.counts, True)

    def test_images_that_were_deleted_since_are_left_out(
        self, panel: Panel, planted: list[str]
    ) -> None:
        panel.press("train and val")
        panel.dataset.delete_samples([planted[17]])
        parts = panel.send()
        assert pictures_of(parts) == []
        assert "gone from the dataset" in texts(parts)
