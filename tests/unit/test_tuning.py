"""Choosing a band: it is found where there is one, and is not where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.halves import jackknife, split_rows
from fiftyone_isoclip.evaluation.methods import CENTRED, PLAIN
from fiftyone_isoclip.evaluation.metrics.retrieval import score_retrieval
from fiftyone_isoclip.evaluation.tuning import FEWEST_QUERIES, MOST_IMAGES, Tuning, tune
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import WHOLE, Band, Head, Spectrum

DIM = 24
AXES = Spectrum.between(Head(np.diag(np.linspace(2, 1, DIM))), Head(np.eye(DIM)))
"""Direction j of Psi is axis j, and a band keeps axes."""


def on_axes(rng: np.random.Generator, labels: np.ndarray, signal: np.ndarray, noise: np.ndarray):
    """Embeddings with so much that tells the classes on each axis, and so much that does not."""
    classes = rng.normal(size=(labels.max() + 1, DIM)) * signal
    return classes, classes[labels] + rng.normal(size=(len(labels), DIM)) * noise


def planted(seed: int, n: int = 400, n_classes: int = 20):
    """The classes show on axes 8 to 15 alone; what is stronger and what is weaker misleads."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    signal = np.repeat([0.0, 1.0, 0.0], 8)
    noise = np.repeat([2.0, 0.7, 1.0], 8)
    classes, embeddings = on_axes(rng, labels, signal, noise)
    fresh_labels = rng.integers(0, n_classes, 2000)
    fresh = classes[fresh_labels] + rng.normal(size=(2000, DIM)) * noise
    return embeddings, labels, fresh, fresh_labels


def mean_ap(rows: np.ndarray, labels: np.ndarray) -> float:
    units = unit_rows(rows)
    own = np.arange(len(units))
    return score_retrieval(units, units, labels, labels, own_rows=own).mean("mAP")


def test_a_planted_band_is_found_and_its_gain_is_real() -> None:
    embeddings, labels, fresh, fresh_labels = planted(seed=1)
    found = tune(AXES, embeddings, labels, step=4)
    assert (found.recommended.drop_top, found.recommended.drop_bottom) == (8, 8)
    assert found.over_plain is not None and found.over_centred is not None
    # On 2,000 other images of these classes, which no choice has seen; a larger gallery makes
    # every mAP a little lower, so gains are compared and not means.
    axes = slice(8, 16)
    gain = mean_ap(fresh[:, axes], fresh_labels) - mean_ap(fresh, fresh_labels)
    assert gain > 0.2
    assert found.over_plain.low - 0.05 < gain < found.over_plain.high + 0.05
    assert found.over_plain.low > 0 and found.over_centred.low > 0
    assert found.held_out[PLAIN].mean < found.held_out[str(found.recommended)].mean


def test_the_held_out_figures_are_those_of_the_held_out_rows() -> None:
    embeddings, labels, _, _ = planted(seed=2)
    found = tune(AXES, embeddings, labels, step=4)
    rows, centre = found.holding, unit_rows(embeddings)[found.choosing].mean(axis=0)
    units = unit_rows(embeddings)[rows]
    band = found.planes[0].best
    kept = slice(band.drop_top, DIM - band.drop_bottom)
    expected = {
        PLAIN: mean_ap(units, labels[rows]),
        CENTRED: mean_ap(units - centre, labels[rows]),
        str(band): mean_ap(units[:, kept], labels[rows]),
    }
    for name, value in expected.items():
        assert found.held_out[name].mean == pytest.approx(value, abs=1e-6), name
    assert found.centring.mean == pytest.approx(expected[CENTRED] - expected[PLAIN], abs=1e-6)


