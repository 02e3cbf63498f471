"""Take files away, bring them back and purge them, dying at every step: `python -m tests.removals`.

    python -m tests.removals SEED EXAMPLES

Hypothesis draws folders of pictures with copies, hard links, symlinks and paths listed twice, and
groups of them right or wrong. Each system call that changes the disk is a step; a child process
dies before it, after it, or with half of its bytes written, and what must hold then is asserted.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from PIL import Image

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files.groups import FileGroup, FileMember
from fiftyone_isoclip.files.removal import apply_plan, plan_removal, purge_plan, undo_plan

CALLS = ("mkdir", "open", "write", "fsync", "rename", "link", "unlink", "rmdir")
IN_MEMORY = next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)
"""Killing a process loses nothing of a file system in memory, and waiting for a disk takes long."""

MOMENTS = {"before": CALLS, "halfway": ("write",), "after": CALLS}


def _picture(shade):
    content = BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


CONTENTS = {"a": _picture(1), "b": _picture(2), "c": _picture(3), "text": b"no picture"}
NAMES = [f"{folder}{name}.png" for folder in ("", "sub/", "sub/deep/") for name in "pqr"]

FILES = st.one_of(
    st.tuples(st.just("file"), st.sampled_from(["a", "a", "b"])),
    st.tuples(st.just("file"), st.sampled_from(["a", "a", "b"])),
    st.tuples(st.just("file"), st.sampled_from([*CONTENTS])),
    st.tuples(st.sampled_from(["hard link", "symlink"]), st.integers(0, 8)),
    st.tuples(st.just("link outside"), st.just(0)),
)
TREES = st.lists(FILES, min_size=3, max_size=len(NAMES))
GROUPS = st.lists(
    st.lists(st.integers(0, len(NAMES)), min_size=2, max_size=4), min_size=1, max_size=3
)


def plant(home, tree):
    """Make a folder of pictures under a folder that also has one outside; -> its paths."""
    root, outside = home / "root", home / "outside.png"
    (root / "sub" / "deep").mkdir(parents=True)
    outside.write_bytes(CONTENTS["a"])
    paths = [root / name for name in NAMES[: len(tree)]]
    for path, (kind, what) in zip(paths, tree, strict=True):
        if kind == "file":
            path.write_bytes(CONTENTS[what])
        elif kind == "link outside":
            path.symlink_to(outside)
        else:
            target = paths[what % len(paths)]
            if kind == "symlink" or not target.is_file() or target.is_symlink():
                path.symlink_to(target)
            else:
                path.hardlink_to(target)
    return [*paths, outside]


def look(home):
    """All there is: every name with what it is; names of one file share a number."""
    seen = {}
    files = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.is_symlink():
            seen[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            seen[name] = ("folder",)
        elif not path.is_file():
            seen[name] = ("neither",)
        else:
            number = files.setdefault(path.stat().st_ino, len(files))
            seen[name] = ("file", path.read_bytes(), number)
    return seen


def drawn_groups(paths, drawn):
    """Groups as a search would list them; a path may be in several, and be its own copy."""
    for numbers in drawn:
        keeper, *others = (str(paths[number % len(paths)]) for number in numbers)
        yield FileGroup(keeper, "drawn", 0.9, tuple(FileMember(o, 0.95, "near") for o in others))


def die_at(step, moment):
    """Make the step-th of the calls end this process at a moment."""
    taken = 0

    def dying(call):
        def instead(*args, **kwargs):
            nonlocal taken
            taken += 1
            if taken != step:
                return call(*args, **kwargs)
            try:
                if moment == "halfway":
                    call(args[0], args[1][: len(args[1]) // 2])
                elif moment == "after":
                    call(*args, **kwargs)
            finally:
                os._exit(9)

        return instead

    for name in MOMENTS[moment]:
        setattr(os, name, dying(getattr(os, name)))


def dies(action, plan, step, moment):
    """Do something with a plan in a child that dies at a step; -> whether there was such a step."""
    child = os.fork()
    if child == 0:
        die_at(step, moment)
        try:
            action(plan)
        finally:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def readable_contents(root):
    found = set()
    for path in root.rglob("*"):
        if ".isoclip-quarantine" in path.parts or path.is_symlink() or not path.is_file():
            continue
        try:
            read_image(path)
        except ImageError:
            continue
        found.add(path.read_bytes())
    return found


def check_safe(home, start, plan, near):
    """What must hold at any moment before the purge, and after it."""
    now = look(home)
    for name, what in start.items():
        if what[0] == "link" or not name.startswith("root/"):
            assert now.get(name) == what, f"{name} was touched"
    for group in plan.groups:
        name = str(Path(group.keeper.path).relative_to(home))
        assert now[name][1] == start[name][1], "a keeper is not as it was"
    if not near:
        inside = {
            what[1] for name, what in start.items() if what[0] == "file" and "root/" in name
        } - {CONTENTS["text"]}
        assert inside <= readable_contents(home / "root"), "a content has no readable file left"


def expected_moves(start, plan, home):
    """Which files may go, by what the folder was: the oracle, from names and bytes alone."""
    names_of = defaultdict(list)
    for name, what in start.items():
        if what[0] == "file":
            names_of[what[2]].append(name)
    for removal in plan.removals:
        name = str(Path(removal.file.path).relative_to(home))
        assert start[name][0] == "file", "a link was planned"
        assert names_of[start[name][2]] == [name], "a file of several names was planned"
    return {removal.file.path for removal in plan.removals}


def explore(tree, drawn, near, moment, ends_with_purge):
    """Die at every step of apply and of undo (or purge), and look after each death."""
    step = 0
    while True:
        step += 1
        home = Path(tempfile.mkdtemp(prefix="isoclip-removal-", dir=IN_MEMORY))
        try:
            paths = plant(home, tree)
            start = look(home)
            plan = plan_removal(drawn_groups(paths, drawn), [home / "root"], near=near)
            assert look(home) == start, "planning changed something"
            assume(plan.groups)
            wanted = expected_moves(start, plan, home)
            in_apply = dies(apply_plan, plan, step, moment)
            check_safe(home, start, plan, near)
            if step % 2 == 0:  # what a person does after a crash: again, or back
                gone = apply_plan(plan)
                decodable = {
                    removal.file.path
                    for group in plan.groups
                    if start[str(Path(group.keeper.path).relative_to(home))][1] != CONTENTS["text"]
                    for removal in group.remove
                }
                assert set(gone.gone) == wanted & decodable
                assert {p for p in wanted if not os.path.lexists(p)} == set(gone.gone)
                check_safe(home, start, plan, near)
            last = purge_plan if ends_with_purge else undo_plan
            in_last = dies(last, plan, step, moment)
            check_safe(home, start, plan, near)
            if step % 3 == 0 and not ends_with_purge:  # thinks better of it
                gone = apply_plan(plan)
                assert {p for p in wanted if not os.path.lexists(p)} == set(gone.gone)
                check_safe(home, start, plan, near)
            report = last(plan)
            assert report.left == {}
            if ends_with_purge:
                check_safe(home, start, plan, near)
                assert not any(home.rglob(".isoclip-quarantine")), "the purge left something"
            else:
                assert look(home) == start, "undo did not bring the start back"
            if not (in_apply or in_last):
                return step
        finally:
            shutil.rmtree(home)


def main(seed: int, examples: int) -> None:
    steps = []

    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TREES, GROUPS, st.booleans(), st.sampled_from(list(MOMENTS)), st.booleans())
    def explored(tree, drawn, near, moment, ends_with_purge):
        steps.append(explore(tree, drawn, near, moment, ends_with_purge))

    explored()
    print(f"{len(steps)} folders, {sum(steps)} deaths, at most {max(steps)} steps")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
