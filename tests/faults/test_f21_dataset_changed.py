"""F21: a dataset or field that is deleted, made anew, renamed or of another type meanwhile."""

from __future__ import annotations

import random

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import embed, find_clusters, find_duplicates, list_runs, upgrade
from fiftyone_isoclip.errors import DatasetError
from tests.dying import CHANGES, FIELD, FOREIGN, NAME, PLACES, RENAMED, RUNS, world
from tests.pictures import draw_many

pytestmark = pytest.mark.timeout(3600)  # of the long ones

VERBS = {f"embed {place}": ("embed", kept) for place, kept in PLACES.items()}
VERBS |= {verb: (verb, asked) for verb, (_, _, asked) in RUNS.items()}
VERBS |= {verb: (verb, options) for verb, options in CHANGES.items()}
VERBS |= {"upgrade": ("upgrade", {"band": "2/2"})}

FIELDS = {
    "embed on samples": (FIELD, f"{FIELD}_source", f"{FIELD}_error"),
    "embed in files": (FIELD, f"{FIELD}_source", f"{FIELD}_error"),
    "find_clusters": ("clusters", "clusters_medoid", "clusters_similarity"),
    "find_duplicates": ("duplicates_group", "duplicates_role", "duplicates_reason"),
    "find_leaks": ("leaks_split", "leaks_partners", "leaks_drop"),
    "compare_with_clip": ("comparison_overlap",),
    "compare_spaces": ("disagreements_place", "disagreements_factor", "disagreements_nearer_in"),
    "evaluate": ("evaluation_plain", "evaluation_isoclip"),
    "upgrade": ("isoclip",),
}

FEWEST = 10
"""Writes that each of the verbs takes at least."""

KINDS = {
    "text": (fo.StringField, "a"),
    "number": (fo.FloatField, FOREIGN),
    "list": (fo.ListField, [1.0]),
    "label": (fo.Classification, fo.Classification(label="a")),
    "vector": (fo.VectorField, np.ones(3, np.float32)),
}


@pytest.fixture
def place():
    """A world whose dataset is made anew afterwards."""
    place = world()
    yield place
    place.fill()


def prepare(place, name):
    """Make what a verb starts from."""
    verb, _ = VERBS[name]
    place.fill()
    if verb != "embed":
        place.run("embed")
    if verb in CHANGES:
        place.run("find_clusters", count=4)


def count_writes(place, name):
    prepare(place, name)
    verb, options = VERBS[name]
    return place.run(verb, **options).counts["write"]


def check_deleted(place, name, step, again):
    """Delete the dataset at a write of a verb, and make it again under the same name or not."""
    verb, options = VERBS[name]
    prepare(place, name)
    with place.database() as database:
        id_ = database.datasets.find_one({"name": NAME})["_id"]
    fill = ("fill", {"folder": str(place.folder / "pictures")})
    deeds = [("drop", {}), fill] if again else [("drop", {})]
    outcome = place.meddle(verb, ("write", step), *deeds, **options)
    told = f"DatasetError: dataset {NAME!r} was deleted; load or create another one"
    assert outcome.error == told, step
    with place.database() as database:
        assert [each["name"] for each in database.datasets.find()] == [NAME] * again, step
        assert f"samples.{id_}" not in database.list_collection_names(), step
        for documents in (database.runs, database.views):
            assert not list(documents.find({"_dataset_id": id_})), step
    if again:
        made = place.look()
        place.fill()
        assert facts(made) == facts(place.look()), step


def facts(state):
    """A state without the ids of its samples and boxes."""
    held = [{**sample, "things": len(sample["things"])} for sample in state.samples.values()]
    return held, state.fields, state.runs, state.views, state.documents


def check_renamed(place, name, step):
    """Rename the dataset at a write of a verb, which goes on."""
    verb, options = VERBS[name]
    prepare(place, name)
    outcome = place.meddle(verb, ("write", step), ("rename", {}), **options)
    assert outcome.error is None, step
    found = place.look(RENAMED)
    assert all(run["complete"] for run in found.runs.values()), step
    place.run("rename")
    if verb not in CHANGES:
        place.run(verb, **options)
        assert place.look() == found, step


def check_field(place, name, field, step, deed):
    """Delete a field or make it another at a write of a verb: nothing of the verb is left in it."""
    verb, options = VERBS[name]
    prepare(place, name)
    outcome = place.meddle(verb, ("write", step), (deed, {"field": field}), **options)
    told, found, at = outcome.error or "", place.look(), (step, field)
    assert not told or told.startswith("DatasetError: field "), (at, told)
    held = found.column(field)
    if field not in found.fields:
        assert not held, at
    elif found.fields[field].endswith("FloatField") and (told or field not in KEPT_FLOATS):
        assert set(held.values()) <= {FOREIGN}, at
    key = RUNS[verb][0] if verb in RUNS else None
    if told and key in found.runs:
        assert not found.runs[key]["complete"], at
        place.run("delete_run", key=key)
    if deed == "drop_field":
        place.run(verb, **options)
        assert place.look().fields[field]


