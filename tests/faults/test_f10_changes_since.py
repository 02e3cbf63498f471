"""Samples come, go and change after an index or a run was made, in any order.

A model knows which picture each sample shows, which one its vector was made of, and what the index
and the run saw. Every answer is compared with it and with all cosines, worked out in float64.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from uuid import uuid4

import fiftyone as fo
import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fiftyone_isoclip import files, load_clip
from fiftyone_isoclip.dataset import (
    build_similarity,
    embed,
    find_changes,
    find_clusters,
    find_similar,
    find_staleness,
    load_run,
    rerun,
)
from fiftyone_isoclip.dataset import copies as copies_module
from fiftyone_isoclip.dataset.staleness import Staleness
from tests.pictures import draw_many

MODEL, FIELD, KEY, RUN = "isoclip-demo", "clip_embedding", "found", "then"
PICTURES, PROMPT = 60, "a red square"


@dataclass
class Seen:
    """What the pictures and the text are to the checkpoint: unit rows of float64."""

    folder: Path
    plain: np.ndarray
    isoclip: np.ndarray
    text: np.ndarray


@dataclass
class Shown:
    """A sample: the picture in its file, that of its vector (None: it has none), and its birth."""

    path: Path
    picture: int
    embedded: int | None = None
    versions: int = 0
    source: tuple[int, int] | None = field(default=None)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("pictures")
    draw_many(folder, PICTURES)
    clip = load_clip(MODEL)
    found = files.embed_files(files.list_files(folder), clip)
    assert list(found.paths) == [str(folder / f"{n:03d}.png") for n in range(PICTURES)]
    plain = np.asarray(found.embeddings, np.float64)
    text = np.asarray(clip.text_embeddings([PROMPT]), np.float64)
    return Seen(folder, unit(plain), unit(clip.isoclip()(found.embeddings)), unit(text)[0])


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Changes(RuleBasedStateMachine):
    """A dataset, an index and a run on it, and what has happened since."""

    seen: ClassVar[Seen]

    @initialize(count=st.integers(0, 6), random=st.randoms(use_true_random=False))
    def begin(self, count: int, random: Random) -> None:
        self.random, self.next, self.clock = random, 0, 0
        self.folder = Path(tempfile.mkdtemp(prefix="isoclip-f10-"))
        self.dataset = fo.Dataset(f"f10-{uuid4().hex}")
        self.live: dict[str, Shown] = {}
        self.add(count)
        embed(self.dataset, MODEL, progress=False)
        self.note_embedded(self.live.values())
        self.index = build_similarity(self.dataset, MODEL, brain_key=KEY)
        self.note_indexed()
        find_clusters(self.dataset, key=RUN)
        self.note_run()

    def teardown(self) -> None:
        if hasattr(self, "dataset"):
            self.dataset.delete()
            shutil.rmtree(self.folder)

    # What happens.

    @precondition(lambda self: self.next < PICTURES - 6)
    @rule(count=st.integers(1, 3))
    def add(self, count: int) -> None:
        new = [self.put(self.folder / f"{uuid4().hex}.png") for _ in range(count)]
        samples = [fo.Sample(filepath=str(shown.path)) for shown in new]
        ids = self.dataset.add_samples(samples, progress=False) if new else []
        self.live.update(zip(ids, new, strict=True))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        gone = data.draw(self.some())
        self.dataset.delete_samples(gone)
        for id_ in gone:
            del self.live[id_]

    @precondition(lambda self: self.live and self.next < PICTURES - 6)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        shown = self.live[data.draw(self.one())]
        shown.picture = self.put(shown.path).picture
        shown.versions = self.clock

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        lost = data.draw(self.some())
        self.dataset.set_values(FIELD, dict.fromkeys(lost), key_field="id")
        for id_ in lost:
            self.live[id_].embedded = None

    @rule(everything=st.booleans())
    def embed_again(self, everything: bool) -> None:
        stale = [s for s in self.live.values() if everything or self.is_due(s)]
        report = embed(self.dataset, MODEL, overwrite=everything, progress=False)
        assert (report.computed, report.kept) == (len(stale), len(self.live) - len(stale))
        assert report.failed == {}
        self.note_embedded(stale)

    @rule()
    def update_the_index(self) -> None:
        self.index.reload()
        self.note_indexed()
        assert set(self.index.sample_ids) == set(self.indexed)

    @rule()
    def begin_another_session(self) -> None:
        self.dataset._brain_cache.clear()
        self.index = self.dataset.load_brain_results(KEY)
        self.note_indexed()

    @rule()
    def find_the_run_again(self) -> None:
        stale = [shown for shown in self.live.values() if self.is_due(shown)]
        before = *self.true_staleness(), self.edited()
        report = rerun(self.dataset, RUN)
        assert bool(report.stale) == any(before)
        assert (report.embedded.computed if report.embedded else 0) == len(stale)
        self.note_embedded(stale)
        self.note_run()

    # What is asked, after each step.

    @invariant()
    def an_image_finds_the_nearest_that_are_there(self) -> None:
        there = self.there()
        if not there:
            return
        id_, k, reverse = self.random.choice(sorted(there)), self.k(), self.random.random() < 0.5
        asked = {"k": k, "brain_key": KEY, "reverse": reverse}
        found = self.dataset.sort_by_similarity(id_, **asked).values("id")
        query = self.seen.isoclip[self.indexed[id_]]
        self.check(found, query, self.seen.isoclip, there, k, reverse)

    @invariant()
    def a_text_finds_the_nearest_of_a_view(self) -> None:
        there, k = self.there(), self.k()
        chosen = [id_ for id_ in self.live if self.random.random() < 0.7]
        view = self.dataset.select(chosen)
        found = view.sort_by_similarity(PROMPT, k=k, brain_key=KEY).values("id")
        inside = {id_: row for id_, row in there.items() if id_ in chosen}
        self.check(found, self.seen.text, self.seen.plain, inside, k)

    @invariant()
    def without_an_index_the_same_is_found(self) -> None:
        k = self.k()
        by_text = find_similar(self.dataset, text=PROMPT, k=k)
        usable = {id_: s.embedded for id_, s in self.held().items() if not self.is_due(s)}
        self.check(by_text.ids, self.seen.text, self.seen.plain, usable, k)
        if usable:
            id_ = self.random.choice(sorted(usable))
            query = self.seen.isoclip[usable.pop(id_)]
            by_image = find_similar(self.dataset, id_, k=k)
            self.check(by_image.ids, query, self.seen.isoclip, usable, k)

    # What is told.

    @invariant()
    def the_index_tells_what_changed(self) -> None:
        told = find_changes(self.index)
        now = {id_: shown.embedded for id_, shown in self.held().items()}
        assert set(told.new) == now.keys() - self.indexed.keys()
        # A search that meets deleted samples drops all of them at once; then they are no change.
        dropped = self.indexed.keys() - set(self.index.sample_ids)
        assert not dropped & self.live.keys()
        assert set(told.gone) == self.indexed.keys() - now.keys() - dropped
        both = now.keys() & self.indexed.keys()
        assert set(told.changed) == {id_ for id_ in both if now[id_] != self.indexed[id_]}
        counts = [len(ids) for ids in (told.new, told.gone, told.changed)]
        assert str(told) == "{} new, {} gone, {} changed".format(*counts)

    @invariant()
    def the_run_tells_what_changed(self) -> None:
        told = find_staleness(self.dataset, load_run(self.dataset, RUN), thorough=True)
        added, removed, changed = self.true_staleness()
        assert (told.added, told.removed) == (len(added), len(removed))
        assert told.changed <= len(changed)
        if not added and not removed:
            assert told.changed == len({id_[-2:] for id_ in changed})
        assert told.files == len(self.edited())
        assert bool(told) == any((added, removed, changed, self.edited()))
        assert isinstance(told, Staleness)

    # The model.

    def k(self) -> int:
        return self.random.randint(1, 8)

    def put(self, path: Path) -> Shown:
        """Put the next picture into a file that is later than all before."""
        picture, self.next, self.clock = self.next, self.next + 1, self.clock + 1
        shutil.copyfile(self.seen.folder / f"{picture:03d}.png", path)
        os.utime(path, (10**9 + self.clock, 10**9 + self.clock))
        return Shown(path, picture, versions=self.clock)

    def some(self) -> st.SearchStrategy[list[str]]:
        ids = sorted(self.live)
        return st.lists(st.sampled_from(ids), unique=True, max_size=4) if ids else st.just([])

    def one(self) -> st.SearchStrategy[str]:
        return st.sampled_from(sorted(self.live))

    def held(self) -> dict[str, Shown]:
        return {id_: shown for id_, shown in self.live.items() if shown.embedded is not None}

    def is_due(self, shown: Shown) -> bool:
        return shown.embedded is None or shown.source != (shown.picture, shown.versions)

    def edited(self) -> list[Shown]:
        """Samples whose file is not the one that their vector was made of."""
        return [shown for shown in self.held().values() if self.is_due(shown)]

    def there(self) -> dict[str, int]:
        """The picture of each vector in the index whose sample is there."""
        return {id_: row for id_, row in self.indexed.items() if id_ in self.live}

    def sources(self) -> dict[str, Any]:
        return {id_: shown.source for id_, shown in self.held().items()}

    def note_embedded(self, stale: Any) -> None:
        for shown in stale:
            shown.embedded, shown.source = shown.picture, (shown.picture, shown.versions)
        stored = dict(zip(*self.dataset.values(["id", FIELD]), strict=True))
        for id_, shown in self.held().items():
            cosine = unit(stored[id_][None])[0] @ self.seen.plain[shown.embedded]
            assert cosine > 1 - 1e-5

    def note_indexed(self) -> None:
        self.indexed = {id_: shown.embedded for id_, shown in self.held().items()}

    def note_run(self) -> None:
        self.ran, self.ran_on = self.sources(), set(self.live)

    def true_staleness(self) -> tuple[set[str], set[str], set[str]]:
        """Who came and went since the run, and who of the others has another vector."""
        now, live = self.sources(), set(self.live)
        changed = {id_ for id_ in live & self.ran_on if now.get(id_) != self.ran.get(id_)}
        new_vectors = {id_ for id_ in live - self.ran_on if id_ in now}
        assert not changed & new_vectors
        return live - self.ran_on, self.ran_on - live, changed

    def check(
        self,
        found: list[str],
        query: np.ndarray,
        rows: np.ndarray,
        among: dict[str, int],
        k: int,
        reverse: bool = False,
    ) -> None:
        """As many as there are, all of them there, and none is missing that is more similar."""
        assert len(found) == len(set(found)) == min(k, len(among))
        assert set(found) <= set(among) <= set(self.live)
        sign = -1 if reverse else 1
        scores = {id_: sign * float(rows[row] @ query) for id_, row in among.items()}
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose([scores[id_] for id_ in found], best, atol=1e-5)


def play(seen: Seen, seed: int, games: int, steps: int) -> None:
    machine = hypothesis.seed(seed)(type("Played", (Changes,), {"seen": seen}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=games,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_f10_whatever_happens_is_told_and_no_dead_sample_is_found(seen: Seen, seed: int) -> None:
    play(seen, seed, games=4, steps=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_f10_whatever_happens_for_longer(seen: Seen, seed: int) -> None:
    play(seen, seed, games=30, steps=40)


@pytest.fixture
def appended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows were written to the files beside the database, each time."""
    counts: list[int] = []
    append = copies_module.append_vectors

    def counting(*args: Any) -> None:
        counts.append(len(args[3]))
        append(*args)

    monkeypatch.setattr(copies_module, "append_vectors", counting)
    yield counts


def test_f10_an_update_does_only_the_difference(dataset, fill, pictures, appended) -> None:
    ids = fill(draw_many(pictures, 20))
    embed(dataset, MODEL, progress=False)
    index = build_similarity(dataset, MODEL, brain_key=KEY)
    appended.clear()
    shutil.copyfile(draw_many(pictures / "more", 1, 50)[0], dataset[ids[3]].filepath)
    dataset.delete_samples(ids[:2])
    dataset.set_values(FIELD, {ids[5]: None}, key_field="id")
    fill(draw_many(pictures / "new", 3, 60))
    before = dict(zip(*dataset.values(["id", "last_modified_at"]), strict=True))

    report = embed(dataset, MODEL, progress=False)
    assert (report.computed, report.kept) == (5, 16)
    assert sum(appended) == 5
    after = dict(zip(*dataset.values(["id", "last_modified_at"]), strict=True))
    touched = {id_ for id_ in before if before[id_] != after[id_]}
    assert touched == {ids[3], ids[5], *dataset.values("id")[-3:]}
    assert str(find_changes(index)) == "3 new, 2 gone, 1 changed"
    assert embed(dataset, MODEL, progress=False).computed == 0
    assert sum(appended) == 5
