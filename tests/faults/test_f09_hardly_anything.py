"""No samples, one, two, all the same, all failed: whatever is asked, an answer or a sentence.

What is asked is taken from the registries, so that whatever is new has to be tried here, too.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import fiftyone as fo
import pytest

import fiftyone_isoclip
import fiftyone_isoclip.dataset as verbs
from fiftyone_isoclip import files, load_clip
from fiftyone_isoclip.app import OPERATORS, PANELS
from fiftyone_isoclip.app.panel import IsoClipPanel
from fiftyone_isoclip.app.panel.panel import TABS
from fiftyone_isoclip.cli.commands import COMMANDS
from fiftyone_isoclip.dataset.resolving import archive_name
from fiftyone_isoclip.errors import IsoClipError
from tests.operators import Offered
from tests.panels import Panel, texts
from tests.pictures import draw_many
from tests.terminal import isoclip, sentence

MODEL, FIELD = "isoclip-demo", "clip_embedding"


@dataclass(frozen=True, slots=True)
class Case:
    """Samples: how many there are, have a vector, failed, and are a copy of another one."""

    samples: Any
    n: int
    held: int = 0
    failed: int = 0
    copies: int = 0
    refused: bool = False

    @property
    def dataset(self) -> fo.Dataset:
        return self.samples._root_dataset


def paint(folder: Path, kind: str) -> list[str]:
    """The picture files of a case."""
    folder.mkdir()
    if kind == "failed":
        for number in range(3):
            (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]) * 40)
        return sorted(map(str, folder.iterdir()))
    drawn = {"one": 1, "two": 2, "same": 1}.get(kind, 0)
    paths = draw_many(folder, drawn)
    if kind == "same":
        paths += [shutil.copyfile(paths[0], folder / f"copy{n}.png") for n in range(3)]
    return [str(path) for path in paths]


def build(folder: Path, kind: str) -> Case:
    dataset = fo.Dataset(f"f09-{kind}-{uuid4().hex}")
    if kind == "nothing":
        return Case(dataset, 0)
    if kind in ("video", "solid"):
        ending = {"video": "mp4", "solid": "fo3d"}[kind]
        dataset.add_samples([fo.Sample(filepath=f"/nowhere/{n}.{ending}") for n in range(2)])
        return Case(dataset, 2, refused=True)
    if kind == "grouped":
        dataset.add_group_field("group", default="left")
        group = fo.Group()
        dataset.add_samples(
            fo.Sample(filepath=path, group=group.element(side))
            for path, side in zip(draw_many(folder, 2), ("left", "right"), strict=True)
        )
        return Case(dataset, 1, refused=True)
    shape = {"bare": "two", "view": "two"}.get(kind, kind)
    paths = paint(folder, shape)
    for number, path in enumerate(paths):
        dataset.add_sample(fo.Sample(filepath=path, tags=[("train", "test")[number % 2]]))
    if kind == "bare":
        return Case(dataset, 2)
    verbs.embed(dataset, MODEL, progress=False)
    if kind == "view":
        return Case(dataset.match_tags("nobody"), 0)
    n = len(paths)
    if kind == "failed":
        return Case(dataset, n, failed=n)
    return Case(dataset, n, held=n, copies=n - 1 if kind == "same" else 0)


QUICK = ("none", "one", "same", "failed", "video")
LONG = ("nothing", "two", "bare", "view", "grouped", "solid")
KINDS = (*QUICK, *(pytest.param(kind, marks=pytest.mark.long) for kind in LONG))


@pytest.fixture(scope="module", params=KINDS)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    made = build(tmp_path_factory.mktemp("f09") / "pictures", request.param)
    yield made
    for name in (made.dataset.name, archive_name(made.dataset)):
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


def first_id(case: Case) -> str:
    return case.samples.first().id if len(case.samples) else "6" * 24


def remove_files(case: Case) -> int:
    plan = verbs.plan_file_removal(case.dataset, "exact_duplicates")
    n = len(case.dataset)
    gone = len(verbs.apply_file_removal(plan).moved)
    assert len(case.dataset) == n - gone
    assert len(verbs.undo_file_removal(plan).restored) == gone
    return gone


def import_again(case: Case) -> Any:
    """Import a store of the very images that the dataset has, by their sample ids."""
    pytest.importorskip("pyarrow", reason="stores of shards need the extra ray")
    from tests.made_stores import make_store

    ids, paths = case.dataset.values(["id", "filepath"])
    with TemporaryDirectory() as folder:
        failures = dict.fromkeys(range(case.failed), "it is no image")
        store = make_store(Path(folder), paths, ids=ids, failures=failures)
        return verbs.import_store(store.uri, case.dataset, field="imported")


def import_groups(case: Case) -> Any:
    """Import a file that says that all samples with a vector are one group, and undo it."""
    pytest.importorskip("pyarrow", reason="stores of shards need the extra ray")
    from tests.made_stores import write_groups

    held = case.dataset.exists(FIELD) if case.dataset.has_field(FIELD) else case.dataset
    ids, paths = held.values(["id", "filepath"])
    with TemporaryDirectory() as folder:
        groups = [list(zip(ids, paths, strict=True))] if ids else []
        file = write_groups(Path(folder, "groups"), groups, load_clip(MODEL).fingerprint)
        report = verbs.import_duplicates(file, case.dataset, key="imported_groups")
    verbs.delete_run(case.dataset, "imported_groups")
    return report


# In the order of a session: what a verb made is what the next one reads.
VERBS: dict[str, Callable[[Case], Any]] = {
    "register": lambda _: verbs.register(),
    "load_model": lambda _: verbs.load_model(MODEL),
    "embed": lambda c: verbs.embed(c.samples, MODEL, "mine", progress=False),
    "import_store": import_again,
    "import_duplicates": import_groups,
    "fit_centre": lambda c: verbs.fit_centre(c.samples),
    "upgrade": lambda c: verbs.upgrade(c.samples, FIELD, MODEL),
    "find_duplicates": lambda c: verbs.find_duplicates(c.samples, least=0.5, at_most=1),
    "find_exact_duplicates": lambda c: verbs.find_exact_duplicates(c.samples),
    "find_clusters": lambda c: [
        verbs.find_clusters(c.samples, method="leiden", key="other"),
        verbs.find_clusters(c.samples),
    ][1],
    "guide_threshold": lambda c: verbs.guide_threshold(c.samples, pictures=2),
    "find_leaks": lambda c: verbs.find_leaks(c.samples, splits=["train", "test"]),
    "compare_with_clip": lambda c: verbs.compare_with_clip(c.samples, label_field=None),
    "compare_spaces": lambda c: verbs.compare_spaces(c.samples),
    "evaluate": lambda c: verbs.evaluate(c.samples, "filepath"),
    "map_embeddings": lambda c: verbs.map_embeddings(c.samples),
    "tune_band": lambda c: verbs.tune_band(c.samples, copies=True),
    "build_similarity": lambda c: verbs.build_similarity(c.samples, MODEL, brain_key="found"),
    "refresh_similarity": lambda c: verbs.refresh_similarity(c.dataset, "found"),
    "find_changes": lambda c: [
        verbs.find_changes(c.dataset.load_brain_results(key))
        for key in c.dataset.list_brain_runs(type="similarity")
    ],
    "find_similar": lambda c: [
        verbs.find_similar(c.samples, text="a red square"),
        verbs.find_similar(c.samples, first_id(c)),
    ][0],
    "load_duplicates": lambda c: verbs.load_duplicates(c.dataset),
    "load_clusters": lambda c: verbs.load_clusters(c.dataset),
    "load_leaks": lambda c: verbs.load_leaks(c.dataset),
    "load_evaluation": lambda c: verbs.load_evaluation(c.dataset),
    "load_disagreements": lambda c: verbs.load_disagreements(c.dataset),
    "load_comparison": lambda c: verbs.load_comparison(c.dataset),
    "load_tuning": lambda c: verbs.load_tuning(c.dataset),
    "outliers_view": lambda c: verbs.outliers_view(c.dataset, "clusters"),
    "name_cluster": lambda c: verbs.name_cluster(c.dataset, "clusters", "0", "zero"),
    "name_clusters_by": lambda c: verbs.name_clusters_by(c.dataset, "clusters", "mine_error"),
    "list_runs": lambda c: verbs.list_runs(c.dataset),
    "load_run": lambda c: verbs.load_run(c.dataset, "duplicates"),
    "find_staleness": lambda c: verbs.find_staleness(
        c.dataset, verbs.load_run(c.dataset, "duplicates"), thorough=True
    ),
    "rerun": lambda c: verbs.rerun(c.dataset, verbs.load_run(c.dataset, "clusters").key),
    "say_not_duplicates": lambda c: verbs.say_not_duplicates(c.samples, [], [first_id(c)]),
    "prefer_keeper": lambda c: verbs.prefer_keeper(c.samples, first_id(c), []),
    "read_verdicts": lambda c: verbs.read_verdicts(c.samples),
    "forget_verdicts": lambda c: verbs.forget_verdicts(c.samples),
    "plan_file_removal": remove_files,
    "resolve_duplicates": lambda c: [
        verbs.resolve_duplicates(c.dataset, "duplicates", action)
        for action in ("tag", "keep", "remove")
    ],
    "restore_removed": lambda c: verbs.restore_removed(c.dataset),
    "rename_run": lambda c: verbs.rename_run(c.dataset, "duplicates", "renamed"),
    "delete_run": lambda c: verbs.delete_run(c.dataset, "renamed"),
}
NEED_NO_SAMPLES = {"register", "load_model", "find_changes"}
WITH_THE_PLAN = {"apply_file_removal", "undo_file_removal"}

EXPECTED: dict[str, Callable[[Case, Any], bool]] = {
    "embed": lambda c, r: (r.computed + len(r.failed), r.kept) == (c.n, 0),
    "import_store": lambda c, r: (
        (r.images, r.failed, r.added, r.written)
        == (len(c.dataset), c.failed, 0, len(c.dataset) - c.failed)
    ),
    "import_duplicates": lambda c, r: sum(len(g.copies) for g in r.groups) == max(0, c.held - 1),
    "upgrade": lambda c, r: (r.n_upgraded, len(r.skipped)) == (c.held, c.n - c.held),
    "find_duplicates": lambda c, r: sum(len(g.copies) for g in r.groups) == c.copies,
    "find_exact_duplicates": lambda c, r: sum(len(g.copies) for g in r.groups) == c.copies,
    "find_clusters": lambda c, r: r.n_noise + sum(k.size for k in r.clusters) == c.held,
    "find_leaks": lambda c, r: r.n_leaked == (c.n if c.copies else 0),
    "build_similarity": lambda c, r: r.total_index_size == c.dataset.count(FIELD),
    "find_changes": lambda _, r: not any(r),
    "refresh_similarity": lambda c, r: r.vectors == c.dataset.count(FIELD) and not r.stale,
    "find_similar": lambda c, r: len(r.ids) == c.samples.count(FIELD),
    "find_staleness": lambda _, r: not r,
    "fit_centre": lambda c, r: r.n == c.held,
    "guide_threshold": lambda c, r: r.guide.rates.n == c.held - c.copies,
    "map_embeddings": lambda c, r: r.n_mapped == c.held,
    "list_runs": lambda _, r: all(run.complete for run in r),
    "plan_file_removal": lambda c, r: r == c.copies,
}
"""What an answer must say, if there is one."""


def test_every_public_verb_is_tried() -> None:
    public = {name for name in verbs.__all__ if inspect.isroutine(getattr(verbs, name))}
    assert public == {*VERBS, *WITH_THE_PLAN}
    top = fiftyone_isoclip.__all__
    functions = {name for name in top if inspect.isroutine(getattr(fiftyone_isoclip, name))}
    assert functions - public == {"find_checkpoint", "list_checkpoints", "load_clip"}
    assert {getattr(verbs, name).__name__ for name in functions & public} <= set(VERBS)


def check_sentence(told: str) -> None:
    """It says what was found and what to do, and is nobody's traceback."""
    assert len(told) > 20, told
    assert told.count(" ") > 3, told
    assert not re.search(r"Traceback|object at 0x|look for error|Error:", told), told


