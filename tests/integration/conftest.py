"""What tests on real datasets need: a checkpoint file and a way to fill a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import fiftyone as fo
import pytest
import torch

from fiftyone_isoclip.dataset.places import MODELS_DIR
from tests.checkpoints import write_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small checkpoint, which the App may be asked for as well."""
    os.environ[MODELS_DIR] = str(tmp_path_factory.getbasetemp())
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another checkpoint of the same architecture and dim."""
    return write_checkpoint(tmp_path_factory.mktemp("other-checkpoint"), seed=1)


@pytest.fixture
def fill(dataset: fo.Dataset) -> Callable[[Sequence[str]], list[str]]:
    """Add image files to the dataset; -> the sample ids."""

    def add(paths: Sequence[str]) -> list[str]:
        return dataset.add_samples([fo.Sample(filepath=str(p)) for p in paths], progress=False)

    return add


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder for this test's pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder
