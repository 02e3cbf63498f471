"""Fault 19: a worker or the driver dies; after a rerun every id is in the store exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.files import embed_files
from fiftyone_isoclip.shards import Encoding, Images, Shard, open_store, read_images
from fiftyone_isoclip.shards.local import LocalEngine
from fiftyone_isoclip.shards.run import fill_store
from fiftyone_isoclip.shards.store import continue_store
from tests.mongod import free_port
from tests.pictures import draw_many
from tests.ray_runs import cluster, command, quiet_ray, running, shards
from tests.stores import bytes_of, large_pictures, rows_of, write_parquet

pytestmark = pytest.mark.timeout(1200)  # a Ray takes a minute to begin where others are at work

COUNT = 80
N_SHARDS = COUNT // 2
ENCODING = Encoding("isoclip-demo", device="cpu", precision="float32")

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: extra ray")


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(ENCODING)


@pytest.fixture(scope="module")
def large(tmp_path_factory, engine):
    """Images that take their time, and the store that an undisturbed local run makes of them."""
    folder = tmp_path_factory.mktemp("large")
    paths = write_parquet(folder / "images.parquet", large_pictures(folder / "pictures"), COUNT)
    store = continue_store(str(folder / "undisturbed"), engine.recipe, shard_rows=2)
    fill_store(store, read_images(str(folder / "images.parquet")), engine)
    return folder, paths


@pytest.fixture
def ray_environment():
    with quiet_ray() as environment:
        yield environment


def assert_whole(store: Path, large) -> None:
    """Every id once, each with the embedding of its own file or its reason; byte for byte."""
    folder, paths = large
    rows = rows_of(store)
    assert [row["id"] for row in rows] == sorted(paths)
    clip = load_clip("isoclip-demo", device="cpu", precision="float32")
    alone = embed_files(sorted(set(paths.values())), clip)
    expected = dict(zip(alone.embedded_paths, alone.embeddings, strict=True))
    for row in rows:
        path = paths[row["id"]]
        if path in alone.failed:
            assert (row["status"], row["reason"]) == ("failed", alone.failed[path])
        else:
            np.testing.assert_allclose(row["embedding"], expected[path], atol=1e-4)
    assert bytes_of(store) == bytes_of(folder / "undisturbed")


def rerun(large, store: Path, engine: LocalEngine) -> int:
    """Run the same again to its end, in this process; -> how many images it found done."""
    images = read_images(str(large[0] / "images.parquet"))
    return fill_store(open_store(str(store)), images, engine).before


def rerun_on_ray(large, store: Path, environment) -> int:
    report = store.with_suffix(".json")
    words = command(large[0] / "images.parquet", store, "ray", "--json", str(report))
    with running(words, environment, store.with_suffix(".log")) as run:
        assert run.end() == 0, run.log.read_text()
    return json.loads(report.read_text())["before"]


@needs_ray
def test_f19_an_actor_is_killed_and_then_the_driver(large, engine, ray_environment, tmp_path, seed):
    store = tmp_path / "store"
    kill_actor_and_driver(large, store, ray_environment, random.Random(seed))
    left = shards(store)
    before = rerun(large, store, engine)
    assert before == 2 * left
    assert_whole(store, large)


def kill_actor_and_driver(large, store: Path, environment, draws: random.Random) -> None:
    words = command(large[0] / "images.parquet", store, "ray", "--workers", "1")
    with running(words, environment, store.with_suffix(".log")) as run:
        first = draws.randint(1, 8)
        run.until(lambda: shards(store) >= first)
        (actor,) = run.workers()
        actor.send_signal(signal.SIGKILL)
        actor.wait()
        there = shards(store)
        assert there < N_SHARDS
        # What it had in hand goes to another one, and the run goes on.
        more = draws.randint(2, 6)
        run.until(lambda: shards(store) >= there + more)
        run.kill()
    assert "worker.cc:" not in run.log.read_text()  # what its C++ parts say is not for the user
    assert there < shards(store) < N_SHARDS
    assert not open_store(str(store)).look().complete


def test_f19_the_local_engine_is_killed(large, engine, tmp_path, seed):
    kill_local(large, engine, tmp_path, random.Random(seed).randint(1, N_SHARDS - 8))


def kill_local(large, engine, tmp_path, after: int) -> None:
    store = tmp_path / f"store-{after}"
    words = command(large[0] / "images.parquet", store, "local")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with running(words, environment, tmp_path / "log") as run:
        run.until(lambda: shards(store) >= after)
        run.kill()
    left = shards(store)
    assert left < N_SHARDS
    assert rerun(large, store, engine) == 2 * left
    assert_whole(store, large)


@pytest.fixture(scope="module")
def small(tmp_path_factory, engine):
    """Small images, one of them broken, and the store of them."""
    folder = tmp_path_factory.mktemp("small")
    paths = draw_many(folder / "pictures", 13)
    (folder / "pictures" / "broken.png").write_bytes(b"no picture")
    images = read_images(str(folder / "pictures"))
    store = continue_store(str(folder / "store"), engine.recipe, shard_rows=3)
    fill_store(store, images, engine)
    assert len(paths) + 1 == len(rows_of(folder / "store"))
    return folder, images


DAMAGE = st.sampled_from(["deleted", "cut", "empty", "garbage", "flipped", "another's"])


def harm(path: Path, how: str, other: bytes, numbers: bytes, draws: random.Random) -> None:
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: draws.randrange(1, len(content))])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "garbage":
        path.write_bytes(draws.randbytes(len(content)))
    elif how == "another's":
        path.write_bytes(other)
    else:
        place = content.index(numbers) + draws.randrange(len(numbers))
        path.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(harms=st.lists(st.none() | DAMAGE, min_size=5, max_size=5), number=st.integers(0, 2**32))
def test_f19_whatever_is_damaged_is_named_and_mended(small, engine, harms, number):
    folder, images = small
    sound = bytes_of(folder / "store")
    draws = random.Random(number)
    with tempfile.TemporaryDirectory() as place:
        store = continue_store(place, engine.recipe, shard_rows=3)
        fill_store(store, images, engine)
        files = sorted((Path(place) / "shards").iterdir())
        contents = [file.read_bytes() for file in files]
        harmed = {file.name: how for file, how in zip(files, harms, strict=True) if how}
        numbers = [shard.embeddings.tobytes() for shard in open_store(place)]
        for row, (file, how) in enumerate(zip(files, harms, strict=True)):
            if how:
                harm(file, how, contents[row - 1], numbers[row], draws)
        found = open_store(place).look()
        assert set(found.problems) == set(harmed)
        again = fill_store(open_store(place), images, engine)
        assert set(again.mended) == set(harmed)
        assert bytes_of(Path(place)) == sound
        assert len(again.reasons) == 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6), number=st.integers(0, 2**32))
def test_f19_ids_in_two_shards_are_named_and_nothing_else_is_lost(small, engine, cuts, number):
    # As a worker leaves them that outlives its driver, when the rerun is given other images.
    folder, images = small
    draws = random.Random(number)
    rows = {row["id"]: row for row in rows_of(folder / "store")}
    with tempfile.TemporaryDirectory() as place:
        store = continue_store(place, engine.recipe, shard_rows=3)
        held: list[set[str]] = []
        for count in cuts:
            table = images.table.take(sorted(draws.sample(range(len(images)), count)))
            ids, paths = table["id"].to_pylist(), table["path"].to_pylist()
            shard = next(iter(_shards_of(engine, ids, paths)))
            store.write(shard)
            held.append(set(ids))
        once = {frozenset(ids) for ids in held}
        expected = {id_ for ids in once for id_ in ids}
        twice = sum(map(len, once)) > len(expected)
        assert bool(open_store(place).look().problems) == twice
        nothing = fill_store(open_store(place), Images.of([], []), engine)
        assert [row["id"] for row in rows_of(Path(place))] == sorted(expected)
        for row in rows_of(Path(place)):
            assert row["reason"] == rows[row["id"]]["reason"]
            if row["embedding"] is not None:
                np.testing.assert_allclose(
                    row["embedding"], rows[row["id"]]["embedding"], atol=1e-4
                )
        assert bool(nothing.mended) == twice
        fill_store(open_store(place), images, engine)
        assert [row["id"] for row in rows_of(Path(place))] == sorted(rows)


def _shards_of(engine, ids, paths) -> list[Shard]:
    with tempfile.TemporaryDirectory() as place:
        store = continue_store(place, engine.recipe, shard_rows=len(ids))
        fill_store(store, Images.of(ids, paths), engine)
        return list(open_store(place))


def test_f19_a_shard_that_comes_while_a_rerun_works_is_seen(small, engine, tmp_path):
    images = small[1]
    store = continue_store(str(tmp_path / "store"), engine.recipe, shard_rows=3)
    table = images.table.slice(1, 4)
    late = _shards_of(engine, table["id"].to_pylist(), table["path"].to_pylist())

    def outlive(count: int) -> None:
        if late:
            store.write(late.pop())

    again = fill_store(store, images, engine, progress=outlive)
    assert not late
    assert [row["id"] for row in rows_of(tmp_path / "store")] == images.table["id"].to_pylist()
    assert open_store(str(tmp_path / "store")).look().problems == {}
    assert again.mended


@pytest.mark.long
def test_f19_the_local_engine_is_killed_at_many_moments(large, engine, tmp_path, seed):
    for after in random.Random(seed).sample(range(1, N_SHARDS - 8), 12):
        kill_local(large, engine, tmp_path, after)


@pytest.mark.long
@needs_ray
def test_f19_ray_and_the_local_engine_write_the_same(large, ray_environment, tmp_path):
    assert rerun_on_ray(large, tmp_path / "store", ray_environment) == 0
    assert_whole(tmp_path / "store", large)


@pytest.mark.long
@needs_ray
def test_f19_a_cluster_that_was_begun_elsewhere_writes_the_same_and_stays(
    large, ray_environment, tmp_path
):
    with cluster(ray_environment, tmp_path / "head.log") as environment:
        assert rerun_on_ray(large, tmp_path / "store", environment) == 0
        assert_whole(tmp_path / "store", large)
        # Asked with the token, it still answers.
        assert rerun_on_ray(large, tmp_path / "store", environment) == COUNT


@needs_ray
def test_f19_a_cluster_that_does_not_answer_is_told_at_once(large, ray_environment, tmp_path):
    words = command(large[0] / "images.parquet", tmp_path / "store", "ray")
    nobody = ray_environment | {"RAY_ADDRESS": f"127.0.0.1:{free_port()}"}
    with running(words, nobody, tmp_path / "log") as run:
        assert run.end() == 1
        (told,) = [each for each in run.log.read_text().splitlines() if "isoclip: " in each]
    assert f"nothing answers at {nobody['RAY_ADDRESS']}" in told
    assert not (tmp_path / "store").exists()


@pytest.mark.long
@needs_ray
def test_f19_a_rerun_on_ray_ends_whole(large, ray_environment, tmp_path, seed):
    store = tmp_path / "store"
    kill_actor_and_driver(large, store, ray_environment, random.Random(seed))
    left = shards(store)
    assert rerun_on_ray(large, store, ray_environment) == 2 * left
    assert_whole(store, large)


@pytest.mark.long
@needs_ray
def test_f19_actors_are_killed_again_and_again_and_the_run_ends_whole(
    large, ray_environment, tmp_path, seed
):
    images, store = large[0] / "images.parquet", tmp_path / "store"
    draws = random.Random(seed)
    with running(command(images, store, "ray"), ray_environment, tmp_path / "log") as run:
        for after in sorted(draws.sample(range(1, N_SHARDS - 10), 4)):
            run.until(lambda after=after: shards(store) >= after and run.workers())
            draws.choice(run.workers()).kill()
        assert run.end() == 0, run.log.read_text()
    assert_whole(store, large)


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "ViT-Z"], "no checkpoint is called 'ViT-Z'"),
        (["--device", "cuda"], "Ray finds no GPU here"),
    ],
)
def test_f19_what_a_worker_cannot_do_is_told_in_its_own_words(
    large, ray_environment, tmp_path, more, told
):
    words = command(large[0] / "images.parquet", tmp_path / "store", "ray", *more)
    with running(words, ray_environment, tmp_path / "log") as run:
        assert run.end() == 1
        sentences = [each for each in run.log.read_text().splitlines() if "isoclip: " in each]
    assert len(sentences) == 1 and told in sentences[0]
    assert not (tmp_path / "store").exists()
