"""F15: files are taken away so that nothing is lost, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files import (
    apply_plan,
    plan_removal,
    purge_plan,
    read_plan,
    undo_plan,
    write_plan,
)
from fiftyone_isoclip.files.groups import FileGroup, FileMember
from tests.conftest import REPO_ROOT
from tests.pictures import draw
from tests.removals import look


@pytest.fixture
def root(tmp_path):
    """Two pictures, a byte-identical copy of each, and a near one of the first."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name, seed in (("a", 1), ("b", 2), ("near", 3)):
        draw(root / f"{name}.png", seed)
    shutil.copy(root / "a.png", root / "sub" / "a copy.png")
    shutil.copy(root / "b.png", root / "sub" / "b copy.png")
    return root


def groups_of(root):
    return [
        _group(root / "a.png", root / "sub" / "a copy.png", root / "near.png"),
        _group(root / "b.png", root / "sub" / "b copy.png"),
    ]


def _group(keeper, *members):
    copies = tuple(FileMember(str(member), 0.95, "near") for member in members)
    return FileGroup(str(keeper), "largest", 0.9, copies)


def names(paths):
    return {Path(path).name for path in paths}


class TestKilled:
    """At every step, over folders that Hypothesis draws; see tests/removals.py."""

    def explore(self, seed, examples):
        command = [sys.executable, "-m", "tests.removals", str(seed), str(examples)]
        done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        folders, deaths, _ = (int(word) for word in done.stdout.split() if word.isdigit())
        assert folders > 0
        assert deaths > 5 * folders

    def test_f15_a_kill_at_any_step_is_mended_or_undone(self, seed):
        self.explore(seed, 15)

    @pytest.mark.long
    @pytest.mark.timeout(1800)
    def test_f15_a_kill_at_any_step_of_many_folders(self, seed):
        self.explore(seed, 800)


