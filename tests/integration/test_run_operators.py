"""Deleting, renaming and updating runs through FiftyOne's own registry, forms and executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor

from fiftyone_isoclip.app.panel.runs import RunsTab
from fiftyone_isoclip.dataset import (
    build_similarity,
    embed,
    find_clusters,
    find_duplicates,
    list_runs,
    load_run,
    map_embeddings,
    speeds,
)
from fiftyone_isoclip.dataset.staleness import find_staleness
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.pictures import draw_many, recompress

DELETE, RENAME, RERUN, EMBED = (
    f"{PLUGIN_NAME}/{name}" for name in ("delete_run", "rename_run", "rerun", "compute_embeddings")
)
Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def schema(dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str) -> list[str]:
    """Six pictures with two runs, an index and a map; -> the fields from before the runs."""
    fill(draw_many(pictures, 6))
    embed(dataset, checkpoint, progress=False)
    before = list(dataset.get_field_schema())
    find_duplicates(dataset)
    find_clusters(dataset, count=2, key="looks")
    return before


def context(dataset: fo.Dataset, uri: str, view: Any = None, **params: Any) -> ExecutionContext:
    request = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    if view is not None:
        request["view"] = view._serialize()
    return ExecutionContext(request_params=request, executor=Executor())


def form(dataset: fo.Dataset, uri: str, **params: Any) -> dict[str, Any]:
    asked = context(dataset, uri, **params)
    return dict(foo.get_operator(uri).resolve_type(asked, "inputs").type.properties)


def told(dataset: fo.Dataset, uri: str, view: Any = None, **params: Any) -> list[str]:
    """Stream an operator as the App's server does; -> what it makes the App do, in order."""
    token = form(dataset, uri, **params)["token"].default
    ctx = context(dataset, uri, view, token=token, **params)
    list(foo.get_operator(uri).execute(ctx))
    names = [sent.operator_uri for sent in ctx.executor._requests]
    return [name for name in names if name != "set_progress"]


def test_a_deleted_run_leaves_what_was_there_before_it(
    dataset: fo.Dataset, schema: list[str]
) -> None:
    result = foo.get_operator(DELETE)(dataset, "looks", confirm=True).result
    assert result["fields"] == ["looks", "looks_medoid", "looks_similarity"]
    assert [run.key for run in list_runs(dataset)] == ["duplicates"]
    foo.get_operator(DELETE)(dataset, "duplicates", confirm=True)
    dataset.reload()
    assert list(dataset.get_field_schema()) == schema
    assert dataset.list_saved_views() == []


def test_nothing_is_deleted_that_was_not_confirmed(dataset: fo.Dataset, schema: list[str]) -> None:
    assert form(dataset, DELETE, key="looks")["confirm"].invalid
    assert not form(dataset, DELETE, key="looks", confirm=True)["confirm"].invalid
    for key in ("looks", "duplicates"):
        with pytest.raises(ExecutionError, match="confirm"):
            foo.get_operator(DELETE)(dataset, key)
    assert form(dataset, DELETE, key="nothing", confirm=True)["key"].invalid
    assert len(list_runs(dataset)) == 2


def test_the_form_names_what_goes(dataset: fo.Dataset, schema: list[str]) -> None:
    said = form(dataset, DELETE, key="looks")["writes"].view.label
    for name in load_run(dataset, "looks").fields:
        assert name in said
    assert set(form(dataset, DELETE)["key"].type.values) == {"looks", "duplicates"}
    first = form(dataset, DELETE)["key"].view.choices[0]
    assert first.label.startswith("looks: clusters, ") and first.label.endswith(", 2 clusters")


def test_indexes_and_maps_are_deleted_and_only_ours(
    dataset: fo.Dataset, schema: list[str], checkpoint: str
) -> None:
    import fiftyone.brain as fob

    build_similarity(dataset, checkpoint, brain_key="isoclip_search")
    map_embeddings(dataset)
    fob.compute_similarity(dataset, embeddings="clip_embedding", brain_key="theirs")
    offered = set(form(dataset, DELETE)["key"].type.values)
    assert offered == {"looks", "duplicates", "isoclip_search", "isoclip_map"}
    kinds = [
        foo.get_operator(DELETE)(dataset, key, confirm=True).result["kind"]
        for key in ("isoclip_search", "isoclip_map")
    ]
    assert kinds == ["index", "map"]
    dataset.reload()
    assert dataset.list_brain_runs() == ["theirs"]
    with pytest.raises(ExecutionError):
        foo.get_operator(DELETE)(dataset, "theirs", confirm=True)


