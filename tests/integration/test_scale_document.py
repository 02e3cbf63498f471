"""Every command and every Python block of docs/scale.md runs as it stands there, on one machine."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pyarrow.parquet as pq
import pytest
from sybil import Document, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from tests.console import run_commands
from tests.pictures import render_photos
from tests.ray_runs import quiet_ray
from tests.stores import bytes_of

pytest.importorskip("ray", reason="Ray is an extra")
pytest.importorskip("lancedb", reason="LanceDB is an extra")

DATASET = "photos-2026"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a few photos, two of them the same picture."""
    render_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    with quiet_ray() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield tmp_path
    if fo.dataset_exists(DATASET):
        fo.delete_dataset(DATASET)


@pytest.fixture
def page(repo_root: Path) -> Document:
    parsers = [PythonCodeBlockParser(), CodeBlockParser("console", run_commands)]
    return Sybil(parsers=parsers).parse(repo_root / "docs" / "scale.md")


@pytest.mark.timeout(900)  # seven programs that load torch, and Ray twice
def test_the_commands_run_on_one_machine_and_mean_what_they_say(page, folder):
    blocks = list(page.examples())
    assert len(blocks) == 3
    for example in blocks:
        example.evaluate()

    assert bytes_of(folder / "store") == bytes_of(folder / "store-by-ray")
    rows = pq.read_table(folder / "duplicates.parquet").to_pylist()
    assert {Path(row["path"]).name for row in rows} == {"0.png", "0-again.jpg"}
    assert pq.read_table(folder / "by-ray.parquet").to_pylist() == rows

    dataset = page.namespace["dataset"]
    assert len(dataset.exists("clip_embedding")) == len(dataset) == 7
    told = dataset.exists("store_duplicates_group").values("filepath")
    assert {Path(path).name for path in told} == {"0.png", "0-again.jpg"}
    nearest = [Path(path).name for path in page.namespace["near"].values("filepath")]
    assert set(nearest[:2]) == {"0.png", "0-again.jpg"}
