"""Verbs carried out in processes that die, or whose database dies, at a chosen step.

A step is a command that writes to the database, or a batch that the tower computes. A verb runs in
a child that is forked for it, so that nothing has to be loaded. `World` has a mongod of its own and
starts `python -m tests.dying FOLDER`, which reads one task a line and forks.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pymongo
import pymongo.monitoring

from fiftyone_isoclip.installation import bundled_mongod
from tests.mongod import Mongod
from tests.pictures import draw_many, recompress

NAME, RENAMED, IMPORTED = "dying", "dying-renamed", "dying-imported"
FOREIGN = 1.5
FIELD = "clip_embedding"
BATCH_SIZE = 2
N_PICTURES, N_COPIES = 12, 4
STOPPED = "stopped"
WRITES = {"insert", "update", "delete", "findAndModify", "create", "createIndexes", "dropIndexes"}
PLACES: dict[str, dict[str, Any]] = {
    "on samples": {},
    "in files": {"on_samples": False},
    "of boxes": {"patches_field": "things"},
}
"""Where an embedding is kept."""

RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "find_clusters": ("clusters", {"count": 3}, {"count": 4}),
    "find_duplicates": ("duplicates", {"similarity": 0.99, "least": 0.9}, {"similarity": 0.995}),
    "find_exact_duplicates": ("exact_duplicates", {}, {"prefer": "earliest"}),
    "find_leaks": ("leaks", {"similarity": 0.99}, {"similarity": 0.995}),
    "compare_with_clip": ("comparison", {"k": 2}, {"k": 3}),
    "compare_spaces": ("disagreements", {"near": 2}, {"near": 3}),
    "evaluate": ("evaluation", {"label_field": "kind"}, {"label_field": "kind", "bands": "2/2"}),
}
"""Verbs that make a run: its key, what was asked before and what is asked when the kill comes."""

CHANGES: dict[str, dict[str, Any]] = {
    "delete_run": {"key": "clusters"},
    "rename_run": {"key": "clusters", "new_key": "looks"},
    "name_clusters_by": {"key": "clusters", "label_field": "kind", "least_share": 0.1},
}
"""What changes a run of clusters."""

_UNSTABLE = {"_id", "_rand", "_media_type", "_dataset_id", "created_at", "last_modified_at"}


CLI = """
import signal, sys
import pymongo.monitoring
from tests.dying import BATCH_SIZE, Killer
killer = Killer()
killer.at, mongod = ("write", int(sys.argv.pop(1))), int(sys.argv.pop(1))
killer.mongod, killer.signal = mongod or None, signal.SIGINT
pymongo.monitoring.register(killer)
from fiftyone_isoclip.dataset import writing
from fiftyone_isoclip.encoder import batches
writing.PATIENCE_SECONDS = 2
batches.BATCH_SIZES["cpu"] = BATCH_SIZE
from fiftyone_isoclip.cli import main
main()
"""
"""The command line, with small batches and little patience; at a write something happens."""


class Killer(pymongo.monitoring.CommandListener):
    """Counts steps; at the chosen one it kills its process before it, or the mongod after it."""

    def __init__(self) -> None:
        self.at: tuple[str, int] | None = None
        self.mongod: int | None = None
        self.signal = signal.SIGKILL
        self.counts: Counter[str] = Counter()

    def begin(self, kind: str) -> None:
        self.counts[kind] += 1
        if self.mongod is None and self.at == (kind, self.counts[kind]):
            os.kill(os.getpid(), self.signal)

    def end(self, kind: str) -> None:
        if self.mongod is not None and self.at == (kind, self.counts[kind]):
            self.at = None
            os.kill(self.mongod, signal.SIGKILL)

    def started(self, event: Any) -> None:
        if event.command_name in WRITES:
            self.begin("write")

    def succeeded(self, event: Any) -> None:
        if event.command_name in WRITES:
            self.end("write")

    def failed(self, event: Any) -> None:
        pass


def serve(folder: Path) -> None:
    """Fork a child for each task on standard input, and answer with its exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # FiftyOne talks
    killer = Killer()
    pymongo.monitoring.register(killer)  # before FiftyOne connects
    import fiftyone as fo
    import torch

    from fiftyone_isoclip.dataset.checkpoints import clip_of
    from tests.checkpoints import write_checkpoint

    torch.set_num_threads(1)
    name = write_checkpoint(folder)
    clip_of(name)
    fo.list_datasets()
    stopped = 0
    for line in sys.stdin:
        task = json.loads(line)
        if task["verb"] == "go on":
            pid = stopped
            os.kill(pid, signal.SIGCONT)
        else:
            pid = os.fork()
            if pid == 0:
                _carry_out(task, killer, name)
        status = os.waitpid(pid, os.WUNTRACED)[1]
        if os.WIFSTOPPED(status):
            stopped = pid
        code = STOPPED if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        print(code, file=answers, flush=True)


