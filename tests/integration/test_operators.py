"""The operators, through FiftyOne's own registry, forms and executors."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_isoclip import embed, find_duplicates, load_clip
from fiftyone_isoclip.app import OPERATORS, ComputeEmbeddings, FindNearDuplicates
from fiftyone_isoclip.app.panel import PANEL
from fiftyone_isoclip.app.steps import Step, finish, follow
from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin, plugin_status
from tests.pictures import draw_many, recompress

EMBED = f"{PLUGIN_NAME}/compute_embeddings"
DUPLICATES = f"{PLUGIN_NAME}/find_near_duplicates"
Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    # FiftyOne's own way to take it away is the documented one.
    fop.delete_plugin(PLUGIN_NAME)
    assert plugin_status(fo.config.plugins_dir).path is None


@pytest.fixture
def gallery(fill: Fill, pictures: Path) -> list[str]:
    """Six pictures, two of them with a recompressed copy; -> the ids in this order."""
    originals = draw_many(pictures, 6)
    copies = [recompress(originals[row], pictures / f"copy-{row}.jpg", 95) for row in (0, 3)]
    return fill([*originals, *copies])


def ask(dataset: fo.Dataset, uri: str, **params: Any) -> ExecutionContext:
    """What the App sends when a user presses Execute, filled with the form's defaults."""
    request = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    ctx = ExecutionContext(request_params=request, executor=Executor())
    form = foo.get_operator(uri).resolve_type(ctx, "inputs").type.properties
    defaults = {name: prop.default for name, prop in form.items() if prop.default is not None}
    ctx.request_params["params"] = defaults | params
    ctx.params.update(ctx.request_params["params"])
    return ctx


def messages(ctx: ExecutionContext, uri: str) -> list[tuple[str, dict[str, Any]]]:
    """Stream an operator as the App's server does; -> what it tells the App, in order."""
    list(foo.get_operator(uri).execute(ctx))
    return [(sent.operator_uri, sent.params or {}) for sent in ctx.executor._requests]


def form_errors(ctx: ExecutionContext, uri: str) -> dict[str, str]:
    form = foo.get_operator(uri).resolve_type(ctx, "inputs").type.properties
    return {name: prop.error_message for name, prop in form.items() if prop.invalid}


def own_embeddings(checkpoint: str, dataset: fo.Dataset) -> np.ndarray[Any, Any]:
    """The tower's output, image by image, without batches, loaders or a database."""
    clip = load_clip(checkpoint, device="cpu")
    paths = dataset.values("filepath")
    rows = [clip.image_embeddings(clip.preprocess(read_image(path))[None])[0] for path in paths]
    return np.stack(rows)


def test_fiftyone_lists_them_all_without_errors() -> None:
    registry = OperatorRegistry()
    assert registry.list_errors() == []
    listed = {o.uri for o in registry.list_operators() if PLUGIN_NAME in o.uri}
    names = {*(each.name_ for each in OPERATORS), PANEL}
    assert listed == {f"{PLUGIN_NAME}/{name}" for name in names}
    # One class and not two: the plugin's entry imports the package by its own name.
    assert isinstance(registry.get_operator(EMBED), ComputeEmbeddings)
    assert isinstance(registry.get_operator(DUPLICATES), FindNearDuplicates)


def test_a_copied_checkout_loads_as_a_plugin_where_the_package_is_not_installed(
    tmp_path: Path, repo_root: Path
) -> None:
    # `-I -S` would lose fiftyone too, so the package is hidden by running from elsewhere.
    code = f"""
import sys
sys.path[:] = [p for p in sys.path if p != {str(repo_root)!r}]
import importlib.util, types
if importlib.util.find_spec("fiftyone_isoclip"):
    print("installed"); raise SystemExit
spec = importlib.util.spec_from_file_location("fiftyone.plugins.orgs.x.y", {str(repo_root)!r}
    + "/fiftyone_isoclip/plugin.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
import fiftyone_isoclip
print("appended", sys.path[-1])
"""
    asked = [sys.executable, "-c", code]
    shown = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() in ("installed", f"appended {repo_root}")


