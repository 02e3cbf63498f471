"""F01: a process that is killed costs what was in flight, and is told from one that ended."""

from __future__ import annotations

import random
import signal
from dataclasses import replace

import pytest

from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from tests.dying import (
    BATCH_SIZE,
    CHANGES,
    FIELD,
    NAME,
    PLACES,
    RUNS,
    assert_same,
    computed,
    some,
    world,
)

pytestmark = pytest.mark.timeout(3600)  # of the long ones

IN_FLIGHT = 2 * BATCH_SIZE
"""The batch that is being stored, and the next one, which is computed meanwhile."""


def check_embedding(kept, draw, points):
    """Kill an embedding at each of some points, and let it go on."""
    place, boxes = world(), "patches_field" in kept
    place.run("clear")
    place.log.unlink(missing_ok=True)
    steps = place.run("embed", **kept).counts
    undisturbed = place.vectors(boxes)
    pictures = set(computed(place.log))
    for _ in range(points):
        kind = draw.choice(["write", "tower"])
        at = (kind, draw.randint(1, steps[kind]))
        place.run("clear")
        place.log.unlink()
        assert place.kill("embed", at, **kept).code == -signal.SIGKILL
        before = place.look()
        if not boxes and not kept and f"{FIELD}_source" in before.fields:
            assert before.column(f"{FIELD}_source").keys() <= before.column(FIELD).keys(), at
        place.run("embed", **kept)
        assert_same(place.vectors(boxes), undisturbed)
        found = computed(place.log)
        assert found.keys() == pictures, at
        assert found.total() - len(pictures) <= IN_FLIGHT, at


def check_run(verb, draw, points):
    """Kill a verb before some of its writes, while an earlier run has the key."""
    key, asked_before, asked = RUNS[verb]
    place = world()
    place.run("clear")
    place.run("embed")
    bare = place.look()
    place.run(verb, **asked_before)
    old = place.look()
    n_writes = place.run(verb, **asked).counts["write"]
    new = place.look()
    assert old.runs != new.runs
    for step in some(draw, n_writes, points):
        place.run(verb, **asked_before)
        assert place.kill(verb, ("write", step), **asked).code == -signal.SIGKILL
        found = place.look()
        if found.runs.get(key, {}).get("complete"):
            assert found in (old, new), step
        if key in found.runs and draw.random() < 0.5:
            place.run("delete_run", key=key)
            assert place.look() == bare, step
        place.run(verb, **asked)
        assert place.look() == new, step
        place.run("delete_run", key=key)
        assert place.look() == bare, step


def check_change(verb, draw, points):
    """Kill a change of a run before some of its writes."""
    place, options = world(), CHANGES[verb]
    place.run("clear")
    place.run("embed")
    bare = replace(place.look(), documents=(0, 0))
    place.run("find_clusters", count=4)
    old = place.look()
    n_writes = place.run(verb, **options).counts["write"]
    new = place.look()
    for step in some(draw, n_writes, points):
        for key in place.look().runs:
            place.run("delete_run", key=key)
        place.run("find_clusters", count=4)
        assert place.kill(verb, ("write", step), **options).code == -signal.SIGKILL
        found = place.look()
        assert len(found.runs) <= 1, step
        for key, run in found.runs.items():
            if run["complete"]:
                assert found in (old, new), step
            if draw.random() < 0.5:
                place.run("rerun", key=key)
                again = place.look()
                assert again.runs[key]["complete"]
                assert without_names(again) == without_names(old), step
            place.run("delete_run", key=key)
        left = place.look()
        # A document that nothing refers to any more goes when its key is used the next time.
        assert (left if found.runs else replace(left, documents=(0, 0))) == bare, step


def check_import(folder, on_samples, draw, points):
    """Kill an import, or its database, at some of its writes, and let it go on."""
    pytest.importorskip("pyarrow", reason="stores of shards need the extra ray")
    from tests.made_stores import make_store, vector_of

    paths = [f"/nowhere/{n:02}.png" for n in range(10)]
    store = make_store(folder / "store", paths, failures={4: "torn"})
    place, options = world(), {"store": store.uri, "on_samples": on_samples}
    n_writes = place.run("import_store", **options).counts["write"]
    expected = [
        (path, "torn" if n == 4 else "", [] if n == 4 else vector_of(path).tolist())
        for n, path in enumerate(paths)
    ]
    assert place.imported() == expected
    for step in some(draw, n_writes, points):
        assert place.kill("import_store", ("write", step), **options).code == -signal.SIGKILL
        place.run("import_store", **options)
        assert "; 0 samples and 0 embeddings" in place.run("import_store", **options).told, step
        assert place.imported() == expected, step
        outcome = place.kill_mongod("import_store", ("write", step), **options)
        if outcome.error is not None:  # FiftyOne makes a dataset by many steps, and waits at none
            assert outcome.error.startswith("DatasetError: the database went away"), step
            place.run("import_store", **options)
        assert place.imported() == expected, step