def _carry_out(task: dict[str, Any], killer: Killer, checkpoint: str) -> None:
    from fiftyone_isoclip.dataset import writing
    from fiftyone_isoclip.dataset.checkpoints import clip_of

    answer: dict[str, Any] = {"error": None, "told": None}
    writing.PATIENCE_SECONDS = task["patience"]
    held = None if task["verb"] in ("fill", "drop", "rename") else _dataset()  # no step of the verb
    killer.counts.clear()
    killer.at, killer.mongod = task["at"] and tuple(task["at"]), task["mongod"]
    killer.signal = task["signal"]
    clip, log = clip_of(checkpoint), os.open(task["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    compute = clip.image_embeddings

    def logged(pixels: Any) -> Any:
        rows = [hashlib.md5(row.numpy().tobytes()).hexdigest() for row in pixels]
        os.write(log, "".join(f"{row}\n" for row in rows).encode())
        killer.begin("tower")
        computed = compute(pixels)
        killer.end("tower")
        return computed

    clip.image_embeddings = logged
    try:
        answer["told"] = str(VERBS[task["verb"]](clip, **task["options"]))
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    del held
    Path(task["answer"]).write_text(json.dumps(answer | {"counts": killer.counts}))
    os._exit(0)


def _fill(clip: Any, folder: str) -> None:
    import fiftyone as fo

    pictures = Path(folder)
    paths = draw_many(pictures, N_PICTURES)
    paths += [recompress(path, pictures / f"{n}.jpg") for n, path in enumerate(paths[:N_COPIES])]
    dataset = fo.Dataset(NAME, persistent=True)
    boxes = [[0, 0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]
    for n, path in enumerate(paths):
        things = fo.Detections(detections=[fo.Detection(bounding_box=box) for box in boxes])
        kind = fo.Classification(label="ab"[n % 2])
        tags = [("train", "test")[n >= N_PICTURES]]
        dataset.add_sample(fo.Sample(filepath=path, tags=tags, kind=kind, things=things))


def _drop(clip: Any) -> None:
    import fiftyone as fo

    for name in (NAME, RENAMED, IMPORTED):
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


def _rename(clip: Any) -> None:
    """Rename the dataset, or back."""
    import fiftyone as fo

    names = (NAME, RENAMED) if fo.dataset_exists(NAME) else (RENAMED, NAME)
    fo.load_dataset(names[0]).name = names[1]


def _drop_field(clip: Any, field: str) -> None:
    if _dataset().has_field(field):
        _dataset().delete_sample_field(field)


def _retype_field(clip: Any, field: str) -> None:
    import fiftyone as fo

    _drop_field(clip, field)
    _dataset().add_sample_field(field, fo.FloatField)
    _dataset().set_values(field, [FOREIGN] * len(_dataset()))


def _clear(clip: Any) -> None:
    """Delete all but the samples."""
    from fiftyone_isoclip.dataset import delete_run, list_runs
    from fiftyone_isoclip.dataset.places import side_folder

    for run in list_runs(_dataset()):
        delete_run(_dataset(), run.key)
    own = [name for name in _dataset().get_field_schema() if FIELD in name or name == "isoclip"]
    inner = [f"things.detections.{name}" for name in (FIELD, f"{FIELD}_source", f"{FIELD}_error")]
    there = [name for name in own + inner if _dataset().has_field(name)]
    if there:
        _dataset().delete_sample_fields(there)
    shutil.rmtree(side_folder() / "vectors", ignore_errors=True)


def _dump(clip: Any, path: str, boxes: bool) -> None:
    """Write the stored vectors by id to a file, wherever they are kept."""
    from fiftyone_isoclip.dataset.vectors import read_vectors

    if boxes:
        paths = [f"things.detections.{name}" for name in ("id", FIELD)]
        ids, vectors = _dataset().values(paths, unwind=True)
    else:
        found = read_vectors(_dataset(), FIELD, clip.dim)
        ids, vectors = found.ids, found.vectors
    np.savez(path, **dict(zip(ids, vectors, strict=True)))


def _dataset() -> Any:
    import fiftyone as fo

    return fo.load_dataset(NAME)


def _verb(name: str) -> Any:
    def call(clip: Any, **options: Any) -> Any:
        from fiftyone_isoclip import dataset

        return getattr(dataset, name)(_dataset(), **options)

    return call


def _embed(clip: Any, **options: Any) -> Any:
    from fiftyone_isoclip.dataset import embed

    return embed(_dataset(), clip, batch_size=BATCH_SIZE, progress=False, **options)


def _upgrade(clip: Any, **options: Any) -> Any:
    from fiftyone_isoclip.dataset import upgrade
    from fiftyone_isoclip.projector import Band

    options["band"] = Band.parse(options["band"])
    return upgrade(_dataset(), FIELD, clip, into="isoclip", **options)


def _import(clip: Any, **options: Any) -> Any:
    from fiftyone_isoclip.dataset import import_store

    return import_store(dataset=IMPORTED, **options)


def _dump_imported(clip: Any, path: str) -> None:
    """Write what was imported by path to a file: vectors and reasons; then delete the dataset."""
    import fiftyone as fo

    from fiftyone_isoclip.dataset.vectors import read_vectors
    from tests.made_stores import DIM

    dataset = fo.load_dataset(IMPORTED)
    found = read_vectors(dataset, FIELD, DIM)
    ids, paths, errors = dataset.values(["id", "filepath", f"{FIELD}_error"])
    held = [found.vectors[found.row_of[id_]] if id_ in found.row_of else [] for id_ in ids]
    fo.delete_dataset(IMPORTED)
    errors = [error or "" for error in errors]
    vectors = {f"vector {n}": vector for n, vector in enumerate(held)}
    np.savez(path, paths=np.array(paths), errors=np.array(errors), **vectors)


OWN = {
    "fill": _fill,
    "drop": _drop,
    "rename": _rename,
    "drop_field": _drop_field,
    "retype_field": _retype_field,
    "clear": _clear,
    "dump": _dump,
    "embed": _embed,
    "upgrade": _upgrade,
    "import_store": _import,
    "dump_imported": _dump_imported,
}
VERBS: dict[str, Any] = OWN | {
    name: _verb(name)
    for name in (
        "find_duplicates", "find_exact_duplicates", "find_clusters", "find_leaks", "rerun",
        "compare_with_clip", "compare_spaces", "evaluate", "delete_run", "rename_run",
        "name_clusters_by", "map_embeddings",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a child ended, what its verb returned or raised, and how many steps it took."""

    code: int
    told: str | None = None
    error: str | None = None
    counts: dict[str, int] | None = None


@dataclass(frozen=True)
class State:
    """What the database holds of the dataset, without times and ids of its own documents."""

    fields: dict[str, str]
    samples: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Any]]
    views: list[str]
    documents: tuple[int, int]

    def column(self, name: str) -> dict[str, Any]:
        return {id_: sample[name] for id_, sample in self.samples.items() if name in sample}


class World:
    """A mongod, the process that forks, and what lies in the database, read without FiftyOne."""

    def __init__(self, folder: Path, options: str = "?serverSelectionTimeoutMS=1000") -> None:
        self.folder = folder
        self.mongod = Mongod(bundled_mongod(), folder / "database")
        self.mongod.start()
        self.log = folder / "tower.log"
        self.options = options
        self.process = self._start(
            "-m", "tests.dying", str(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.answers: list[Path] = []
        self.n_tasks = 0
        self.fill()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.mongod.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(
        self,
        verb: str,
        at: tuple[str, int] | None = None,
        mongod: bool = False,
        signal: int = signal.SIGKILL,
        patience: float = 60,
        **options: Any,
    ) -> None:
        self.n_tasks += 1
        self.answers.append(self.folder / f"answer-{self.n_tasks}")
        task = {"verb": verb, "options": options, "at": at, "patience": patience}
        task |= {"mongod": self.mongod.process.pid if mongod else None, "signal": signal}
        task |= {"log": str(self.log), "answer": str(self.answers[-1])}
        self._say(task)

    def _say(self, task: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        code = self.process.stdout.readline().strip()
        assert code, (self.folder / "stderr").read_text()
        return str(code)

    def end(self) -> Outcome:
        code, answer = self._hear(), self.answers.pop()
        return Outcome(int(code), **(json.loads(answer.read_text()) if answer.exists() else {}))

    def meddle(self, verb: str, at: tuple[str, int], *deeds: Any, **options: Any) -> Outcome:
        """Let another process do something at a step of a verb, and then the verb go on."""
        self.begin(verb, at=at, signal=signal.SIGSTOP, **options)
        assert self._hear() == STOPPED
        for deed, deed_options in deeds:
            self.run(deed, **deed_options)
        self._say({"verb": "go on"})
        return self.end()

    def fill(self) -> None:
        """Make the dataset anew."""
        self.run("drop")
        self.run("fill", folder=str(self.folder / "pictures"))

    def isoclip(self, *words: str, at: int, mongod: bool = False) -> tuple[int, str]:
        """The exit code and standard error of a command that is interrupted (Ctrl-C) at a write,
        or whose mongod is killed after it and started again once the command has ended.
        """
        pid = self.mongod.process.pid if mongod else 0
        child = self._start("-c", CLI, str(at), str(pid), *words, stdout=subprocess.DEVNULL)
        assert child.wait(timeout=300) is not None
        if mongod:
            self.mongod.process.wait()
            self.mongod.start()
        return child.returncode, (self.folder / "stderr").read_text()

    def _start(self, *words: str, **pipes: Any) -> subprocess.Popen[str]:
        world = {
            "FIFTYONE_DATABASE_URI": f"{self.mongod.uri}/{self.options}",
            "FIFTYONE_ISOCLIP_DIR": str(self.folder / "isoclip"),
        }
        command = [sys.executable, "-W", "ignore", *words]
        with (self.folder / "stderr").open("w") as stderr:
            return subprocess.Popen(
                command,
                stderr=stderr,
                text=True,
                env=os.environ | world,
                cwd=Path(__file__).parents[1],
                **pipes,
            )

    def run(self, verb: str, **options: Any) -> Outcome:
        """Let a verb end undisturbed."""
        self.begin(verb, **options)
        outcome = self.end()
        assert (outcome.code, outcome.error) == (0, None), outcome
        return outcome

    def kill(self, verb: str, at: tuple[str, int], **options: Any) -> Outcome:
        """Let a verb's process die before a step, or get another signal."""
        self.begin(verb, at=at, **options)
        return self.end()

    def interrupt(self) -> None:
        """Ctrl-C for the verb that was begun."""
        for child in psutil.Process(self.process.pid).children():
            child.send_signal(signal.SIGINT)

    def kill_mongod(
        self, verb: str, at: tuple[str, int], away: float = 0, **options: Any
    ) -> Outcome:
        """Kill the mongod after a step of a verb, start it again later, and let the verb end."""
        self.begin(verb, at=at, mongod=True, **options)
        self.mongod.process.wait(timeout=60)
        time.sleep(away)
        self.mongod.start()
        return self.end()

    def vectors(self, boxes: bool = False) -> dict[str, Any]:
        """What is stored for each sample or box."""
        path = self.folder / "vectors.npz"
        self.run("dump", path=str(path), boxes=boxes)
        with np.load(path) as held:
            return dict(held)

    def imported(self) -> list[tuple[str, str, list[float]]]:
        """Path, reason and vector of each sample that was imported, which are deleted."""
        path = self.folder / "imported.npz"
        self.run("dump_imported", path=str(path))
        with np.load(path) as held:
            columns = held["paths"].tolist(), held["errors"].tolist()
            vectors = [held[f"vector {n}"].tolist() for n in range(len(columns[0]))]
            return sorted(zip(*columns, vectors, strict=True))

    @contextmanager
    def database(self) -> Iterator[Any]:
        """The database itself."""
        with pymongo.MongoClient(self.mongod.uri) as client:
            yield client[os.environ["FIFTYONE_DATABASE_NAME"]]

    def look(self, name: str = NAME) -> State:
        """What the database holds of a dataset."""
        with self.database() as database:
            held = database.datasets.find_one({"name": name})
            of = {"_dataset_id": held["_id"]}
            runs = {run["_id"]: run["config"] for run in database.runs.find(of)}
            views = {view["_id"]: view["name"] for view in database.views.find(of)}
            return State(
                fields={f["name"]: f["ftype"] for f in held["sample_fields"]},
                samples={
                    str(sample["_id"]): _stable(sample)
                    for sample in database[f"samples.{held['_id']}"].find()
                },
                runs={key: _config(runs[link]) for key, link in held.get("runs", {}).items()},
                views=sorted(views[link] for link in held.get("saved_views", [])),
                documents=(len(runs), len(views)),
            )


def _stable(document: Any) -> Any:
    if isinstance(document, dict):
        kept = {name: value for name, value in document.items() if name not in _UNSTABLE}
        return {name: _stable(value) for name, value in kept.items() if value is not None}
    return [_stable(each) for each in document] if isinstance(document, list) else document


def _config(config: dict[str, Any]) -> dict[str, Any]:
    details = {name: held for name, held in config["details"].items() if name != "pairs"}
    return _stable(config | {"details": details})


def computed(log: Path) -> Counter[str]:
    """How often the tower computed each picture."""
    return Counter(log.read_text().split() if log.exists() else ())


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same vectors, but for the rounding of other batches."""
    assert found.keys() == expected.keys()
    for id_, vector in expected.items():
        np.testing.assert_allclose(found[id_], vector, rtol=1e-5, atol=1e-6)


def some(draw: random.Random, n: int, points: int | None) -> list[int]:
    """Some of the steps 1 to n, or all of them."""
    steps = range(1, n + 1)
    return [*steps] if points is None else draw.sample(steps, min(points, n))


@functools.cache
def world() -> World:
    """One for all tests of this run."""
    made = World(Path(tempfile.mkdtemp(prefix="isoclip-dying-")))
    atexit.register(made.close)
    return made


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
