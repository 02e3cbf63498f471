"""F12: a database that is killed and comes back, later or not at all, leaves no holes unsaid."""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path

import pytest

from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from tests.dying import CHANGES, FIELD, NAME, PLACES, RUNS, World, assert_same, some, world

pytestmark = pytest.mark.timeout(3600)  # of the long ones

AWAY = "DatasetError: the database"
"""How every verb begins to say that the database went away."""


def check_embedding(place, kept, draw, points, away=0.0):
    """Kill the mongod after some steps of an embedding, which waits for it and loses nothing."""
    boxes = "patches_field" in kept
    place.run("clear")
    steps = place.run("embed", **kept).counts
    vectors, undisturbed = place.vectors(boxes), place.look()
    for _ in range(points):
        kind = draw.choice(["write", "tower"])
        at = (kind, draw.randint(1, steps[kind]))
        place.run("clear")
        outcome = place.kill_mongod("embed", at, away, patience=180, **kept)
        assert (outcome.code, outcome.error) == (0, None), at
        found = place.look()
        assert found.fields == undisturbed.fields, at
        assert_whole(found, undisturbed, at)
        assert_same(place.vectors(boxes), vectors)


def assert_whole(found, expected, at):
    """Every sample holds something under the same names, boxes included."""
    for id_, sample in expected.samples.items():
        assert found.samples[id_].keys() == sample.keys(), at
        boxes = [held.get("things", {}).get("detections") for held in (found.samples[id_], sample)]
        assert [box.keys() for box in boxes[0]] == [box.keys() for box in boxes[1]], at


def check_verb(verb, options, prepare, draw, points):
    """Kill the mongod after some writes of a verb: it ends well, or says so and can be repeated."""
    place = world()
    place.run("clear")
    place.run("embed")
    prepare(place)
    n_writes = place.run(verb, **options).counts["write"]
    expected = place.look()
    told = []
    # The first write is FiftyOne's own: it notes that the dataset was loaded.
    for step in (1 + each for each in some(draw, n_writes - 1, points)):
        prepare(place)
        outcome = place.kill_mongod(verb, ("write", step), **options)
        assert outcome.code == 0, step
        if outcome.error is not None:
            assert outcome.error.startswith(AWAY), (step, outcome.error)
            told.append(step)
            prepare(place)
            place.run(verb, **options)
        assert place.look() == expected, step
    print(f"{verb}: {n_writes} writes, said that the database was away: {told}")


def before_run(verb):
    key, asked_before, _ = RUNS[verb]

    def prepare(place):
        if key in place.look().runs:
            place.run("delete_run", key=key)
        place.run(verb, **asked_before)

    return prepare


def before_change(place):
    for key in place.look().runs:
        place.run("delete_run", key=key)
    place.run("find_clusters", count=4)


def before_upgrade(place):
    place.run("upgrade", band="1/1")


VERBS = {verb: (asked, before_run(verb)) for verb, (_, _, asked) in RUNS.items()}
VERBS |= {verb: (options, before_change) for verb, options in CHANGES.items()}
VERBS |= {"upgrade": ({"band": "2/2"}, before_upgrade)}


def test_f12_a_killed_database_costs_an_embedding_nothing_but_time(seed):
    draw = random.Random(seed)
    check_embedding(world(), PLACES[draw.choice(list(PLACES))], draw, 1)


def test_f12_a_killed_database_leaves_no_half_run_that_calls_itself_complete(seed):
    draw = random.Random(seed)
    verb = draw.choice(list(VERBS))
    check_verb(verb, *VERBS[verb], draw, 1)


def test_f12_a_database_that_stays_away_is_said_and_what_was_saved_is_kept(seed):
    place, draw = world(), random.Random(seed)
    place.run("clear")
    n_batches = place.run("embed").counts["tower"]
    vectors = place.vectors()
    place.run("clear")
    place.begin("embed", ("tower", draw.randint(4, n_batches - 2)), mongod=True, patience=2)
    outcome = place.end()
    place.mongod.process.wait()
    place.mongod.start()
    assert re.match(rf"{AWAY} has been away for \d s", outcome.error), outcome
    kept = place.look().column(f"{FIELD}_source")
    assert 0 < len(kept) < len(vectors)
    assert f" {len(kept)} kept, 0 failed" in place.run("embed").told
    assert_same(place.vectors(), vectors)


@pytest.mark.timeout(120)
def test_f12_an_interrupted_embedding_does_not_wait_for_a_database_that_is_away(seed):
    place, draw = world(), random.Random(seed)
    place.run("clear")
    place.begin("embed", ("tower", draw.randint(2, 6)), mongod=True, patience=3600)
    place.mongod.process.wait()
    place.interrupt()
    outcome = place.end()
    place.mongod.start()
    assert outcome.error.startswith("KeyboardInterrupt"), outcome


@pytest.mark.long
@pytest.mark.parametrize("kept", PLACES)
def test_f12_an_embedding_whose_database_is_killed_ten_times(kept, seed):
    check_embedding(world(), PLACES[kept], random.Random(seed), 10)


@pytest.mark.long
@pytest.mark.parametrize("verb", VERBS)
def test_f12_a_verb_whose_database_is_killed_after_ten_of_its_writes(verb, seed):
    check_verb(verb, *VERBS[verb], random.Random(seed), 10)


@pytest.mark.long
def test_f12_a_database_that_is_gone_for_45_seconds(seed):
    place = World(Path(tempfile.mkdtemp(prefix="isoclip-dying-")), options="")
    try:
        check_embedding(place, {}, random.Random(seed), 1, away=45)
    finally:
        place.close()


@pytest.mark.long
def test_f12_the_command_line_waits_and_ends_with_an_error_if_it_waited_in_vain(seed):
    place, draw = world(), random.Random(seed)
    place.run("clear")
    words = ("embed", f"dataset:{NAME}", "--model", DEMO_NAME)
    code, told = place.isoclip(*words, at=draw.randint(20, 40), mongod=True)
    assert code == 1, told
    assert "the database has been away for" in told
    assert "Traceback" not in told
    held = place.look()
    assert held.column(f"{FIELD}_source").keys() <= held.column(FIELD).keys()
    assert len(held.column(FIELD)) < len(held.samples)
