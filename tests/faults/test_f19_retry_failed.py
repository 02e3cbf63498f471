"""Fault 19: what failed is tried again, and whatever is killed meanwhile, nothing else is lost."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

from fiftyone_isoclip.shards import Encoding, Images, Shard, open_store, read_images
from fiftyone_isoclip.shards.local import LocalEngine
from fiftyone_isoclip.shards.place import Place
from fiftyone_isoclip.shards.run import fill_store
from fiftyone_isoclip.shards.store import continue_store
from tests.pictures import draw_many
from tests.ray_runs import command, quiet_ray, running
from tests.stores import BROKEN_EVERY, bytes_of, large_pictures, rows_of, write_parquet

ENCODING = Encoding("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(ENCODING)


@pytest.fixture
def failed(tmp_path, engine):
    """A store of 13 pictures of which 4 were broken, all of them, and the 4; 3 are sound now.

    Beside it lies a store that was made now.
    """
    folder, broken = tmp_path / "pictures", [0, 1, 7, 9]
    paths = [Path(path) for path in sorted(draw_many(folder, 13))]
    sound = [path.read_bytes() for path in paths]
    for n in broken:
        paths[n].write_bytes(b"no picture")
    images = read_images(str(folder))
    store = continue_store(str(tmp_path / "store"), engine.recipe, shard_rows=2)
    assert len(fill_store(store, images, engine).reasons) == 4
    for n in broken[:-1]:
        paths[n].write_bytes(sound[n])
    fill_store(continue_store(str(tmp_path / "fresh"), engine.recipe), images, engine)
    return tmp_path / "store", images, [str(paths[n]) for n in broken]


def vectors_of(store: Path) -> dict[str, list[float]]:
    return {row["id"]: row["embedding"] for row in rows_of(store) if row["status"] == "ok"}


def assert_tried_again(store: Path) -> None:
    """Every id once, in a whole store; with the numbers of the one that was made afterwards."""
    open_store(str(store)).require_whole()
    assert open_store(str(store)).look().problems == {}
    fresh = store.with_name("fresh")
    facts = [
        [(row["id"], row["reason"], row["bytes"]) for row in rows_of(s)] for s in (store, fresh)
    ]
    assert facts[0] == facts[1]
    found, wanted = vectors_of(store), vectors_of(fresh)
    np.testing.assert_allclose([found[id_] for id_ in wanted], list(wanted.values()), atol=1e-4)


def test_f19_what_failed_is_tried_again_only_where_that_is_asked_for(failed, engine):
    store, images, broken = failed
    before, files = vectors_of(store), bytes_of(store)
    assert sorted(fill_store(open_store(str(store)), images, engine).reasons) == broken
    assert bytes_of(store) == files
    again = fill_store(open_store(str(store)), images, engine, retry_failed=True)
    assert (again.retried, again.before, list(again.reasons)) == (4, 9, broken[-1:])
    assert again.mended == {}
    assert_tried_again(store)
    after = vectors_of(store)
    assert all(after[id_] == vector for id_, vector in before.items())


def test_f19_of_images_that_are_not_given_the_reasons_stay(failed, engine):
    store, images, broken = failed
    before = rows_of(store)
    given = Images.of(broken[:1], broken[:1])
    again = fill_store(open_store(str(store)), given, engine, retry_failed=True)
    assert (again.retried, again.reasons) == (1, {})
    others = [row for row in rows_of(store) if row["id"] != broken[0]]
    assert others == [row for row in before if row["id"] != broken[0]]
    assert fill_store(open_store(str(store)), images, engine).before == len(images)


class Killed(BaseException):
    """What a test kills with: nothing catches it, and nothing is written after it."""


@pytest.mark.parametrize("asked_again", [True, False])
def test_f19_killed_anywhere_nothing_is_lost_and_the_rest_is_made(
    failed, engine, tmp_path, asked_again
):
    store, images, _ = failed
    kept = vectors_of(store)
    for moment in count():
        place = tmp_path / f"store-{moment}"
        shutil.copytree(store, place)
        with pytest.MonkeyPatch.context() as patched:
            lived = kill_after(moment, patched, place, images, engine)
        there = vectors_of(place)
        assert all(there[id_] == vector for id_, vector in kept.items())
        assert lived or not open_store(str(place)).manifest.complete or moment == 0
        fill_store(open_store(str(place)), images, engine, retry_failed=asked_again)
        if asked_again:
            assert_tried_again(place)
        assert [row["id"] for row in rows_of(place)] == images.table["id"].to_pylist()
        open_store(str(place)).require_whole()
        after = vectors_of(place)
        assert all(after[id_] == vector for id_, vector in kept.items())
        if lived:
            break
    assert moment > 8


def kill_after(moment: int, patched, place: Path, images: Images, engine) -> bool:
    """Let so many files be written or removed, and nothing after that; -> whether it ended."""
    done = count()

    def counted(change):
        def changing(self, *args):
            if next(done) >= moment:
                raise Killed
            return change(self, *args)

        return changing

    for name in ("write", "remove"):
        patched.setattr(Place, name, counted(getattr(Place, name)))
    try:
        fill_store(open_store(str(place)), images, engine, retry_failed=True)
    except Killed:
        return False
    return True


def name_of(ids: list[str]) -> str:
    return Shard(tuple(ids), (), (), np.empty(0, np.int64), np.empty((0, 1)), {}).name


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: extra ray")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "kind", ["local", pytest.param("ray", marks=[pytest.mark.long, needs_ray])]
)
def test_f19_the_command_is_killed_while_it_tries_again(kind, engine, tmp_path):
    file, store = tmp_path / "images.parquet", tmp_path / "store"
    pictures = large_pictures(tmp_path / "pictures")
    names = write_parquet(file, pictures, 120)
    n_failed = len(names) // BROKEN_EVERY
    fill_store(
        continue_store(str(store), engine.recipe, shard_rows=2), read_images(str(file)), engine
    )
    kept = vectors_of(store)
    assert len(kept) == len(names) - n_failed
    shutil.copy(pictures[0], file.with_name("broken.png"))
    first = name_of([id_ for id_ in names if id_ not in kept][:2])
    words = command(file, store, kind, "--retry-failed")
    with quiet_ray() as environment:
        with running(words, environment | {"OMP_NUM_THREADS": "1"}, tmp_path / "log") as run:
            run.until((store / "shards" / first).exists)
            run.kill()
        there = vectors_of(store)
        assert kept.items() <= there.items() and len(there) < len(names)
        with running(words, environment, tmp_path / "log") as run:
            assert run.end() == 0, run.log.read_text()
    after = vectors_of(store)
    assert sorted(after) == sorted(names)
    assert kept.items() <= after.items()
    open_store(str(store)).require_whole()