def without_names(state):
    """How samples are grouped, whatever the run and its clusters are called."""
    fields = [name for name in state.fields if name.endswith(("clusters", "looks"))]
    groups = {}
    for id_, name in state.column(*fields).items():
        groups.setdefault(name, set()).add(id_)
    return sorted(map(sorted, groups.values()))


def check_upgrade(draw, points):
    """Kill an upgrade before some of its writes; it had been done with another band."""
    place = world()
    place.run("clear")
    place.run("embed")
    place.run("upgrade", band="1/1")
    old = place.look()
    n_writes = place.run("upgrade", band="2/2").counts["write"]
    new = place.look()
    for step in some(draw, n_writes, points):
        place.run("upgrade", band="1/1")
        assert place.look() == old, step
        assert place.kill("upgrade", ("write", step), band="2/2").code == -signal.SIGKILL
        held = place.look().column("isoclip")
        assert any(held.items() <= state.column("isoclip").items() for state in (old, new)), step
        place.run("upgrade", band="2/2")
        assert place.look() == new, step


def test_f01_a_killed_embedding_goes_on_where_it_was(seed):
    draw = random.Random(seed)
    check_embedding(PLACES[draw.choice(list(PLACES))], draw, 3)


@pytest.mark.parametrize("on_samples", [True, False])
def test_f01_a_killed_import_goes_on_where_it_was(on_samples, tmp_path, seed):
    check_import(tmp_path, on_samples, random.Random(seed), 1)


def test_f01_a_killed_search_is_incomplete_and_mended_by_the_next(seed):
    draw = random.Random(seed)
    check_run(draw.choice(list(RUNS)), draw, 2)


def test_f01_a_killed_change_of_a_run_is_incomplete_and_can_be_deleted(seed):
    draw = random.Random(seed)
    check_change(draw.choice(list(CHANGES)), draw, 2)


def test_f01_an_interrupted_embedding_ends_within_a_batch(seed):
    place, draw = world(), random.Random(seed)
    place.run("clear")
    place.log.unlink(missing_ok=True)
    n_batches = place.run("embed").counts["tower"]
    vectors = place.vectors()
    place.run("clear")
    step = draw.randint(2, n_batches - 1)
    outcome = place.kill("embed", ("tower", step), signal=signal.SIGINT)
    assert outcome.error == "KeyboardInterrupt: "
    assert outcome.counts["tower"] - step <= 1
    held = place.look()
    assert held.column(f"{FIELD}_source").keys() == held.column(FIELD).keys()
    kept = len(held.column(FIELD))
    assert f" {kept} kept" in place.run("embed").told
    assert_same(place.vectors(), vectors)


@pytest.mark.long
def test_f01_ctrl_c_ends_the_command_line_quietly_and_it_goes_on_later(seed):
    place, draw = world(), random.Random(seed)
    place.run("clear")
    words = ("embed", f"dataset:{NAME}", "--model", DEMO_NAME)
    at = draw.randint(20, 40)
    code, told = place.isoclip(*words, at=at)
    assert code == 130, told
    assert "Traceback" not in told
    held = place.look()
    sources = held.column(f"{FIELD}_source")
    assert 0 < len(sources) < len(held.samples)
    assert sources.keys() == held.column(FIELD).keys()
    code, told = place.isoclip(*words, at=10_000)
    assert code == 0, told
    found = place.look()
    assert found.column(FIELD).keys() == found.samples.keys()
    # What was saved stayed as it was.
    assert held.column(FIELD).items() <= found.column(FIELD).items()


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_f01_an_embedding_killed_34_times(place, seed):
    check_embedding(PLACES[place], random.Random(seed), 34)


@pytest.mark.long
@pytest.mark.parametrize("verb", RUNS)
def test_f01_a_search_killed_before_each_of_its_writes(verb, seed):
    check_run(verb, random.Random(seed), None)


@pytest.mark.long
@pytest.mark.parametrize("verb", CHANGES)
def test_f01_a_change_of_a_run_killed_before_each_of_its_writes(verb, seed):
    check_change(verb, random.Random(seed), None)


@pytest.mark.long
@pytest.mark.parametrize("on_samples", [True, False])
def test_f01_an_import_killed_at_each_of_its_writes(on_samples, tmp_path, seed):
    check_import(tmp_path, on_samples, random.Random(seed), None)


@pytest.mark.long
def test_f01_an_upgrade_killed_before_each_of_its_writes(seed):
    check_upgrade(random.Random(seed), None)
