"""F15 for datasets: files and samples go together, and come back together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import (
    apply_file_removal,
    find_exact_duplicates,
    plan_file_removal,
    restore_removed,
    undo_file_removal,
)
from fiftyone_isoclip.errors import DatasetError, IsoClipError, RemovalError
from fiftyone_isoclip.files import read_plan, write_plan
from tests.pictures import draw, draw_many
from tests.removals import look
from tests.terminal import isoclip, sentence

KEY = "exact_duplicates"


@pytest.fixture
def filled(dataset, pictures):
    """Three pictures; of the first two a tagged copy each, one of these in two samples."""
    paths = draw_many(pictures, 3)
    copies = [shutil.copy(path, pictures / f"{Path(path).stem}-a-copy.png") for path in paths[:2]]
    (pictures / "link.png").symlink_to(copies[1])
    samples = [fo.Sample(filepath=path) for path in paths]
    samples += [fo.Sample(filepath=path, tags=["from a copy"]) for path in copies]
    samples += [fo.Sample(filepath=str(pictures / "link.png"))]
    dataset.add_samples(samples, progress=False)
    find_exact_duplicates(dataset)
    return dataset


def state(dataset):
    """Every sample with its path, but for what is merged into keepers and when it was made."""
    return {str(s.id): s.filepath for s in dataset}


def names(dataset):
    return sorted(Path(path).name for path in dataset.values("filepath"))


def test_f15_files_and_samples_go_together_and_come_back_together(filled, pictures):
    before, files = state(filled), look(pictures)
    plan = plan_file_removal(filled, KEY)
    assert {Path(r.file.path).name for r in plan.removals} == {"000-a-copy.png", "001-a-copy.png"}
    assert state(filled) == before
    apply_file_removal(plan)
    assert names(filled) == ["000.png", "001.png", "002.png"]
    assert all(Path(path).is_file() for path in filled.values("filepath"))
    tags = dict(zip(names(filled), filled.sort_by("filepath").values("tags"), strict=True))
    assert tags == {"000.png": ["from a copy"], "001.png": ["from a copy"], "002.png": []}
    undo_file_removal(plan)
    assert state(filled) == before
    assert look(pictures) == files
    assert not fo.dataset_exists(f"{filled.name}-removed")


def test_f15_what_was_removed_otherwise_is_not_brought_back_by_undo(filled, pictures):
    from fiftyone_isoclip.dataset import resolve_duplicates

    draw(pictures / "003.png", 9)
    shutil.copy(pictures / "003.png", pictures / "003-a-copy.png")
    more = [fo.Sample(filepath=str(pictures / f"003{end}.png")) for end in ("", "-a-copy")]
    filled.add_samples(more, progress=False)
    find_exact_duplicates(filled)
    number = (
        filled.match_tags("none").count()
        + filled.one(fo.ViewField("filepath").ends_with("003.png"))[f"{KEY}_group"]
    )
    resolve_duplicates(filled, KEY, "remove", groups=[number])
    plan = plan_file_removal(filled, KEY)
    apply_file_removal(plan)
    assert restore_removed(filled) == 1  # the others have no file to come back to
    assert names(filled) == ["000.png", "001.png", "002.png", "003-a-copy.png", "003.png"]
    resolve_duplicates(filled, KEY, "remove", groups=[number])
    undo_file_removal(plan)
    assert "000-a-copy.png" in names(filled)
    assert "003-a-copy.png" not in names(filled)
    assert restore_removed(filled) == 1


def test_f15_a_removal_broken_off_between_files_and_samples_is_ended_by_applying_again(
    filled, pictures, monkeypatch
):
    before, files = state(filled), look(pictures)
    plan = plan_file_removal(filled, KEY)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fiftyone_isoclip.dataset.file_removal.archive_samples", killed)
        with pytest.raises(KeyboardInterrupt):
            apply_file_removal(plan)
    assert state(filled) == before
    report = apply_file_removal(plan)
    assert (len(report.moved), len(report.already)) == (0, 2)
    assert names(filled) == ["000.png", "001.png", "002.png"]
    undo_file_removal(plan)
    assert state(filled) == before
    assert look(pictures) == files


def test_f15_a_group_said_to_be_no_duplicates_is_not_planned(filled):
    from fiftyone_isoclip.dataset.review import keep_all

    keep_all(filled, KEY, 1)
    assert len(plan_file_removal(filled, KEY).removals) == 1


def test_f15_a_run_made_anew_since_the_plan_is_refused(filled, pictures):
    files = look(pictures)
    plan = plan_file_removal(filled, KEY)
    find_exact_duplicates(filled)
    with pytest.raises(RemovalError, match="made anew"):
        apply_file_removal(plan)
    assert look(pictures) == files


def test_f15_a_sample_whose_file_changed_stays_with_its_file(filled, pictures):
    plan = plan_file_removal(filled, KEY)
    draw(pictures / "000-a-copy.png", 77)
    report = apply_file_removal(plan)
    assert len(report.moved) == 1
    assert names(filled) == ["000-a-copy.png", "000.png", "001.png", "002.png"]


def test_f15_a_renamed_dataset_is_found_and_one_that_is_gone_is_told(filled, pictures, tmp_path):
    files = look(pictures)
    plan = plan_file_removal(filled, KEY)
    filled.name = f"{filled.name}-new"
    apply_file_removal(plan)
    assert names(filled) == ["000.png", "001.png", "002.png"]
    archive = fo.load_dataset(f"{filled.name}-removed")
    filled.delete()
    archive.delete()
    with pytest.raises(RemovalError, match=r"is gone.*--files-only"):
        undo_file_removal(plan)
    write_plan(tmp_path / "plan.json", plan)
    assert isoclip("undo", tmp_path / "plan.json", "--files-only").exit_code == 0
    assert look(pictures) == files


def test_f15_the_command_line_takes_away_brings_back_and_purges(filled, pictures, tmp_path):
    before, files = state(filled), look(pictures)
    file = tmp_path / "plan.json"
    write_plan(file, plan_file_removal(filled, KEY))
    told = isoclip("apply", file)
    assert told.exit_code == 0, told.output
    assert "2 files were taken away" in told.stdout
    assert len(filled) == 3
    assert isoclip("undo", file).exit_code == 0
    assert (state(filled), look(pictures)) == (before, files)
    isoclip("apply", file)
    refused = isoclip("purge", file)  # nobody answers the question
    assert refused.exit_code == 1
    assert any(os.path.lexists(removal.place) for removal in read_plan(file).removals)
    assert isoclip("purge", file, "--yes").exit_code == 0
    assert not any(os.path.lexists(removal.place) for removal in read_plan(file).removals)
    assert sorted(path.name for path in pictures.iterdir() if path.is_file()) == names(filled)
    assert "is no plan" in sentence(isoclip("apply", pictures / "000.png"))


def test_f15_a_plan_of_a_dataset_is_not_made_from_its_files_alone(filled, tmp_path):
    told = sentence(isoclip("duplicates", f"dataset:{filled.name}", "--plan", tmp_path / "p.json"))
    assert "plan_file_removal" in told
    assert not (tmp_path / "p.json").exists()


def test_f15_there_is_no_plan_without_a_run(filled):
    with pytest.raises(DatasetError, match="no duplicates run"):
        plan_file_removal(filled, "other")
    assert issubclass(DatasetError, IsoClipError)
