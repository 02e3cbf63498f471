"""Groups to review: in the order asked for, with what tells their members apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import find_duplicates, find_exact_duplicates, load_run
from fiftyone_isoclip.dataset.review import MOST_SHOWN, keep_all, keep_this, list_groups, read_group
from tests.pictures import draw, draw_many
from tests.planted import plant_copies


@pytest.fixture
def found(dataset, fill, pictures, checkpoint):
    """A search that found groups of several sizes."""
    plant_copies(dataset, fill, pictures, checkpoint)
    report = find_duplicates(dataset, similarity=0.98)
    assert len({len(group.copies) for group in report.groups}) > 1
    return report


@pytest.mark.parametrize(
    ("order", "value"),
    [
        ("size", lambda group: -len(group.copies)),
        ("loosest", lambda group: group.least_similarity),
        ("tightest", lambda group: -group.least_similarity),
    ],
)
def test_groups_come_in_the_order_asked_for(dataset, found, order, value):
    numbers = list_groups(dataset, load_run(dataset, "duplicates"), order)
    values = [value(found.groups[number - 1]) for number in numbers]
    assert values == sorted(values)
    assert sorted(numbers) == list(range(1, len(found.groups) + 1))


def test_another_search_under_the_same_key_is_listed_anew(dataset, found):
    before = list_groups(dataset, load_run(dataset, "duplicates"))
    exact = find_duplicates(dataset, similarity=1.0)
    assert len(exact.groups) < len(before)
    assert len(list_groups(dataset, load_run(dataset, "duplicates"))) == len(exact.groups)


def test_a_group_tells_what_the_report_found(dataset, found):
    for number, group in enumerate(found.groups, 1):
        read = read_group(dataset, "duplicates", number)
        assert (read.number, read.size) == (number, 1 + len(group.copies))
        assert read.least_similarity == group.least_similarity
        assert not read.is_apart
        keeper, *others = read.members
        assert (keeper.id, keeper.role, keeper.reason) == (group.keeper, "keeper", group.reason)
        told = [(each.id, each.path, each.kind, each.similarity) for each in others]
        assert told == [(c.id, c.path, c.kind, c.similarity) for c in group.copies]


def test_the_chosen_keeper_comes_first_and_a_kept_group_says_so(dataset, found):
    chosen = found.groups[0].copies[-1].id
    keep_this(dataset, "duplicates", chosen)
    assert read_group(dataset, "duplicates", 1).members[0].id == chosen
    keep_all(dataset, "duplicates", 1)
    read = read_group(dataset, "duplicates", 1)
    assert read.is_apart
    assert read.size == 1 + len(found.groups[0].copies)


def test_files_tags_and_labels_are_told(dataset, fill, pictures):
    first = draw(pictures / "0.png", 0, side=48)
    copies = [shutil.copyfile(first, pictures / f"copy {n}.png") for n in range(2)]
    ids = fill([first, *copies])
    dataset.select(ids[0]).tag_samples("night")
    boxes = [fo.Detection(label="b", bounding_box=[0, 0, 1, 1])] * 2
    dataset.set_values("boxes", {ids[0]: fo.Detections(detections=boxes)}, key_field="id")
    dataset.set_values("kind", {ids[0]: fo.Classification(label="cat")}, key_field="id")
    find_exact_duplicates(dataset)
    Path(copies[1]).write_text("no picture")
    Path(copies[0]).unlink()
    by_path = {m.path: m for m in read_group(dataset, "exact_duplicates", 1).members}
    whole, gone, bad = (by_path[str(path)] for path in (first, *copies))
    assert (whole.size, whole.n_bytes) == ((48, 48), Path(first).stat().st_size)
    assert whole.written.timestamp() == pytest.approx(Path(first).stat().st_mtime, abs=1)
    assert (list(whole.tags), whole.labels) == (["night"], {"boxes": "2 detections", "kind": "cat"})
    assert (gone.size, gone.n_bytes, gone.written) == (None, None, None)
    assert (bad.size, bad.n_bytes) == (None, len("no picture"))
    assert (list(bad.tags), bad.labels) == ([], {})


def test_of_a_large_group_the_best_are_shown(dataset, fill, pictures):
    first = draw_many(pictures, 1)[0]
    copies = [shutil.copyfile(first, pictures / f"{n:04}.png") for n in range(1, MOST_SHOWN + 5)]
    fill([first, *copies])
    (group,) = find_exact_duplicates(dataset).groups
    read = read_group(dataset, "exact_duplicates", 1)
    assert read.size == MOST_SHOWN + 5
    expected = [group.keeper, *(copy.id for copy in group.copies)][:MOST_SHOWN]
    assert [member.id for member in read.members] == expected


def test_a_group_whose_samples_are_gone(dataset, found):
    group = found.groups[0]
    dataset.delete_samples([group.keeper, *(copy.id for copy in group.copies)])
    assert read_group(dataset, "duplicates", 1) is None
    assert read_group(dataset, "duplicates", 99) is None