def test_a_centred_band_can_be_recommended() -> None:
    """A mean that all images share hides the classes, on the very axes that tell them apart."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 10, 300)
    signal, noise = np.repeat([0.0, 1.0], 12), np.repeat([1.5, 0.7], 12)
    embeddings = on_axes(rng, labels, signal, noise)[1] + np.repeat([0.0, 6.0], 12)
    found = tune(AXES, embeddings, labels, step=4)
    assert found.recommended.centred
    assert found.recommended.drop_top == 12
    assert found.held_out[PLAIN].mean < found.held_out[CENTRED].mean


def test_where_centring_is_all_there_is_to_gain_plain_clip_is_kept() -> None:
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 10, 300)
    embeddings = on_axes(rng, labels, np.ones(DIM), np.ones(DIM))[1] + 3.0
    found = tune(AXES, embeddings, labels, step=4)
    assert found.recommended == WHOLE
    assert found.centring.low > 0


def false_recommendations(kind: str, seeds: range, *, n: int, n_classes: int) -> int:
    wrong = 0
    for seed in seeds:
        rng = np.random.default_rng([seed, n_classes])
        labels = rng.permutation(np.arange(n) % n_classes)
        signal = np.full(DIM, {"noise": 0.0, "plain is best": 0.5}[kind])
        embeddings = on_axes(rng, labels, signal, np.ones(DIM))[1]
        wrong += tune(AXES, embeddings, labels, step=6, seed=seed).recommended != WHOLE
    return wrong


@pytest.mark.parametrize(("n", "n_classes"), [(100, 50), (100, 12), (80, 4)])
@pytest.mark.parametrize("kind", ["noise", "plain is best"])
def test_where_no_band_is_better_hardly_one_is_recommended(
    kind: str, n: int, n_classes: int
) -> None:
    """An interval of 95 % leaves 2.5 % above: of 60 that is 1.5, and 6 would be one in 1,000."""
    wrong = false_recommendations(kind, range(60), n=n, n_classes=n_classes)
    assert stats.binom.sf(5, 60, 0.025) < 0.004
    assert wrong <= 5


def test_the_same_seed_chooses_the_same() -> None:
    embeddings, labels, _, _ = planted(seed=3)
    one, again = (tune(AXES, embeddings, labels, step=8, seed=4) for _ in range(2))
    assert one.held_out == again.held_out
    assert one.candidate == again.candidate
    other = tune(AXES, embeddings, labels, step=8, seed=5)
    assert not np.array_equal(one.choosing, other.choosing)


def test_halves_share_no_image_and_no_content() -> None:
    embeddings, labels, _, _ = planted(seed=4, n=200)
    rng = np.random.default_rng(0)
    # Rows 0 to 59 a second time: scaled, and as another batch would round them.
    scaled = unit_rows(embeddings[:60]) + rng.normal(size=(60, DIM)) * 2e-8
    found = tune(
        AXES, np.concatenate([embeddings, scaled * 3]), np.append(labels, labels[:60]), step=8
    )
    assert found.n_repeated == 60
    used = np.concatenate([found.choosing, found.holding])
    assert len(set(used.tolist())) == len(used) == 200
    assert set(used.tolist()) == set(range(200)), "the first of each content stays"


def test_what_has_no_label_is_left_out() -> None:
    embeddings, labels, _, _ = planted(seed=7, n=240)
    labels[::6] = -1
    found = tune(AXES, embeddings, labels, step=8)
    assert found.n_unlabelled == 40
    assert not {*found.choosing, *found.holding} & set(range(0, 240, 6))
    assert found.n_classes == 20


def halves(labels: list[int], *, whole: bool = False, held_out: float = 0.5, seed: int = 0):
    known = np.array(labels)
    return split_rows(known, np.random.default_rng(seed), held_out=held_out, whole_classes=whole)


def test_small_classes_stay_whole_and_single_images_are_on_both_sides() -> None:
    labels = [0] * 3 + [1] * 2 + [2] * 9 + [*range(10, 20)]
    choosing, holding = halves(labels)
    sides = [{labels[row] for row in side} for side in (choosing, holding)]
    assert sorted([*choosing, *holding]) == list(range(len(labels)))
    assert sides[0] & sides[1] == {2}
    for side in (choosing, holding):
        assert sum(labels[row] >= 10 for row in side) == 5
        assert sum(labels[row] == 2 for row in side) >= 4


def test_whole_classes_are_never_split() -> None:
    labels = list(np.repeat(np.arange(12), 7))
    choosing, holding = halves(labels, whole=True, held_out=0.25)
    assert not {labels[row] for row in choosing} & {labels[row] for row in holding}
    assert len(holding) == 3 * 7


def test_a_share_is_held_out_of_every_class() -> None:
    labels = list(np.repeat(np.arange(5), 40))
    _, holding = halves(labels, held_out=0.3)
    assert np.bincount([labels[row] for row in holding]).tolist() == [12] * 5


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 20)
    (found,) = jackknife(
        lambda rows: values[rows].mean(keepdims=True), np.arange(20), np.random.default_rng(1)
    )
    low, high = stats.t.interval(0.95, 19, values.mean(), values.std(ddof=1) / np.sqrt(20))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))


def test_groups_are_left_out_together() -> None:
    groups, seen = np.repeat(np.arange(6), 5), []

    def measure(rows: np.ndarray) -> np.ndarray:
        seen.append(set(range(30)) - set(rows.tolist()))
        return np.array([float(len(rows))])

    jackknife(measure, groups, np.random.default_rng(0))
    assert seen[0] == set()
    assert sorted(map(min, seen[1:])) == [0, 5, 10, 15, 20, 25]
    assert all(len(out) == 5 for out in seen[1:])


def test_too_few_labels_are_refused() -> None:
    embeddings, labels, _, _ = planted(seed=8, n=200)
    with pytest.raises(VectorError, match=f"{FEWEST_QUERIES} images.*0 different.*Give more"):
        tune(AXES, embeddings, np.full(200, -1), step=8)
    with pytest.raises(VectorError, match=r"200 different images with words.* 0 and 0 such"):
        tune(AXES, embeddings, np.arange(200), step=8, labels_from="words")
    with pytest.raises(VectorError, match="1 classes"):
        tune(AXES, embeddings, np.zeros(200, np.int64), step=8)
    few = np.where(np.arange(200) < 30, labels, -1)
    with pytest.raises(VectorError, match="30 different images"):
        tune(AXES, embeddings, few, step=8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"held_out": 0.0}, "share of 0.0"),
        ({"held_out": 1.0}, "above 0 and below 1"),
        ({"step": 0}, "1 to 23"),
        ({"step": DIM}, "step of 24"),
        ({"labels": np.zeros(3, np.int64)}, r"shape \(3,\)"),
        ({"labels": np.zeros(200)}, "float64"),
        ({"embeddings": np.ones((200, 7))}, "dim 7"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said: str) -> None:
    embeddings, labels, _, _ = planted(seed=9, n=200)
    asked = {"embeddings": embeddings, "labels": labels, "step": 8} | options
    with pytest.raises(VectorError, match=said):
        tune(AXES, asked.pop("embeddings"), asked.pop("labels"), **asked)


def test_more_images_than_are_used_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_isoclip.evaluation import tuning

    monkeypatch.setattr(tuning, "MOST_IMAGES", 150)
    monkeypatch.setattr(tuning, "MOST_QUERIES", 40)
    embeddings, labels, _, _ = planted(seed=10)
    found: Tuning = tune(AXES, embeddings, labels, step=8)
    assert len(found.choosing) + len(found.holding) == 150
    assert found.n_undrawn == 250
    assert isinstance(found.planes[0].best, Band)


def test_a_picture_that_is_there_thousands_of_times_counts_once() -> None:
    """Of 8,000 rows 6,500 are one: 21 million pairs, more than are ever held."""
    embeddings, labels, _, _ = planted(seed=11, n=8000)
    rng = np.random.default_rng(1)
    blank = rng.permutation(8000)[:6500]
    embeddings[blank] = embeddings[blank[0]]
    labels[rng.permutation(8000)[:100]] = -1
    found = tune(AXES, embeddings, labels, step=12)
    used = np.concatenate([found.choosing, found.holding])
    assert np.isin(used, blank).sum() == 1
    assert len(np.unique(unit_rows(embeddings)[used], axis=0)) == len(used)
    assert (found.n_unlabelled, found.n_undrawn) == (100, 8000 - 100 - MOST_IMAGES)
    assert found.n_repeated == MOST_IMAGES - len(used)
    assert len(used) == pytest.approx(MOST_IMAGES * 1500 / 8000, rel=0.1)
