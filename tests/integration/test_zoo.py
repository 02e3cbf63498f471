from __future__ import annotations

import json
import subprocess
import sys

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import pytest

from fiftyone_isoclip.dataset.zoo import GENERAL_NAME, MANIFEST, manifest, register
from fiftyone_isoclip.encoder import list_checkpoints
from fiftyone_isoclip.errors import CheckpointError


def test_the_manifest_is_what_the_checkpoints_table_says() -> None:
    assert json.loads(MANIFEST.read_text()) == manifest(), (
        "run `python -m fiftyone_isoclip.dataset.zoo > fiftyone_isoclip/dataset/manifest.json`"
    )


def test_every_checkpoint_is_a_zoo_name_that_embeds() -> None:
    register()
    names = {checkpoint.name for checkpoint in list_checkpoints()}
    assert names | {GENERAL_NAME} <= set(foz.list_zoo_models(tags="embeddings"))


def test_registering_twice_changes_nothing() -> None:
    register()
    paths = list(fo.config.model_zoo_manifest_paths)
    backend = dict(fob.brain_config.similarity_backends["faiss"])

    register()

    assert fo.config.model_zoo_manifest_paths == paths
    assert paths.count(str(MANIFEST)) == 1
    assert fob.brain_config.similarity_backends["faiss"] == backend


def test_a_users_own_setting_of_the_backend_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"faiss": {"config_cls": "theirs.SimilarityConfig"}}
    monkeypatch.setattr(fob.brain_config, "similarity_backends", theirs)

    register()

    assert theirs == {"faiss": {"config_cls": "theirs.SimilarityConfig"}}


def test_a_cached_manifest_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fo.config, "model_zoo_manifest_cache_enabled", True)
    monkeypatch.setattr(fo.config, "model_zoo_manifest_paths", None)
    assert GENERAL_NAME not in foz.list_zoo_models()

    register()

    assert GENERAL_NAME in foz.list_zoo_models()


def test_the_general_name_asks_for_a_checkpoint() -> None:
    register()
    with pytest.raises(CheckpointError, match="without a checkpoint"):
        foz.load_zoo_model(GENERAL_NAME)


def test_registering_waits_for_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys, fiftyone_isoclip.dataset as d; before = set(sys.modules); d.register();"
        "print(sorted({'torch', 'open_clip'} & (set(sys.modules) - before)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip().splitlines()[-1] == "[]"