def test_f09_every_verb_answers_or_says_why_not(case: Case) -> None:
    problems, refused = {}, {}
    for name, verb in VERBS.items():
        try:
            answer = verb(case)
            str(answer), repr(answer)
            if not EXPECTED.get(name, lambda *_: True)(case, answer):
                problems[name] = f"{answer}"
        except IsoClipError as error:
            check_sentence(str(error))
            refused[name] = str(error)
        except Exception:
            problems[name] = traceback.format_exc()
    assert not problems, "\n".join(f"{name}: {why}" for name, why in problems.items())
    if case.refused:
        assert set(refused) == set(VERBS) - NEED_NO_SAMPLES
        assert all("image" in told or "no " in told for told in refused.values()), refused
    if case.held > 1:
        unneeded = {"map_embeddings", "name_cluster", "restore_removed"}
        unneeded |= {"evaluate", "load_evaluation"}  # no two images have the same label
        unneeded |= {"tune_band", "load_tuning"}  # they are too few
        alike = {"fit_centre", "guide_threshold"} if case.copies else set()
        assert set(refused) <= unneeded | alike, refused


OF_RUNS = {
    "review_duplicates": {"key": "duplicates"},
    "plan_file_removal": {"key": "exact_duplicates"},
    "apply_file_removal": {"confirm": True},
    "undo_file_removal": {"confirm": True},
    "resolve_duplicates": {"key": "duplicates"},
    "rename_run": {"key": "duplicates", "new_key": "called"},
    "delete_run": {"key": "called", "confirm": True},
}
"""What operators are asked beyond what their forms give."""


