"""Files taken away and brought back through FiftyOne's own registry, forms and executors."""

from __future__ import annotations

import shutil
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor

from fiftyone_isoclip.dataset import find_exact_duplicates
from fiftyone_isoclip.dataset.plans import list_plans, plan_path
from fiftyone_isoclip.files import purge_plan, read_plan
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.pictures import draw_many
from tests.removals import look

PLAN, APPLY, UNDO = (f"{PLUGIN_NAME}/{name}_file_removal" for name in ("plan", "apply", "undo"))


@pytest.fixture(scope="module", autouse=True)
def _plugin():
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


@pytest.fixture
def copied(dataset, pictures):
    """Two pictures with a byte-identical copy each, found."""
    paths = draw_many(pictures, 2)
    copies = [shutil.copy(path, f"{path[:-4]}-again.png") for path in paths]
    dataset.add_samples([fo.Sample(filepath=path) for path in paths + copies], progress=False)
    find_exact_duplicates(dataset)
    return dataset


def form(dataset, uri, **params):
    request = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    return dict(foo.get_operator(uri).resolve_type(ctx, "inputs").type.properties)


def plan(dataset):
    return foo.get_operator(PLAN)(dataset, key="exact_duplicates").result


def files_of(dataset):
    return sorted(Path(path).name for path in dataset.values("filepath"))


def test_a_plan_is_made_carried_out_and_undone(copied, pictures):
    before, names = look(pictures), files_of(copied)
    made = plan(copied)
    assert (made["n_files"], made["n_near"], made["left"]) == (2, 0, 0)
    assert look(pictures) == before
    shown = form(copied, APPLY)
    assert str(pictures / "000-again.png") in shown["files"].default
    result = foo.get_operator(APPLY)(copied, made["plan"], confirm=True).result
    assert (result["n_files"], result["left"]) == (2, 0)
    assert files_of(copied) == ["000.png", "001.png"]
    assert sorted(p.name for p in pictures.iterdir() if p.is_file()) == files_of(copied)
    assert "refusal" in form(copied, APPLY)  # nothing of it is left to take away
    result = foo.get_operator(UNDO)(copied, made["plan"], confirm=True).result
    assert result["n_files"] == 2
    assert (look(pictures), files_of(copied)) == (before, names)
    assert "refusal" in form(copied, UNDO)


def test_nothing_is_moved_or_brought_back_unless_it_is_confirmed(copied, pictures):
    before = look(pictures)
    made = plan(copied)
    assert form(copied, APPLY)["confirm"].invalid
    with pytest.raises(ExecutionError, match="if you mean it"):
        foo.get_operator(APPLY)(copied, made["plan"])
    assert look(pictures) == before
    foo.get_operator(APPLY)(copied, made["plan"], confirm=True)
    taken = look(pictures)
    with pytest.raises(ExecutionError, match="if you mean it"):
        foo.get_operator(UNDO)(copied, made["plan"])
    assert look(pictures) == taken


@pytest.mark.parametrize("asked", ["0" * 32, "../../plan", "", "/etc/passwd"])
def test_f16_only_plans_that_are_kept_of_the_dataset_are_carried_out(copied, pictures, asked):
    plan(copied)
    before = look(pictures)
    with pytest.raises(ExecutionError, match=r"has no plan|Required"):
        foo.get_operator(APPLY)(copied, asked, confirm=True)
    assert look(pictures) == before


def test_a_new_plan_makes_room_for_itself_but_not_for_one_that_took_something(copied):
    first = plan(copied)["plan"]
    second = plan(copied)["plan"]
    assert [kept.id for kept in list_plans(copied)] == [second]
    foo.get_operator(APPLY)(copied, second, confirm=True)
    find_exact_duplicates(copied)
    assert plan(copied)["file"] is None  # there is nothing more to take away
    assert [kept.id for kept in list_plans(copied)] == [second]
    assert first != second


def test_the_plan_that_the_app_names_is_one_that_the_command_line_can_purge(copied, pictures):
    made = plan(copied)
    result = foo.get_operator(APPLY)(copied, made["plan"], confirm=True).result
    assert result["file"] == made["file"] == str(plan_path(copied, made["plan"]))
    assert len(purge_plan(read_plan(result["file"])).purged) == 2
    assert sorted(path.name for path in pictures.iterdir()) == ["000.png", "001.png"]


def test_without_a_run_and_without_a_plan_the_forms_say_what_to_do(dataset, fill, pictures):
    fill(draw_many(pictures, 1))
    assert "Find near-duplicates" in form(dataset, PLAN)["refusal"].error_message
    for uri in (APPLY, UNDO):
        assert "Plan the removal" in form(dataset, uri)["refusal"].error_message