def test_embedding_from_python_stores_the_towers_output_and_returns_the_report(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    result = foo.get_operator(EMBED)(dataset, model=checkpoint).result
    assert (result["computed"], result["kept"], result["n_failed"]) == (8, 0, 0)
    stored = np.stack(dataset.values("clip_embedding"))
    np.testing.assert_allclose(stored, own_embeddings(checkpoint, dataset), rtol=0, atol=1e-5)
    again = foo.get_operator(EMBED)(dataset, model=checkpoint).result
    assert (again["computed"], again["kept"]) == (0, 8)


def test_a_view_confines_the_work(dataset: fo.Dataset, gallery: list[str], checkpoint: str) -> None:
    foo.get_operator(EMBED)(dataset.select(gallery[:3]), model=checkpoint)
    assert [v is not None for v in dataset.values("clip_embedding")] == [True] * 3 + [False] * 5


def test_the_app_gets_progress_a_reload_a_notice_and_a_form_of_results(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, pictures: Path, fill: Fill
) -> None:
    (pictures / "broken.jpg").write_bytes(b"not an image")
    (bad,) = fill([str(pictures / "broken.jpg")])
    ctx = ask(dataset, EMBED, model=checkpoint, brain_key="isoclip_search")
    sent = messages(ctx, EMBED)
    shares = [p["progress"] for name, p in sent if name == "set_progress" and "progress" in p]
    assert shares == sorted(shares) and shares[-1] == 1
    names = [name for name, _ in sent if name != "set_progress"]
    assert names == ["reload_dataset", "notify", "show_output"]
    notice, output = dict(sent)["notify"], dict(sent)["show_output"]
    assert notice["variant"] == "warning" and "1 images failed" in notice["message"]
    assert output["results"]["computed"] == 8 and list(output["results"]["failed"]) == [bad]
    assert set(output["outputs"]["type"]["properties"]) >= {"computed", "reasons", "brain_key"}
    assert dataset.list_brain_runs() == ["isoclip_search"]


def test_duplicates_from_the_app_show_the_groups_that_python_finds(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    threshold = separating_similarity(dataset, checkpoint)
    sent = messages(ask(dataset, DUPLICATES, similarity=threshold, band="0/0"), DUPLICATES)
    result = dict(sent)["show_output"]["results"]
    assert (result["groups"], result["images"], result["duplicates"]) == (2, 4, 2)
    assert "2 groups of 4 images; 2 of them could go" in dict(sent)["notify"]["message"]
    shown = fo.DatasetView._build(dataset, dict(sent)["set_view"]["view"])
    groups = {frozenset(group.values("id")) for group in shown.iter_dynamic_groups()}
    assert groups == {frozenset((gallery[0], gallery[6])), frozenset((gallery[3], gallery[7]))}
    report = find_duplicates(dataset, similarity=threshold, band=parse("0/0"), key="direct")
    told = {frozenset([g.keeper, *(c.id for c in g.copies)]) for g in report.groups}
    assert told == groups


def test_the_groups_view_itself_can_be_the_target(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    threshold = separating_similarity(dataset, checkpoint)
    find_duplicates(dataset, similarity=threshold, band=parse("0/0"))
    view = dataset.load_saved_view("duplicates")
    asked = {"similarity": threshold, "band": "0/0", "key": "again"}
    result = foo.get_operator(DUPLICATES)(view, **asked).result
    assert (result["compared"], result["groups"]) == (4, 2)


def test_nothing_alike_leaves_the_grid_as_it_is(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    (sample,) = dataset[gallery[:1]]
    view = dataset.select([sample.id])
    result = foo.get_operator(DUPLICATES)(view).result
    assert (result["groups"], result["compared"]) == (0, 1)
    empty = messages(ask(dataset, DUPLICATES, similarity=1.0), DUPLICATES)
    assert "set_view" not in dict(empty)
    assert "No two of 8 images" in dict(empty)["notify"]["message"]


def test_a_mistake_is_a_sentence_in_the_app(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, other_checkpoint: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    sent = messages(ask(dataset, EMBED, model=other_checkpoint), EMBED)
    told = dict(sent)["notify"]
    assert told["variant"] == "error"
    assert "choose another field" in told["message"] and "Traceback" not in told["message"]
    assert dict(sent)["show_output"]["results"]["error"] == told["message"]


def test_a_fault_of_ours_is_told_too(
    dataset: fo.Dataset,
    gallery: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("fiftyone_isoclip.dataset.load_model", fail)
    told = dict(messages(ask(dataset, EMBED), EMBED))["notify"]["message"]
    number = re.fullmatch(r"MemoryError: look for error (\w+) in .*", told)
    assert number and f"error {number[1]}" in caplog.text and "no room" in caplog.text


@pytest.mark.parametrize(
    ("uri", "wrong", "sentence"),
    [
        (EMBED, {"model": "no-such-model"}, "no checkpoint is called"),
        (EMBED, {"field": "Not A Field"}, "lower-case letters"),
        (EMBED, {"brain_key": "2nd"}, "lower-case letters"),
        (DUPLICATES, {"band": "many"}, "many"),
        (DUPLICATES, {"key": "filepath!"}, "lower-case letters"),
    ],
)
def test_forms_answer_mistakes_while_they_are_filled(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str, uri: str, wrong: Any, sentence: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    ctx = ask(dataset, uri, **wrong)
    assert list(form_errors(ctx, uri)) == list(wrong)
    assert sentence in form_errors(ctx, uri)[next(iter(wrong))]
    with pytest.raises(ExecutionError, match="Validation error"):
        foo.execute_operator(uri, dataset=dataset, params=ctx.params)


def test_the_form_says_what_is_missing_or_cannot_be(dataset: fo.Dataset, fill: Fill) -> None:
    fill(["/nowhere/a.jpg"])
    assert (
        "Compute embeddings first" in form_errors(ask(dataset, DUPLICATES), DUPLICATES)["refusal"]
    )
    videos = fo.Dataset()
    videos.add_sample(fo.Sample(filepath="/nowhere/a.mp4"))
    try:
        for uri in (EMBED, DUPLICATES):
            assert "media type 'video'" in form_errors(ask(videos, uri), uri)["refusal"]
    finally:
        videos.delete()


def test_an_empty_dataset_is_no_error(dataset: fo.Dataset, checkpoint: str) -> None:
    result = foo.get_operator(EMBED)(dataset, model=checkpoint).result
    assert result["computed"] == 0
    assert foo.get_operator(DUPLICATES)(dataset).result["groups"] == 0


def test_the_threshold_and_the_key_have_one_default(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    embed(dataset, checkpoint, progress=False)
    asked = ask(dataset, DUPLICATES).params
    parameters = inspect.signature(find_duplicates).parameters
    for name in ("field", "similarity", "prefer", "key"):
        assert asked[name] == parameters[name].default


def test_a_delegated_run_reports_progress_and_keeps_its_result(
    dataset: fo.Dataset, gallery: list[str], checkpoint: str
) -> None:
    from fiftyone.operators.delegated import DelegatedOperationService

    queued = foo.get_operator(EMBED)(dataset, model=checkpoint, delegate=True)
    assert queued.delegated and not dataset.has_field("clip_embedding")
    service = DelegatedOperationService()
    (operation,) = service.list_operations(dataset_name=dataset.name)
    service.execute_operation(operation)
    done = service.list_operations(dataset_name=dataset.name)[0]
    assert (done.run_state, done.result.result["computed"]) == ("completed", 8)
    assert done.status.progress == 1
    assert "computed" in done.metadata["outputs_schema"]["type"]["properties"]


def test_work_ends_soon_after_its_reader_left() -> None:
    reached: list[int] = []

    def work(tell: Callable[[int, int | None], None]) -> None:
        for done in range(1000):
            reached.append(done)
            tell(done, 1000)
            if done == 2:
                left.wait(10)

    import threading

    left = threading.Event()
    steps = follow("Counting", work)
    assert next(steps) == Step("Counting: 0 of 1000", 0)
    threading.Timer(0.2, left.set).start()
    steps.close()
    assert max(reached) <= 3


def test_steps_return_results_and_raise_what_the_work_raises() -> None:
    assert finish(follow("Nothing", lambda tell: 7), list.append.__call__) == 7

    def fail(tell: Callable[[int, int | None], None]) -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        finish(follow("Failing", fail), print)


def parse(band: str) -> Any:
    from fiftyone_isoclip import Band

    return Band.parse(band)


def separating_similarity(dataset: fo.Dataset, checkpoint: str) -> float:
    """A threshold between the planted pairs and all others, from the tower's own output."""
    vectors = own_embeddings(checkpoint, dataset)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    planted = [cosines[0, 6], cosines[3, 7]]
    others = [cosines[i, j] for i in range(8) for j in range(i) if (j, i) not in ((0, 6), (3, 7))]
    assert min(planted) > max(others), "the pictures must be told apart by this model"
    return float((min(planted) + max(others)) / 2)