class TestPlan:
    def test_f15_only_identical_copies_are_planned_unless_near_ones_are_asked_for(self, root):
        before = look(root)
        plan = plan_removal(groups_of(root), [root])
        assert names(r.file.path for r in plan.removals) == {"a copy.png", "b copy.png"}
        assert plan.n_bytes == sum(
            (root / "sub" / name).stat().st_size for name in ("a copy.png", "b copy.png")
        )
        assert "not byte-identical" in plan.skipped[str(root / "near.png")]
        near = plan_removal(groups_of(root), [root], near=True)
        assert {Path(r.file.path).name: r.kind for r in near.removals} == {
            "a copy.png": "exact",
            "b copy.png": "exact",
            "near.png": "near",
        }
        assert look(root) == before

    def test_f15_aliases_are_never_planned(self, root, tmp_path):
        keeper = root / "a.png"
        (root / "hard.png").hardlink_to(keeper)
        (root / "soft.png").symlink_to(keeper)
        (root / "sub" / "twice.png").hardlink_to(root / "sub" / "b copy.png")
        (tmp_path / "linked").symlink_to(root, target_is_directory=True)
        group = _group(
            keeper,
            keeper,
            root / "hard.png",
            root / "soft.png",
            tmp_path / "linked" / "a.png",
            root / "sub" / ".." / "a.png",
            root / "sub" / "b copy.png",
        )
        plan = plan_removal([group], [root], near=True)
        assert plan.removals == []
        assert len(plan.skipped) == 6

    def test_f15_what_is_no_file_of_its_own_is_never_planned(self, root):
        shutil.copy(root / "a.png", root / "unlisted.png")
        (root / "soft.png").symlink_to(root / "unlisted.png")
        (root / "dangling.png").symlink_to(root / "nowhere.png")
        (root / "loop.png").symlink_to(root / "loop.png")
        os.mkfifo(root / "pipe.png")
        names = ("soft.png", "dangling.png", "loop.png", "pipe.png", "sub", "gone.png", "a\0b.png")
        plan = plan_removal([_group(root / "a.png", *(root / n for n in names))], [root], near=True)
        assert plan.removals == []
        assert len(plan.skipped) == len(names)
        assert plan.skipped[str(root / "soft.png")].startswith("it is a link")

    def test_f15_a_keeper_of_one_group_is_not_taken_by_another(self, root):
        crossed = [
            _group(root / "a.png", root / "sub" / "a copy.png"),
            _group(root / "sub" / "a copy.png", root / "a.png"),
        ]
        assert plan_removal(crossed, [root]).removals == []

    def test_f15_nothing_outside_of_the_roots_is_planned(self, root, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        shutil.copy(root / "a.png", outside / "copy.png")
        (root / "door").symlink_to(outside, target_is_directory=True)
        group = _group(root / "a.png", outside / "copy.png", root / "door" / "copy.png")
        plan = plan_removal([group], [root])
        assert plan.removals == []
        assert all("outside of" in reason for reason in plan.skipped.values())
        other_way = plan_removal([_group(root / "door" / "copy.png", root / "a.png")], [root])
        assert other_way.removals == []

    @pytest.mark.parametrize("harm", ["edited", "cut", "text", "gone", "other format", "crossed"])
    def test_f15_a_plan_that_is_not_as_written_is_refused(self, root, tmp_path, harm):
        plan = plan_removal(groups_of(root), [root])
        file = tmp_path / "plan.json"
        write_plan(file, plan)
        assert read_plan(file) == plan
        content = file.read_text()
        if harm == "edited":
            file.write_text(content.replace("a copy.png", "a.png"))
        elif harm == "cut":
            file.write_text(content[: len(content) // 2])
        elif harm == "text":
            file.write_text("[]")
        elif harm == "gone":
            file.unlink()
        elif harm == "other format":
            file.write_text(json.dumps(json.loads(content) | {"format": 2}))
        else:
            group = plan.groups[0]
            removal = group.remove[0]
            crossed = type(group)(removal.file, "", (type(removal)(group.keeper, *_rest(removal)),))
            broken = type(plan)(plan.id, plan.created, plan.roots, (group, crossed))
            write_plan(file, broken)
            with pytest.raises(RemovalError, match="that it keeps"):
                apply_plan(broken)
        before = look(root)
        with pytest.raises(RemovalError):
            read_plan(file)
        assert look(root) == before


def _rest(removal):
    return removal.kind, removal.similarity, removal.place


def _grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def _touch_same_size(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _exchange(path):
    """Another file with the same bytes: a new inode."""
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _link_to_copy(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


def _folder_becomes_link(path):
    aside = path.parent.with_name(f"{path.parent.name}-moved")
    path.parent.rename(aside)
    path.parent.symlink_to(aside, target_is_directory=True)


CHANGES = {
    "deleted": os.unlink,
    "grown": _grow,
    "a byte changed": _touch_same_size,
    "exchanged": _exchange,
    "a link now": _link_to_copy,
    "a pipe now": _fifo,
}


class TestApply:
    @pytest.mark.parametrize("who", ["a.png", "sub/a copy.png"])
    @pytest.mark.parametrize("change", CHANGES)
    def test_f15_a_group_in_which_anything_changed_is_left_alone(self, root, who, change):
        plan = plan_removal(groups_of(root), [root])
        CHANGES[change](root / who)
        before = look(root)
        report = apply_plan(plan)
        assert names(report.moved) == {"b copy.png"}
        assert names(report.skipped) == {"a copy.png"}
        undo_plan(plan)
        assert look(root) == before

    def test_f15_a_folder_that_became_a_link_is_not_followed(self, root):
        plan = plan_removal(groups_of(root), [root])
        _folder_becomes_link(root / "sub" / "a copy.png")
        before = look(root)
        assert apply_plan(plan).moved == ()
        assert look(root) == before

    def test_f15_a_new_name_of_a_file_makes_it_stay(self, root):
        plan = plan_removal(groups_of(root), [root])
        (root / "again.png").hardlink_to(root / "sub" / "a copy.png")
        report = apply_plan(plan)
        assert names(report.moved) == {"b copy.png"}
        assert "hard link" in report.skipped[str(root / "sub" / "a copy.png")]

    def test_f15_a_keeper_that_cannot_be_decoded_keeps_its_copies(self, root):
        for name in ("a.png", "sub/a copy.png"):
            (root / name).write_bytes(b"these bytes are no picture")
        report = apply_plan(plan_removal(groups_of(root), [root]))
        assert names(report.moved) == {"b copy.png"}
        assert "not a picture" in report.skipped[str(root / "sub" / "a copy.png")]

    def test_f15_applied_twice_nothing_more_happens_and_undone_twice_neither(self, root):
        before = look(root)
        plan = plan_removal(groups_of(root), [root], near=True)
        assert len(apply_plan(plan).moved) == 3
        once = look(root)
        again = apply_plan(plan)
        assert (again.moved, len(again.already)) == ((), 3)
        assert look(root) == once
        assert len(undo_plan(plan).restored) == 3
        assert undo_plan(plan).restored == ()
        assert look(root) == before

    def test_f15_each_move_is_on_the_disk_before_it_happens(self, root, monkeypatch):
        plan = plan_removal(groups_of(root), [root], near=True)
        journal = Path(plan.folders[0], "journal.jsonl")
        synced = b""
        renamed = []
        fsync, rename = os.fsync, os.rename

        def syncing(handle):
            nonlocal synced
            fsync(handle)
            if journal.exists() and os.path.samestat(os.fstat(handle), journal.stat()):
                synced = journal.read_bytes()

        def renaming(source, target):
            assert json.dumps(source).encode() in synced
            renamed.append(source)
            rename(source, target)

        monkeypatch.setattr(os, "fsync", syncing)
        monkeypatch.setattr(os, "rename", renaming)
        assert set(apply_plan(plan).moved) == set(renamed)
        assert len(renamed) == 3

    def test_f15_a_disk_without_room_for_the_journal_moves_nothing_more(self, root, monkeypatch):
        before = look(root)
        plan = plan_removal(groups_of(root), [root], near=True)
        write, lines = os.write, []

        def full(handle, data):
            lines.append(data)
            if len(lines) == 2:
                write(handle, data[:40])
                raise OSError(28, "No space left on device")
            return write(handle, data)

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(RemovalError, match=r"No space left.*bytes are free.*undo"):
                apply_plan(plan)
        assert len(look(root)) > 0
        assert names(r.file.path for r in plan.removals if not os.path.lexists(r.file.path)) == {
            "a copy.png"
        }
        assert len(apply_plan(plan).moved) == 2
        assert len(undo_plan(plan).restored) == 3
        assert look(root) == before

    def test_f15_a_file_exchanged_after_the_check_goes_back(self, root, monkeypatch):
        plan = plan_removal(groups_of(root), [root])
        doomed, mine = root / "sub" / "a copy.png", b"put here at the last moment"
        rename = os.rename

        def renaming(source, target):
            if source == str(doomed):
                (root / "new").write_bytes(mine)
                (root / "new").replace(doomed)
            rename(source, target)

        monkeypatch.setattr(os, "rename", renaming)
        report = apply_plan(plan)
        assert names(report.moved) == {"b copy.png"}
        assert "replaced" in report.skipped[str(doomed)]
        assert doomed.read_bytes() == mine

    def test_f15_two_plans_at_once_never_take_both_copies(self, root):
        """The second plan keeps what the first one takes away, and the other way round."""
        taken = []
        for _ in range(25):
            one = plan_removal([_group(root / "a.png", root / "sub" / "a copy.png")], [root])
            other = plan_removal([_group(root / "sub" / "a copy.png", root / "a.png")], [root])
            barrier, reports = threading.Barrier(2), []

            def work(plan, barrier=barrier, reports=reports):
                barrier.wait()
                reports.append(apply_plan(plan))

            workers = [threading.Thread(target=work, args=(plan,)) for plan in (one, other)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            moved = [path for report in reports for path in report.moved]
            assert len(moved) < 2
            taken += moved
            assert len(undo_plan(one).restored) + len(undo_plan(other).restored) == len(moved)
        assert taken

    def test_f15_a_plan_is_applied_by_one_process_at_a_time(self, root):
        plan = plan_removal(groups_of(root), [root])
        holder = (
            "import sys\nfrom pathlib import Path\n"
            "from fiftyone_isoclip.files.removal.journal import start_journal\n"
            "with start_journal(Path(sys.argv[1])):\n    print('held', flush=True)\n    input()\n"
        )
        command = [sys.executable, "-c", holder, plan.folders[0]]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": REPO_ROOT}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout.readline() == b"held\n"
            for verb in (apply_plan, undo_plan, purge_plan):
                with pytest.raises(RemovalError, match="another process is working"):
                    verb(plan)
            process.kill()
        assert len(apply_plan(plan).moved) == 2


class TestUndoAndPurge:
    def test_f15_undo_overwrites_nothing(self, root):
        plan = plan_removal(groups_of(root), [root])
        apply_plan(plan)
        mine = root / "sub" / "a copy.png"
        mine.write_bytes(b"written since")
        report = undo_plan(plan)
        assert names(report.restored) == {"b copy.png"}
        assert "another file has its name" in report.left[str(mine)]
        assert mine.read_bytes() == b"written since"
        mine.unlink()
        assert names(undo_plan(plan).restored) == {"a copy.png"}
        assert mine.read_bytes() == (root / "a.png").read_bytes()

    def test_f15_undo_makes_a_folder_again_that_is_gone(self, root):
        before = look(root)
        plan = plan_removal(groups_of(root), [root])
        apply_plan(plan)
        (root / "sub").rmdir()
        undo_plan(plan)
        assert look(root) == before

    def test_f15_undo_without_hard_links(self, root, monkeypatch):
        before = look(root)
        plan = plan_removal(groups_of(root), [root])
        apply_plan(plan)

        def refused(*args, **kwargs):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
        undo_plan(plan)
        assert look(root) == before

    def test_f15_a_damaged_journal_is_named_and_nothing_is_done(self, root):
        plan = plan_removal(groups_of(root), [root])
        apply_plan(plan)
        journal = next(root.rglob("journal.jsonl"))
        journal.write_bytes(journal.read_bytes().replace(b"a copy.png", b"x copy.png"))
        before = look(root)
        for verb in (apply_plan, undo_plan, purge_plan):
            with pytest.raises(RemovalError, match=r"line 1 of .* is damaged"):
                verb(plan)
        assert look(root) == before

    @pytest.mark.parametrize("change", ["deleted", "a byte changed", "a link now"])
    def test_f15_purge_keeps_what_has_lost_its_keeper(self, root, change):
        plan = plan_removal(groups_of(root), [root])
        apply_plan(plan)
        CHANGES[change](root / "a.png")
        report = purge_plan(plan)
        assert names(report.purged) == {"b copy.png"}
        assert report.n_bytes == (root / "b.png").stat().st_size
        assert names(report.left) == {"a copy.png"}
        assert names(undo_plan(plan).restored) == {"a copy.png"}
