"""One throw-away world a test run: its own database, plugins, models and port.

The environment is set while this file is loaded, because `import fiftyone` reads it once. The run
starts its own mongod instead of leaving that to FiftyOne: FiftyOne attaches to any mongod that this
user's other FiftyOne processes started, whatever folder was asked for, so two runs would share one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fiftyone_isoclip.installation import bundled_mongod, mongod_version
from tests.mongod import Mongod, free_port
from tests.seeds import SEED

if TYPE_CHECKING:
    import fiftyone as fo

REPO_ROOT = Path(__file__).resolve().parent.parent
TIERS = ("unit", "property", "reference", "integration", "faults", "e2e")
SERVED = ("integration", "e2e")


def _isolate() -> None:
    """Point everything FiftyOne and this package write at one temporary folder."""
    world = Path(tempfile.mkdtemp(prefix="isoclip-tests-"))
    atexit.register(shutil.rmtree, world, ignore_errors=True)
    places = {
        "FIFTYONE_DATABASE_DIR": world / "database",
        "FIFTYONE_PLUGINS_DIR": world / "plugins",
        "FIFTYONE_CONFIG_PATH": world / "config.json",
        "FIFTYONE_APP_CONFIG_PATH": world / "app_config.json",
        "FIFTYONE_BRAIN_CONFIG_PATH": world / "brain_config.json",
        "FIFTYONE_MODEL_ZOO_DIR": world / "models",
        "FIFTYONE_DATASET_ZOO_DIR": world / "datasets",
        "FIFTYONE_DEFAULT_DATASET_DIR": world / "datasets",
        "FIFTYONE_ISOCLIP_DIR": world / "isoclip",
    }
    os.environ.update({name: str(place) for name, place in places.items()})
    os.environ["FIFTYONE_DATABASE_NAME"] = f"isoclip-tests-{uuid.uuid4().hex[:12]}"
    os.environ["FIFTYONE_DEFAULT_APP_PORT"] = str(free_port())
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    os.environ["FIFTYONE_SHOW_PROGRESS_BARS"] = "0"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    binary = bundled_mongod()
    if "FIFTYONE_DATABASE_URI" not in os.environ and mongod_version(binary):
        mongod = Mongod(binary, world / "database")
        # Registered before FiftyOne registers its own farewell, hence runs after it.
        atexit.register(mongod.remove)
        mongod.start()
        os.environ["FIFTYONE_DATABASE_URI"] = mongod.uri


_isolate()


def pytest_report_header() -> str:
    """Tell how the draws of the fault tests are repeated."""
    return f"faults: FAULTS_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the tier whose folder it lies in, and run the quick tiers first.

    The browser comes last for a second reason: Playwright leaves an event loop running, and
    FiftyOne answers an operator with a task instead of its result where there is one.
    """
    for item in items:
        if _tier(item) in SERVED:
            item.add_marker(_tier(item))
    items.sort(key=lambda item: TIERS.index(_tier(item)))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(REPO_ROOT / "tests").parts[0]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Example data that lies beside a developer's checkout; not part of the repository."""
    folder = REPO_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the example data beside the checkout (../shared/data) is not here")
    return folder


@pytest.fixture
def dataset() -> Iterator[fo.Dataset]:
    """An empty, real dataset, deleted afterwards."""
    import fiftyone as fo

    made = fo.Dataset(f"test-{uuid.uuid4().hex}")
    yield made
    if not made.deleted:
        made.delete()
