"""Fault 19: a machine of the cluster is gone in the middle; its images go to another one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is an extra")

from fiftyone_isoclip.shards import Encoding, read_images
from fiftyone_isoclip.shards.local import LocalEngine
from fiftyone_isoclip.shards.run import fill_store
from fiftyone_isoclip.shards.store import continue_store
from tests.ray_runs import cluster, command, quiet_ray, running, shards
from tests.stores import bytes_of, large_pictures, write_parquet

COUNT = 120


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_f19_a_machine_that_is_taken_away_costs_its_shard_and_no_more(tmp_path):
    """Two nodes of a cluster, as `ray start` begins them, though both are on this machine."""
    images, store = tmp_path / "images.parquet", tmp_path / "store"
    write_parquet(images, large_pictures(tmp_path / "pictures"), COUNT)
    with (
        quiet_ray() as own,
        cluster(own, tmp_path / "head.log") as environment,
        running(join(environment), environment, tmp_path / "second.log") as second,
    ):
        second.until(lambda: "Ray runtime started" in second.log.read_text())
        words = command(images, store, "ray", "--workers", "2")
        with running(words, environment, tmp_path / "log") as run:
            run.until(lambda: second.workers() and shards(store) > 4)
            second.clean()  # every process of that node at once
            assert 0 < shards(store) < COUNT // 2
            assert run.end() == 0, run.log.read_text()
    engine = LocalEngine(Encoding("isoclip-demo", device="cpu", precision="float32"))
    undisturbed = continue_store(str(tmp_path / "undisturbed"), engine.recipe, shard_rows=2)
    fill_store(undisturbed, read_images(str(images)), engine)
    assert bytes_of(store) == bytes_of(tmp_path / "undisturbed")


def join(environment: dict[str, str]) -> list[str]:
    """What begins another node of the cluster."""
    program = str(Path(sys.executable).with_name("ray"))
    words = ["start", "--address", environment["RAY_ADDRESS"], "--block", "--num-cpus", "1"]
    return [program, *words, "--object-store-memory", str(100 * 2**20)]