def test_f09_every_operator_answers_or_says_why_not(case: Case, caplog) -> None:
    order = {kind.name_: kind for kind in OPERATORS}
    done = set()
    if not case.refused:
        verbs.forget_verdicts(case.dataset)  # the test above said that copies are none
    for name in [*order.keys() - OF_RUNS.keys(), *OF_RUNS]:
        offer = Offered(order[name], case.samples)
        asked = OF_RUNS.get(name, {})
        for told in offer.refusals(**asked):
            check_sentence(told)
        # Posted although the form is refused, it lacks the form's secret and is refused, too.
        result = offer.run(**offer.defaults(**asked))
        if "error" in result:
            check_sentence(result["error"])
        else:
            done.add(name)
            offer.operator.describe(result).to_json()
    assert "look for error" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    if case.refused and case.samples.media_type != "group":  # of groups the App takes the images
        assert not done
    elif case.held > 1:
        of_copies = set() if case.copies else {name for name in order if "file_removal" in name}
        # The verb has fitted a centre above, which is not replaced unasked.
        unneeded = {"map_embeddings", "upgrade_embeddings", "evaluate_retrieval", "fit_centre"}
        unneeded |= {"guide_threshold"} if case.copies else set()  # they make no pair
        unneeded |= {"tune_band"}  # they are too few
        assert order.keys() - done <= unneeded | of_copies