KEPT_FLOATS = (
    "clusters_similarity",
    "comparison_overlap",
    "disagreements_factor",
    "evaluation_isoclip",
    "evaluation_plain",
)
"""Fields of a run that are floats anyway: made so by another, nothing is wrong with them."""


def test_f21_a_dataset_deleted_or_made_again_meanwhile(place, seed):
    draw = random.Random(seed)
    again = draw.random() < 0.5
    check_deleted(place, draw.choice(list(VERBS)), draw.randint(1, FEWEST), again)


def test_f21_a_dataset_renamed_meanwhile(place, seed):
    draw = random.Random(seed)
    check_renamed(place, draw.choice(list(VERBS)), draw.randint(1, FEWEST))


def test_f21_a_field_deleted_or_made_another_meanwhile(place, seed):
    draw = random.Random(seed)
    name, deed = draw.choice(list(FIELDS)), draw.choice(["drop_field", "retype_field"])
    check_field(place, name, draw.choice(FIELDS[name]), draw.randint(1, FEWEST), deed)


@pytest.mark.parametrize("kind", KINDS)
def test_f21_a_field_of_another_type_is_refused_and_left_alone(
    kind, dataset, fill, pictures, checkpoint
):
    fill(draw_many(pictures, 4))
    embed(dataset, checkpoint, progress=False)
    type_, value = KINDS[kind]
    of = {"embedded_doc_type": type_} if kind == "label" else {}
    for name in ("taken", "taken_source", "taken_error", "taken_group", "taken_medoid"):
        dataset.add_sample_field(name, fo.EmbeddedDocumentField if of else type_, **of)
        dataset.set_values(name, [value] * 4)
    held, fields = list(dataset._sample_collection.find()), dataset.get_field_schema().keys()
    for verb in (
        lambda: embed(dataset, checkpoint, "taken", progress=False),
        lambda: embed(dataset.limit(2), checkpoint, "taken", progress=False, on_samples=False),
        lambda: upgrade(dataset, FIELD, checkpoint, into="taken"),
        lambda: find_clusters(dataset, count=2, key="taken"),
        lambda: find_duplicates(dataset, key="taken"),
    ):
        with pytest.raises(DatasetError, match="taken"):
            verb()
        dataset.reload()
        assert dataset.get_field_schema().keys() == fields
        assert list(dataset._sample_collection.find()) == held
        assert list_runs(dataset) == []


@pytest.mark.parametrize("name", ["id", "filepath", "tags", "metadata", "_id", "things.x", "a.b.c"])
def test_f21_a_name_that_is_not_free_is_refused(name, dataset, fill, pictures, checkpoint):
    fill(draw_many(pictures, 2))
    dataset.set_values("things", [fo.Detections(detections=[fo.Detection()])] * 2)
    held, fields = list(dataset._sample_collection.find()), dataset.get_field_schema().keys()
    with pytest.raises(DatasetError):
        embed(dataset, checkpoint, name, progress=False)
    with pytest.raises(DatasetError):
        upgrade(dataset, FIELD, checkpoint, into=name)
    assert dataset.get_field_schema().keys() == fields
    assert list(dataset._sample_collection.find()) == held


@pytest.mark.long
@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
@pytest.mark.parametrize("name", VERBS)
def test_f21_a_dataset_deleted_during_each_verb(place, name, again, seed):
    steps = range(1, count_writes(place, name) + 1)
    for step in random.Random(seed).sample(steps, 5):
        check_deleted(place, name, step, again)


@pytest.mark.long
@pytest.mark.parametrize("name", VERBS)
def test_f21_a_dataset_renamed_during_each_verb(place, name, seed):
    steps = range(1, count_writes(place, name) + 1)
    for step in random.Random(seed).sample(steps, 5):
        check_renamed(place, name, step)


@pytest.mark.long
@pytest.mark.parametrize("deed", ["drop_field", "retype_field"])
@pytest.mark.parametrize("name", FIELDS)
def test_f21_a_field_changed_during_each_verb(place, name, deed, seed):
    draw = random.Random(seed)
    steps = range(1, count_writes(place, name) + 1)
    for step in draw.sample(steps, 5):
        check_field(place, name, draw.choice(FIELDS[name]), step, deed)
