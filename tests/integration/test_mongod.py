"""The test run's database: FiftyOne's own binary, a folder of its own, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import pymongo
import pytest

from fiftyone_isoclip.installation import bundled_mongod, mongod_version
from tests.mongod import Mongod


def test_a_dataset_keeps_what_is_written(dataset: fo.Dataset) -> None:
    dataset.add_sample(fo.Sample(filepath="/nowhere/one.jpg", clip_embedding=[0.25, -1.0]))

    assert fo.load_dataset(dataset.name).first().clip_embedding == [0.25, -1.0]


def test_the_run_has_a_world_of_its_own() -> None:
    places = (fo.config.database_dir, fo.config.plugins_dir, fo.config.model_zoo_dir)
    assert all("isoclip-tests-" in place for place in places)
    assert fo.config.database_name.startswith("isoclip-tests-")
    assert fo.config.do_not_track


@pytest.fixture
def mongod(tmp_path: Path) -> Mongod:
    binary = bundled_mongod()
    assert mongod_version(binary), "run scripts/ensure_mongod.py"
    return Mongod(binary, tmp_path / "database")


def test_a_stopped_mongod_keeps_its_data_and_leaves_no_process(mongod: Mongod) -> None:
    for expected in (1, 2):
        mongod.start()
        assert mongod.process is not None
        pid = mongod.process.pid
        with pymongo.MongoClient(mongod.uri) as client:
            client["numbers"]["kept"].insert_one({"n": expected})
            assert client["numbers"]["kept"].count_documents({}) == expected
        mongod.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    mongod.remove()
    assert not mongod.folder.exists()


def test_fiftyone_starts_the_binary_itself(tmp_path: Path) -> None:
    code = (
        "import fiftyone as fo; d = fo.Dataset('alone');"
        "d.add_sample(fo.Sample(filepath='/nowhere/one.jpg')); print('samples:', len(d))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FIFTYONE_")}
    environment |= {"FIFTYONE_DATABASE_DIR": str(tmp_path), "FIFTYONE_DO_NOT_TRACK": "1"}
    environment |= {"FIFTYONE_CONFIG_PATH": str(tmp_path / "config.json")}

    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )

    assert "samples: 1" in shown.stdout, shown.stderr