def test_f09_every_tab_of_the_panel_is_drawn(case: Case, caplog) -> None:
    assert set(PANELS) == {IsoClipPanel}
    for tab in TABS:
        drawn = Panel(case.dataset, tab).send()
        told = texts(drawn)
        assert len(told) > 20, tab
        assert "look for error" not in told, (tab, told, caplog.text)
    assert not [record for record in caplog.records if record.exc_info], caplog.text


SHAPES = {"none": (0, 0), "one": (1, 0), "two": (2, 0), "same": (4, 3), "failed": (3, 0)}
"""How many files there are, and how many are copies."""
NO_IMAGES = {"demo", "models", "spectrum", "verify", "import", "install", "doctor"}
"""Commands that are given no images; `demo` makes its own, `verify` and `import` read a store."""


@pytest.mark.parametrize("shape", SHAPES)
def test_f09_every_command_answers_or_says_why_not(shape: str, tmp_path: Path) -> None:
    n, copies = SHAPES[shape]
    folder, plan, report = tmp_path / "pictures", tmp_path / "plan.json", tmp_path / "report.json"
    paths = paint(folder, shape)
    usable = 0 if shape == "failed" else n
    asked: dict[str, list[Any]] = {
        "duplicates": [folder, "--json", report, "--plan", plan],
        "apply": [plan],
        "undo": [plan],
        "purge": [plan, "--yes"],
        "clusters": [folder],
        "thresholds": [folder, "--pictures", 2],
        "compare": [folder, "--report", tmp_path / "pairs.html"],
        "search": [folder, "--text", "a red square"],
        "embed": [folder, "--out", tmp_path / "stored.npz"],
        "tune": [folder, "--copies"],
        "evaluate": [folder],
        "reproduce": ["--data", folder],
    }
    assert {*asked, *NO_IMAGES} == set(COMMANDS)
    for name, words in asked.items():
        result = isoclip(name, *words)
        if result.exit_code:
            check_sentence(sentence(result))
        else:
            assert usable or plan in words, (name, result.output)
    found = json.loads(report.read_text())
    assert sum(len(group["members"]) for group in found["groups"]) == copies
    assert len(found["failed"]) == n - usable
    assert sorted(map(str, folder.iterdir())) == sorted(paths)


