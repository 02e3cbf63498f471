"""A web page of another origin posts to the App's server all that our operators and panel take.

FiftyOne's server checks no origin: the requests arrive and are answered, and must change nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone import ViewField as F
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext

from fiftyone_isoclip import (
    build_similarity,
    compare_with_clip,
    embed,
    find_clusters,
    find_duplicates,
    find_leaks,
    map_embeddings,
)
from fiftyone_isoclip.app import OPERATORS
from fiftyone_isoclip.app.panel.panel import TABS
from fiftyone_isoclip.app.plan_tokens import STALE
from fiftyone_isoclip.app.scheduled import list_scheduled
from fiftyone_isoclip.dataset import plan_file_removal, resolve_duplicates
from fiftyone_isoclip.dataset.plans import keep_plan, list_plans
from fiftyone_isoclip.install import PLUGIN_NAME, _plugin_files, install_plugin
from fiftyone_isoclip.installation import LOOPBACK, open_doors
from tests.foreign_page import Post, open_foreign_page
from tests.mongod import free_port
from tests.operators import add_pictures_with_copies

AT_ONCE, STREAMED = "/operators/execute", "/operators/execute/generator"
FORM = "/operators/resolve-type"
NAME = "in-danger"
FIELD = {"field": "clip_embedding"}

# In this order each changes something, if the App asks for it.
OPERATOR_HARM: dict[str, dict[str, Any]] = {
    "compute_embeddings": {**FIELD, "model": "isoclip-demo", "overwrite": True, "keep": "as_is",
                           "brain_key": "more"},
    "find_exact_duplicates": {"prefer": "largest", "key": "exact"},
    "find_near_duplicates": {**FIELD, "similarity": 0.5, "prefer": "largest", "key": "duplicates"},
    "find_leaks": {**FIELD, "similarity": 0.5, "splits_by": "tags", "tags": ["train", "test"],
                   "key": "leaks"},
    "cluster_images": {**FIELD, "method": "kmeans", "count": 3, "key": "clusters"},
    "guide_threshold": {**FIELD, "false_matches": 0.5, "pictures": 1, "key": "thresholds"},
    "compare_with_clip": {**FIELD, "k": 2, "key": "comparison"},
    "evaluate_retrieval": {**FIELD, "label_field": "label", "key": "evaluation"},
    "build_similarity_index": {**FIELD, "key": "search", "replace": True, "storage": "float16"},
    "fit_centre": {**FIELD, "overwrite": True},
    "map_embeddings": {**FIELD, "method": "pca", "key": "second_map"},
    "tune_band": {**FIELD, "copies": True, "key": "tuning"},
    "upgrade_embeddings": {"field": "theirs", "model": "isoclip-demo", "into": "new",
                           "check_images": False},
    "rerun": {"key": "clusters"},
    "rename_run": {"key": "leaks", "new_key": "gone"},
    "plan_file_removal": {"key": "duplicates", "near": True},
    "apply_file_removal": {"plan": None, "conflict": "keeper", "confirm": True},
    "undo_file_removal": {"plan": None, "confirm": True},
    "resolve_duplicates": {"key": "duplicates", "action": "remove", "confirm": True,
                           "conflict": "keeper"},
    "delete_run": {"key": "duplicates", "confirm": True},
}  # fmt: skip
OPERATOR_LOOKS: dict[str, dict[str, Any]] = {"review_duplicates": {"key": "duplicates"}}
PANEL_HARM: dict[tuple[str, str], dict[str, Any]] = {
    ("duplicates", "keep_this"): {"id": None},
    ("duplicates", "keep_apart"): {"id": None},
    ("duplicates", "judge_again"): {"number": None},
    ("duplicates", "keep_all"): {"number": None},
    ("duplicates", "forget"): {},
    ("duplicates", "restore"): {},
    ("leaks", "tag"): {},
    ("leaks", "untag"): {},
    ("clusters", "name"): {"panel_state": {"clusters_name": "mine"}},
    ("clusters", "name_by"): {"default": "label"},
    ("runs", "cancel"): {"run": "queued"},
    ("runs", "take_up"): {"run": "failed"},
    ("runs", "put_away"): {"run": "failed"},
}
"""Actions of the panel that change something, in this order."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Pictures with copies, and all that this package makes of them."""
    folder = tmp_path_factory.mktemp("pictures")
    dataset = fo.Dataset(NAME, persistent=True)
    add_pictures_with_copies(dataset, folder)
    embed(dataset, "isoclip-demo", progress=False)
    find_duplicates(dataset, similarity=0.98)
    resolve_duplicates(dataset, "duplicates", "remove", groups=[1])
    find_duplicates(dataset, similarity=0.9)
    find_leaks(dataset, splits=["train", "test"], similarity=0.9)
    find_clusters(dataset, count=2)
    compare_with_clip(dataset, k=3)
    build_similarity(dataset, brain_key="search")
    map_embeddings(dataset)
    keep_plan(dataset, plan_file_removal(dataset, "duplicates", near=True))
    queue = DelegatedOperationService()
    asked = ExecutionContext(request_params={"dataset_name": NAME, "params": FIELD})
    runs = [queue.queue_operation(f"{PLUGIN_NAME}/fit_centre", context=asked) for _ in range(2)]
    queue.set_failed(runs[0].id)
    yield dataset
    queue.delete_for_dataset(dataset._doc.id)
    dataset.delete()


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset) -> Iterator[str]:
    """The address of a real server of the App."""
    install_plugin()
    port = free_port()
    where = ["--address", LOOPBACK, "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "fiftyone.server.main", *where])
    address = f"http://{LOOPBACK}:{port}"
    for _ in range(600):
        time.sleep(0.1)
        with suppress(OSError):
            urllib.request.urlopen(f"{address}/fiftyone", timeout=60).close()
            break
    yield address
    server.kill()
    server.wait()


def operator_post(path: str, name: str, params: dict[str, Any], **more: Any) -> Post:
    uri = f"{PLUGIN_NAME}/{name}"
    return path, {"operator_uri": uri, "dataset_name": NAME, "params": params, **more}


def panel_post(tab: str, action: str, params: dict[str, Any]) -> Post:
    state = {"tab": tab, "dataset": NAME, **params.get("panel_state", {})}
    given = {**params, "panel_id": "p", "panel_state": state, "__method__": "act", "do": action}
    return operator_post(AT_ONCE, "isoclip", given)


def filled(dataset: fo.Dataset, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters about the first duplicate, and the latest plan, where none is given.

    A scheduled run is given by its state.
    """
    found = dataset.match(F("duplicates_role") == "duplicate").limit(1)
    known = {name: value for name, value in params.items() if value is not None}
    if "id" in params:
        known["id"] = found.values("id")[0]
    if "number" in params:
        known["number"] = found.values("duplicates_group")[0]
    if "run" in params:
        runs = list_scheduled(dataset)
        known["run"] = next(run.id for run in runs if run.state == params["run"])
    if "plan" in params:
        known["plan"] = list_plans(dataset)[0].id
    return known


def world() -> dict[str, Any]:
    """All of the database, and all files that this package has a hand in, by content."""
    database = fo.core.odm.get_db_conn()
    found: dict[str, Any] = {}
    for name in sorted(database.list_collection_names()):
        documents = list(database[name].find().sort("_id"))
        for document in documents:
            document.pop("last_loaded_at", None)  # that it was looked at
        if documents:
            found[name] = documents
    folders = [os.environ["FIFTYONE_ISOCLIP_DIR"], fo.config.plugins_dir]
    folders += {str(Path(path).parent) for path in fo.load_dataset(NAME).values("filepath")}
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*")):
        if path.is_file() and path.suffix not in (".lock", ".pyc"):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def ask(app: str, path: str, body: dict[str, Any]) -> str:
    """What the App's own page reads, which sends the same body."""
    request = urllib.request.Request(app + path, json.dumps(body).encode())
    request.add_header("Content-Type", "text/plain")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def form_token(app: str, name: str, params: dict[str, Any]) -> str:
    form = json.loads(ask(app, *operator_post(FORM, name, params, target="inputs")))
    return str(form["type"]["properties"]["token"]["default"])


def button_token(app: str, tab: str) -> str:
    """The secret of any button that the tab shows."""
    method = {"panel_id": "p", "panel_state": {"tab": tab}, "__method__": "on_load"}
    drawn = ask(app, *operator_post(AT_ONCE, "isoclip", method))
    found = {part.split('"')[0] for part in drawn.split('"token": "')[1:]}
    (token,) = found or {part.split('"')[0] for part in drawn.split('"token":"')[1:]}
    return token


def test_f16_every_operator_and_action_is_played() -> None:
    assert {*OPERATOR_HARM, *OPERATOR_LOOKS} == {each.name_ for each in OPERATORS}
    named = {(tab.name, action) for tab in TABS.values() for action in (*tab.actions, *tab.looks)}
    assert set(PANEL_HARM) <= named


def test_f16_a_foreign_page_changes_nothing(app: str, dataset: fo.Dataset) -> None:
    posts: list[Post] = []
    for name, wanted in (OPERATOR_HARM | OPERATOR_LOOKS).items():
        params = filled(dataset, wanted)
        posts.append(operator_post(STREAMED, name, params))
        posts.append(operator_post(AT_ONCE, name, {**params, "token": "guessed"}))
        posts.append(operator_post(AT_ONCE, name, params, delegated=True))
        posts.append(operator_post(AT_ONCE, name, params, request_delegation=True))
    for tab in TABS.values():
        for action in (*tab.actions, *tab.looks):
            params = PANEL_HARM.get((tab.name, action), {"key": "clusters", "at": 1, "to": 1})
            given = filled(dataset, params)
            posts.append(panel_post(tab.name, action, given))
    removed = operator_post(STREAMED, "delete_run", OPERATOR_HARM["delete_run"])
    ask(app, *operator_post(FORM, "delete_run", {}))  # the server has loaded what it needs
    before = world()
    with open_foreign_page(app) as page:
        statuses = page.post(posts)
        assert len(statuses) == len(posts) and set(statuses) <= {200, 500}
        assert page.submit(*removed) in (200, 500)
        # Nor can it read a secret, of a form or of the panel's buttons.
        assert page.read(*operator_post(FORM, "delete_run", {}, target="inputs")) is None
        load = {"panel_id": "p", "panel_state": {"tab": "runs"}, "__method__": "on_load"}
        assert page.read(*operator_post(AT_ONCE, "isoclip", load)) is None
        after = world()
        assert [name for name in before | after if before.get(name) != after.get(name)] == []
        # The way is open: what FiftyOne itself offers is done, whoever asks.
        theirs = {"name": "leaks", "new_name": "not_ours"}
        post = operator_post(AT_ONCE, "", theirs)
        post[1]["operator_uri"] = "@voxel51/operators/edit_saved_view_info"
        assert page.post([post]) == [200]
        assert world() != after
        fo.load_dataset(NAME).reload()
        ask(app, *_renamed_back())


def _renamed_back() -> Post:
    path, body = operator_post(AT_ONCE, "", {"name": "not_ours", "new_name": "leaks"})
    return path, {**body, "operator_uri": "@voxel51/operators/edit_saved_view_info"}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_f16_the_same_requests_with_the_secret_are_carried_out_once(
    app: str, dataset: fo.Dataset
) -> None:
    before = world()
    for (tab, action), params in PANEL_HARM.items():
        given = {**filled(dataset, params), "token": button_token(app, tab)}
        told = ask(app, *panel_post(tab, action, given))
        after = world()
        assert before != after, (action, told)
        before = after
    for name, wanted in OPERATOR_HARM.items():
        params = filled(dataset, wanted)
        asked = {**params, "token": form_token(app, name, params)}
        told = ask(app, *operator_post(STREAMED, name, asked))
        after = world()
        assert before != after, (name, told)
        again = ask(app, *operator_post(STREAMED, name, asked))
        # Some cannot be asked twice: the form's own checks refuse what is done.
        assert (STALE in again or "Validation error" in again) and world() == after, name
        before = after
    # After all of that, the plugins folder, which the App serves, holds code and nothing else.
    plugin = install_plugin()
    there = {path.relative_to(plugin).as_posix() for path in plugin.rglob("*") if path.is_file()}
    assert {name for name in there if "__pycache__" not in name} == set(_plugin_files())
    assert {path.name for path in Path(fo.config.plugins_dir).iterdir()} == {plugin.parent.name}


def test_f16_the_app_answers_this_machine_only(app: str) -> None:
    port = int(app.rsplit(":", 1)[1])
    socket.create_connection((LOOPBACK, port), timeout=5).close()
    shown = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    others = [address for address in shown.stdout.split() if open_doors(address)]
    if not others:
        pytest.skip("this machine has no other address")
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=5)
