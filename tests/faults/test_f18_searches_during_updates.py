"""Eight threads search as the App does while the index changes: each answer fits a state of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError
from tests.integration.similarity.oracles import EXACT, FIELD, NAME, compute, fill, unit

THREADS, BASE, LATE, K = 8, 40, 12, 5
TEXTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def clip():
    register()
    return load_clip(NAME, **EXACT)


class World:
    """An index of samples, some of which come and go, and brute force over any of its states."""

    def __init__(self, dataset, clip, draw):
        self.dataset, self.draw = dataset, draw
        tilt = np.linspace(2, 0.2, clip.dim)
        base = (draw.normal(size=(BASE, clip.dim)) * tilt + 1.5).astype(np.float32)
        # Late ones lie close to others, so that they are among the nearest of somebody.
        near = base[draw.choice(BASE, LATE)]
        self.plain = np.concatenate([base, near + 0.1 * draw.normal(size=near.shape)])
        self.plain = self.plain.astype(np.float32)
        self.ids = fill(dataset, base)
        self.ids += dataset.add_samples([fo.Sample(filepath=f"/late/{n}.png") for n in range(LATE)])
        self.images = clip.isoclip()(self.plain).astype(np.float64)
        self.texts = dict(zip(TEXTS, unit(clip.text_embeddings(TEXTS)), strict=True))
        self.index = compute(dataset, brain_key="found", embeddings_field=FIELD)
        self.states = [frozenset(range(BASE))]
        self.published = 0

    def become(self, rows, change):
        """Change the index, which then holds these rows."""
        self.states.append(frozenset(rows))
        change()
        self.published = len(self.states) - 1

    def toggle(self, row):
        """Add a late one, or remove it."""
        now = self.states[-1]
        if row in now:
            self.become(now - {row}, lambda: self.index.remove_from_index([self.ids[row]]))
        else:
            vector = self.plain[[row]]
            self.become(now | {row}, lambda: self.index.add_to_index(vector, [self.ids[row]]))

    def best(self, query, viewed, state, k=K):
        """Brute force: the nearest of a text or a row, among the rows of a view and a state."""
        if isinstance(query, str):
            scores = unit(self.plain.astype(np.float64)) @ self.texts[query]
        else:
            scores = self.images @ self.images[query]
        rows = sorted(viewed & state, key=lambda row: -scores[row])
        return [self.ids[row] for row in rows[:k]]

    def ask(self, seed):
        """One search as the App does it: by image or text, in all or in a view of some."""
        draw = np.random.default_rng(seed)
        query = TEXTS[draw.integers(2)] if draw.random() < 0.4 else int(draw.integers(BASE))
        viewed = frozenset(range(BASE + LATE))
        samples = self.dataset
        if draw.random() < 0.7:
            viewed = frozenset(draw.choice(BASE + LATE, 20, replace=False).tolist())
            samples = self.dataset.select([self.ids[row] for row in viewed])
        asked = query if isinstance(query, str) else self.ids[query]
        first = self.published
        found = samples.sort_by_similarity(asked, k=K, brain_key="found").values("id")
        states = self.states[first:]
        assert found in [self.best(query, viewed, state) for state in states], (query, len(states))


@pytest.fixture
def world(dataset, clip, seed):
    return World(dataset, clip, np.random.default_rng(seed))


def search_meanwhile(world, searches, changes):
    """Let eight threads search while this one changes the index as long as they do."""
    seeds = world.draw.integers(2**32, size=searches).tolist()
    with ThreadPoolExecutor(THREADS) as searchers:
        answers = [searchers.submit(world.ask, seed) for seed in seeds]
        while not all(answer.done() for answer in answers):
            changes()
        for answer in answers:
            answer.result()


def test_f18_every_answer_fits_a_state_that_was(world):
    def change():
        world.toggle(int(world.draw.integers(BASE, BASE + LATE)))
        if world.draw.random() < 0.3:
            world.become(world.states[-1], world.index.reload)

    search_meanwhile(world, 120, change)
    assert len(set(world.states)) > 3


def test_f18_what_comes_and_goes_during_a_search_is_found_in_one_of_its_states(world, monkeypatch):
    """Between reading its rows and looking at its view, one row comes and then another goes."""
    coming, going = BASE, BASE + 1
    world.toggle(going)
    viewed = frozenset([coming, going, *range(6)])
    view = world.dataset.select([world.ids[row] for row in viewed])
    index = world.dataset.load_brain_results("found")
    vectors = index._vectors

    def change_after(indexed, query):
        read = vectors(indexed, query)
        world.toggle(coming)
        world.toggle(going)
        return read

    monkeypatch.setattr(index, "_vectors", change_after)
    found = view.sort_by_similarity(world.ids[0], k=8, brain_key="found").values("id")
    monkeypatch.undo()
    now = view.sort_by_similarity(world.ids[0], k=8, brain_key="found").values("id")

    best = [world.best(0, viewed, state, k=8) for state in world.states]
    assert found in best[1:]
    assert now == best[-1]


def test_f18_nothing_is_lost_where_several_change_the_index(world):
    """Adding, removing what others added before, and finding out that samples are gone."""
    late = list(range(BASE, BASE + LATE))
    doomed = [world.ids[row] for row in world.draw.choice(BASE, 8, replace=False)]
    start = threading.Barrier(THREADS)

    def change(number):
        start.wait()
        if number < 6:
            for row in late[number::6]:
                world.index.add_to_index(world.plain[[row]], [world.ids[row]])
        elif number == 6:
            for id_ in doomed:
                world.dataset.delete_samples([id_])
                world.dataset.sort_by_similarity(TEXTS[0], k=BASE, brain_key="found")
        else:
            for _ in range(10):
                try:
                    world.index.settle()
                    world.index._kneighbors(query=world.ids[0], k=BASE)
                except DatasetError:
                    assert world.ids[0] in doomed

    with ThreadPoolExecutor(THREADS) as changers:
        list(changers.map(change, range(THREADS)))
    found = set(world.dataset.sort_by_similarity(TEXTS[0], k=200, brain_key="found").values("id"))
    assert found == set(world.ids) - set(doomed)
    assert set(world.index.sample_ids) == found


def test_f18_the_first_searches_of_an_index_meet(world):
    """None of them searches before it is settled through which map."""
    for _ in range(8):
        world.index.reload()
        start = threading.Barrier(THREADS)

        def ask(row, start=start):
            start.wait()
            return world.index._kneighbors(query=world.ids[row], k=K)[0]

        with ThreadPoolExecutor(THREADS) as searchers:
            found = list(searchers.map(ask, range(THREADS)))
        everything = frozenset(range(BASE))
        assert found == [world.best(row, everything, everything) for row in range(THREADS)]
