"""Only what the App's own page read carries the secret with which operators and buttons work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip.app import plan_tokens
from fiftyone_isoclip.app.plan_tokens import (
    LIFE,
    STALE,
    is_good,
    mint_token,
    panel_token,
    redeem_token,
)
from fiftyone_isoclip.dataset import find_exact_duplicates, list_runs
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.panels import Panel
from tests.pictures import draw

DELETE = f"{PLUGIN_NAME}/delete_run"
Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def run(dataset: fo.Dataset, fill: Fill, pictures: Path) -> str:
    """A run to be deleted; -> its key."""
    install_plugin(fo.config.plugins_dir)
    fill([draw(pictures / f"{name}.png", 1) for name in "ab"])
    return find_exact_duplicates(dataset).key


def context(dataset: fo.Dataset, params: dict[str, Any], **more: Any) -> ExecutionContext:
    request = {"dataset_name": dataset.name, "operator_uri": DELETE, "params": params, **more}
    return ExecutionContext(request_params=request, executor=Executor())


def form_token(dataset: fo.Dataset, **params: Any) -> str:
    drawn = foo.get_operator(DELETE).resolve_type(context(dataset, params), "inputs")
    return str(drawn.type.properties["token"].default)


def told(dataset: fo.Dataset, params: dict[str, Any], **more: Any) -> str:
    ctx = context(dataset, params, **more)
    list(foo.get_operator(DELETE).execute(ctx))
    return str([sent.params for sent in ctx.executor._requests])


def test_f16_a_token_is_good_once_also_for_many_at_a_time() -> None:
    token = mint_token("this")

    def redeem(_: int) -> bool:
        try:
            redeem_token(token, "this")
        except IsoClipError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(redeem, range(200))) == 1
    assert not is_good(token, "this")


def test_f16_no_other_token_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    token = mint_token("this")
    body, _, seal = token.rpartition(".")
    nonce, _, end = body.rpartition(".")
    assert len(nonce) >= 22 and mint_token("this").split(".")[0] != nonce  # 22 x 6 bits
    longer = f"{nonce}.{int(end) + 1}.{seal}"
    strange = [None, "", ".", "..", "\ud800", 7, [token], {"token": token}, f"{body}.", longer]
    for forged in (*strange, token + "0", token.upper(), f"x{token}", panel_token()):
        with pytest.raises(IsoClipError, match="open it again"):
            redeem_token(forged, "this")
    with pytest.raises(IsoClipError, match="open it again"):
        redeem_token(token, "that")
    monkeypatch.setattr(plan_tokens, "_KEY", b"of a server that was started anew")
    assert not is_good(token, "this")
    monkeypatch.undo()
    now = plan_tokens.time.monotonic()
    monkeypatch.setattr(plan_tokens.time, "monotonic", lambda: now + LIFE + 1)
    assert not is_good(token, "this")
    monkeypatch.undo()
    redeem_token(token, "this")


def test_f16_a_form_keeps_its_token_while_it_is_filled(dataset: fo.Dataset, run: str) -> None:
    token = form_token(dataset)
    assert form_token(dataset, token=token, confirm=True) == token
    assert form_token(dataset, token="guessed") not in ("guessed", token)


def test_f16_a_token_is_for_one_operator_on_one_dataset(dataset: fo.Dataset, run: str) -> None:
    asked = {"key": run, "confirm": True}
    other = fo.Dataset()
    other.add_samples([fo.Sample(filepath=path) for path in dataset.values("filepath")])
    find_exact_duplicates(other, key=run)
    rename = foo.get_operator(f"{PLUGIN_NAME}/rename_run")
    elsewhere = rename.resolve_type(context(dataset, {}), "inputs").type.properties["token"].default
    for token in (form_token(other), elsewhere):
        assert STALE in told(dataset, {**asked, "token": token})
    other.delete()
    # Its name may change while a form is open.
    token = form_token(dataset)
    dataset.name = f"{dataset.name}-renamed"
    assert STALE not in told(dataset, {**asked, "token": token})
    assert list_runs(dataset) == []


@pytest.mark.parametrize("claim", [{}, {"delegated": True}, {"run_doc": "x", "delegated": True}])
def test_f16_no_claim_replaces_the_token(dataset: fo.Dataset, run: str, claim: Any) -> None:
    assert STALE in told(dataset, {"key": run, "confirm": True}, **claim)
    assert [each.key for each in list_runs(dataset)] == [run]


async def _queue(dataset: fo.Dataset, params: dict[str, Any]) -> Any:
    from fiftyone.operators.executor import execute_or_delegate_operator

    request = {"dataset_name": dataset.name, "operator_uri": DELETE, "params": params}
    return await execute_or_delegate_operator(DELETE, {**request, "request_delegation": True})


def test_f16_a_delegated_run_is_queued_with_a_token_only(dataset: fo.Dataset, run: str) -> None:
    import asyncio

    asked = {"key": run, "confirm": True}
    service = DelegatedOperationService()
    refused = asyncio.run(_queue(dataset, dict(asked)))
    assert refused.error_message == STALE
    assert service.list_operations(dataset_name=dataset.name) == []
    token = form_token(dataset)
    asyncio.run(_queue(dataset, {**asked, "token": token}))
    (operation,) = service.list_operations(dataset_name=dataset.name)
    assert token not in str(operation.__dict__) + str(operation.context.serialize())
    assert asyncio.run(_queue(dataset, {**asked, "token": token})).error_message == STALE
    # Its worker is another process, maybe days later.
    service.execute_operation(operation)
    assert list_runs(dataset) == []


def test_f16_python_needs_no_token(dataset: fo.Dataset, run: str) -> None:
    foo.get_operator(DELETE)(dataset, run, confirm=True)
    assert list_runs(dataset) == []


def test_f16_a_button_of_an_earlier_server_says_to_press_again(
    dataset: fo.Dataset, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = Panel(dataset, "duplicates")
    ids = dataset.values("id")
    before = dict(zip(ids, dataset.values(f"{run}_role"), strict=True))
    panel.send("act", do="keep_all", number=1)
    assert "press it again" in panel.told["notify"]["message"]
    assert not dataset.has_field("not_duplicates")
    pressed = panel.do("keep_all", number=1)
    monkeypatch.setattr(plan_tokens, "_KEY", b"of a server that was started anew")
    buttons = [part["view"] for part in pressed if (part["view"] or {}).get("name") == "Button"]
    panel.send("act", **buttons[0]["params"])
    assert "press it again" in panel.told["notify"]["message"]
    assert set(before) == set(dataset.values("id"))
    panel.press("Show all groups")
    assert "set_view" in panel.told


def test_f16_a_browser_calls_the_events_of_the_panel_only(dataset: fo.Dataset, run: str) -> None:
    panel = Panel(dataset, "duplicates")
    for method in ("execute", "render", "resolve_input", "method_to_uri", "__init__", "dispose"):
        request = {"panel_id": "p", "panel_state": {}, "__method__": method}
        ctx = ExecutionContext({"dataset_name": dataset.name, "params": request}, Executor())
        assert panel._panel.execute(ctx) is None
        assert ctx.executor._requests == []