def test_the_grid_leaves_a_view_whose_fields_go(dataset: fo.Dataset, schema: list[str]) -> None:
    grouped, other = dataset.load_saved_view("looks"), dataset.limit(3)
    gone = ["clear_view", "reload_dataset", "notify", "show_output"]
    assert told(dataset, RENAME, grouped, key="looks", new_key="styles") == gone
    grouped = dataset.load_saved_view("styles")
    assert told(dataset, DELETE, other, key="duplicates", confirm=True) == gone[1:]
    assert told(dataset, DELETE, grouped, key="styles", confirm=True) == gone


def test_a_renamed_run_keeps_its_values_and_its_view(
    dataset: fo.Dataset, schema: list[str]
) -> None:
    values, shown = dataset.values("looks"), dataset.load_saved_view("looks").values("id")
    result = foo.get_operator(RENAME)(dataset, "looks", "styles").result
    assert result["fields"] == ["styles", "styles_medoid", "styles_similarity"]
    dataset.reload()
    assert dataset.values("styles") == values and not dataset.has_field("looks")
    assert dataset.load_saved_view("styles").values("id") == shown
    assert not find_staleness(dataset, load_run(dataset, "styles"))
    for bad in ("duplicates", "Two words"):
        assert form(dataset, RENAME, key="styles", new_key=bad)["new_key"].invalid


def test_updating_finds_a_copy_that_came_later(
    dataset: fo.Dataset, schema: list[str], fill: Fill, pictures: Path
) -> None:
    first = dataset.first()
    (copy,) = fill([recompress(first.filepath, pictures / "copy.jpg", 95)])
    assert "1 image added" in form(dataset, RERUN, key="duplicates")["found"].view.label
    result = foo.get_operator(RERUN)(dataset, "duplicates").result
    assert (result["computed"], result["counts"]["compared"]) == (1, 7)
    dataset.reload()
    groups = dict(zip(*dataset.values(["id", "duplicates_group"]), strict=True))
    assert groups[copy] == groups[first.id] is not None
    assert told(dataset, RERUN, key="looks")[:2] == ["reload_dataset", "notify"]
    assert not any(find_staleness(dataset, run) for run in list_runs(dataset))


def test_without_runs_the_forms_say_what_to_do(dataset: fo.Dataset, fill: Fill) -> None:
    for uri in (DELETE, RENAME, RERUN):
        assert "find duplicates" in form(dataset, uri)["refusal"].error_message


def test_what_embedding_costs_is_told_before(
    dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str, other_checkpoint: str
) -> None:
    def cost(**params: Any) -> str:
        return str(form(dataset, EMBED, model=checkpoint, **params)["cost"].view.label)

    (speeds.side_folder() / "speeds.json").unlink(missing_ok=True)
    ids = fill(draw_many(pictures, 40))
    assert "40 of 40 images" in cost() and "once 32 or more" in cost()
    embed(dataset.select(ids[:35]), checkpoint, progress=False)
    assert "5 of 40 images" in cost() and "images a second" in cost()
    assert "All 40 images" in cost(overwrite=True)
    assert "40 of 40 images" in cost(field="another")
    refused = form(dataset, EMBED, model=other_checkpoint)["cost"].view.label
    assert "other weights are refused" in refused
    kept = form(dataset, EMBED, model=checkpoint, keep="in_files", brain_key="search")
    assert kept["brain_key"].invalid


def test_vectors_can_be_kept_in_files_alone(
    dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str
) -> None:
    fill(draw_many(pictures, 3))
    foo.get_operator(EMBED)(dataset, model=checkpoint, keep="in_files", batch_size=2)
    dataset.reload()
    assert dataset.count("clip_embedding") == 0
    assert find_duplicates(dataset).n_compared == 3


def test_a_browser_reaches_only_the_tabs_actions() -> None:
    assert set(RunsTab.actions) == {
        "bring_up_to_date", "show", "show_failed", "embed", "rename", "delete",
        "result", "cancel", "take_up", "put_away",
    }  # fmt: skip