@pytest.mark.parametrize("shape", SHAPES)
def test_f09_every_verb_on_files_answers_or_says_why_not(shape: str, tmp_path: Path) -> None:
    n, copies = SHAPES[shape]
    folder = tmp_path / "pictures"
    paths = paint(folder, shape)
    usable = 0 if shape == "failed" else n
    clip, stored, planned = load_clip(MODEL), tmp_path / "stored.npz", tmp_path / "plan.json"
    listing = files.list_files(folder)
    assert list(listing.paths) == files.list_images(folder) == files.read_paths(folder) == paths
    assert {files.content_hash(path) for path in paths} <= {*map(files.content_hash, paths[:3])}
    assert sum(len(rows) - 1 for rows in files.find_exact_copies(paths)) == copies
    for rule in files.FILE_KEEPER_RULES:
        assert len(files.rank_keepers(paths, rule).prefer) == n

    embedded = files.embed_files(listing, clip)
    assert (len(embedded.rows), len(embedded.failed)) == (usable, n - usable)
    files.write_embeddings(stored, embedded, clip)
    again = files.read_embeddings(stored, clip)
    assert again.paths == embedded.paths

    found = files.find_file_duplicates(again, clip)
    assert sum(len(group.members) for group in found.groups) == copies
    if usable > copies + 1:
        guide = files.guide_file_thresholds(again, clip, pictures=1)
        assert guide.rates.n == usable - copies
    for method in ("kmeans", "leiden"):
        clusters = files.cluster_files(again, clip, method=method)
        told = len(clusters.noise) + sum(len(cluster.members) for cluster in clusters.clusters)
        assert told == usable
    (by_text,) = files.search_files_by_text(again, clip, ["a red square"], count=5)
    assert len(by_text.matches) == usable
    if paths and usable:
        (by_image,) = files.search_files(again, clip, paths[:1], count=5)
        assert len(by_image.matches) == usable - 1
    assert files.search_files(again, clip, [], count=5) == []

    plan = files.plan_removal(found.groups, [folder])
    files.write_plan(planned, plan)
    assert files.read_plan(planned) == plan
    assert len(files.apply_plan(plan).moved) == copies
    assert len(files.undo_plan(plan).restored) == copies
    assert not files.purge_plan(plan).purged
    assert sorted(map(str, folder.iterdir())) == sorted(paths)
    public = {name for name in files.__all__ if inspect.isroutine(getattr(files, name))}
    source = inspect.getsource(test_f09_every_verb_on_files_answers_or_says_why_not)
    assert [name for name in public if f"files.{name}" not in source] == []
