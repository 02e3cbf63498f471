"""What an evaluation says is what was measured: figures by scikit-learn, verdicts by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import IsoClipError, VectorError
from fiftyone_isoclip.evaluation.comparison import Comparison
from fiftyone_isoclip.evaluation.copy_detection import CopyTask, evaluate_copies
from fiftyone_isoclip.evaluation.copy_page import attacks_table
from fiftyone_isoclip.evaluation.evaluate import Task, evaluate_retrieval
from fiftyone_isoclip.evaluation.evaluation_page import differences_table
from fiftyone_isoclip.evaluation.methods import Method
from fiftyone_isoclip.evaluation.metrics.bootstrap import interval
from fiftyone_isoclip.evaluation.metrics.retrieval import score_retrieval
from fiftyone_isoclip.evaluation.report import write_page
from fiftyone_isoclip.evaluation.scores import OWN_GALLERY, MethodScores, Sampling, score_methods
from fiftyone_isoclip.files import embed_files, list_images
from fiftyone_isoclip.projector import Band
from tests.pictures import draw

BAND = Band(3, 20)


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo", device="cpu")


@pytest.fixture(scope="module")
def embedded(clip, tmp_path_factory):
    """Vectors about class centres with a strong common mean: (n, r), labels, names of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 12)
    centres = rng.normal(size=(5, clip.dim)) * 0.2 + rng.normal(size=clip.dim) * 2
    vectors = centres[labels] + rng.normal(size=(60, clip.dim))
    names = [draw(folder / f"{n:02d}.png", n, 32) for n in range(60)]
    return vectors.astype(np.float32), labels, names


def task_of(embedded, queries=slice(None), gallery=slice(None), own=True) -> Task:
    vectors, labels, names = embedded
    n = len(vectors[queries])
    return Task(
        "made",
        vectors[queries],
        labels[queries],
        vectors[gallery],
        labels[gallery],
        np.arange(n) if own else np.full(n, -1),
        names[queries],
        names[gallery],
        tuple("abcde"),
    )


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mean_precision(queries, gallery, query_labels, gallery_labels, same: bool) -> float:
    """mAP by scikit-learn, in float64, query by query."""
    found = []
    for row, (query, label) in enumerate(zip(unit(queries), query_labels, strict=True)):
        others = np.arange(len(gallery)) != row if same else np.ones(len(gallery), bool)
        right = gallery_labels[others] == label
        if right.any():
            found.append(average_precision_score(right, (unit(gallery) @ query)[others]))
    return float(np.mean(found))


def mapped(clip, vectors, band=BAND):
    """IsoCLIP embeddings by the definition: M = A U U^T A^+ in float64, not the compressed map."""
    image, text = clip.image_head.matrix, clip.text_head.matrix
    directions = np.linalg.svd(image.T @ text)[0][:, band.of(clip.spectrum.rank)]
    return vectors @ (image @ directions @ directions.T @ np.linalg.pinv(image)).T


def scored(name, kind, values) -> MethodScores:
    values = {"mAP": np.asarray(values, np.float64)}
    return MethodScores(name, kind, "", None, values, {"mAP": interval(values["mAP"])})


def test_the_means_are_scikit_learns(clip, embedded):
    vectors, labels, _ = embedded
    found = evaluate_retrieval(task_of(embedded), clip, [BAND]).comparison
    plain = mean_precision(vectors, vectors, labels, labels, same=True)
    assert found.of("plain CLIP").mean() == pytest.approx(plain, abs=1e-6)
    moved = unit(vectors) - unit(vectors).mean(axis=0)
    centred = mean_precision(moved, moved, labels, labels, same=True)
    assert found.of("mean-centred plain CLIP").mean() == pytest.approx(centred, abs=1e-6)
    rewritten = mapped(clip, vectors)
    band = mean_precision(rewritten, rewritten, labels, labels, same=True)
    assert found.of(f"IsoCLIP {BAND}").mean() == pytest.approx(band, abs=1e-6)
    assert abs(plain - centred) > 1e-3 and abs(plain - band) > 1e-3


def test_class_means_are_of_the_gallery_where_the_queries_are_apart(clip, embedded):
    vectors, labels, _ = embedded
    odd, even = slice(1, None, 2), slice(0, None, 2)
    apart = evaluate_retrieval(task_of(embedded, odd, even, own=False), clip, [BAND]).comparison
    model = NearestCentroid().fit(unit(vectors[even]), labels[even])
    wanted = float((model.predict(unit(vectors[odd])) == labels[odd]).mean())
    assert 0.3 < wanted < 0.95
    assert apart.of("plain CLIP").mean("NCM accuracy") == pytest.approx(wanted)
    wanted = mean_precision(vectors[odd], vectors[even], labels[odd], labels[even], same=False)
    assert apart.of("plain CLIP").mean() == pytest.approx(wanted, abs=1e-6)
    within = evaluate_retrieval(task_of(embedded), clip, [BAND]).comparison
    assert "NCM accuracy" not in within.of("plain CLIP").values


def test_on_real_photographs_the_figures_are_scikit_learns(clip, shared_data, tmp_path):
    names, vectors, own = {}, {}, {}
    for split in ("test", "validation"):
        folder = shared_data / "clothing_cc0" / split
        embedded = embed_files(list_images(folder), clip)
        names[split], vectors[split] = embedded.embedded_paths, embedded.embeddings
        own[split] = [Path(path).parent.name for path in names[split]]
    classes = tuple(sorted({*own["test"], *own["validation"]}))
    labels = {split: np.array([classes.index(label) for label in own[split]]) for split in own}
    task = Task(
        "clothing",
        vectors["test"],
        labels["test"],
        vectors["validation"],
        labels["validation"],
        np.full(len(vectors["test"]), -1),
        names["test"],
        names["validation"],
        classes,
    )
    found = evaluate_retrieval(task, clip, [clip.image_band])
    sides = labels["test"], labels["validation"]
    plain = mean_precision(vectors["test"], vectors["validation"], *sides, same=False)
    assert found.comparison.of("plain CLIP").mean() == pytest.approx(plain, abs=1e-6)
    rewritten = [mapped(clip, vectors[split], clip.image_band) for split in vectors]
    band = mean_precision(*rewritten, *sides, same=False)
    name = f"IsoCLIP {clip.image_band}"
    assert found.comparison.of(name).mean() == pytest.approx(band, abs=1e-6)
    assert "self-trained demo weights" in found.verdict
    report = tmp_path / "report.html"
    write_page(report, found.page())
    assert report.stat().st_size < 5_000_000


def test_texts_are_compared_by_the_text_side(clip, embedded):
    vectors, labels, _ = embedded
    found = evaluate_retrieval(task_of(embedded), clip, [BAND], text=True)
    rewritten = clip.isoclip_text(BAND)(vectors)
    wanted = mean_precision(rewritten, rewritten, labels, labels, same=True)
    assert found.comparison.of(f"IsoCLIP {BAND}").mean() == pytest.approx(wanted, abs=1e-5)
    words = [part.title for part in found.page().parts]
    assert "Queries on which they differ most" in words


BASE = np.random.default_rng(1).uniform(0.2, 0.8, 200)
NOISE = np.random.default_rng(2).normal(0, 0.02, 200)


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (
            {"band": BASE + 0.1 + NOISE, "baseline": BASE, "plain": BASE - 0.1},
            r"a band \(mAP 0\.\d+\) is better than every baseline, the best of which is a baseline",
        ),
        (
            {"band": BASE - 0.1 + NOISE, "baseline": BASE, "plain": BASE - 0.2},
            r"A baseline \(mAP 0\.\d+\) is better than a band \(mAP 0\.\d+\): .*-0\.1\d\d \[-0\.1",
        ),
        (
            {"band": BASE + NOISE - NOISE.mean(), "baseline": BASE, "plain": BASE - 0.2},
            r"No measurable difference between a band .* and the best baseline, a baseline",
        ),
        (
            {"band": BASE, "baseline": BASE - 0.2, "plain": BASE},
            r"No measurable difference between a band .* and the best baseline, plain CLIP",
        ),
    ],
)
def test_whoever_wins_is_told_first_and_a_draw_is_called_one(values, first):
    methods = [
        scored("plain CLIP", "plain", values["plain"]),
        scored("a baseline", "baseline", values["baseline"]),
        scored("a band", "band", values["band"]),
    ]
    told = Comparison.between(methods, Sampling()).verdict("ViT-B-32/openai", "200 queries")
    assert "\n" not in told and "demo" not in told
    assert re.match(first, told), told


def test_the_best_of_many_bands_needs_a_larger_lead():
    """What one band shows in nineteen cases of twenty, one of twenty bands shows by luck."""
    lead = 2.3 * NOISE.std() / np.sqrt(len(NOISE))
    lucky = scored("lucky", "band", BASE + NOISE - NOISE.mean() + lead)
    plain = scored("plain CLIP", "plain", BASE)
    alone = Comparison.between([plain, lucky], Sampling())
    assert alone.verdict("x", "y").startswith("lucky (mAP")
    poor = [scored(f"poor {n}", "band", BASE - 0.1) for n in range(19)]
    among_many = Comparison.between([plain, lucky, *poor], Sampling())
    assert among_many.verdict("x", "y").startswith("No measurable difference between lucky")
    assert [each.level for each in among_many.to_best] == pytest.approx([1 - 0.05 / 20] * 20)
    better = scored("a baseline", "baseline", BASE + 0.1)
    beaten = Comparison.between([plain, better, lucky, *poor], Sampling())
    (to_plain,) = [each for each in beaten.to_plain if each.band == "lucky"]
    assert to_plain.level == pytest.approx(1 - 0.05 / 20) and not beaten.tells(to_plain)
    told = differences_table(beaten).note
    assert "The intervals hold for all 20 bands together at 95%" in told


def test_of_ten_bands_of_noise_hardly_ever_one_is_told_apart_from_plain_clip():
    """Each at 95 % by itself, some of ten is in a third of such cases."""
    rng, apart = np.random.default_rng(0), 0
    for _ in range(20):
        noisy = [scored(f"band {n}", "band", BASE + rng.normal(0, 0.1, 200)) for n in range(10)]
        compared = Comparison.between([scored("plain CLIP", "plain", BASE), *noisy], Sampling())
        apart += any(compared.tells(each) for each in compared.to_plain)
    assert apart <= 2


def test_of_few_queries_no_winner_is_named():
    """Four queries that all say the same have an interval of no width."""
    for n, first in (
        (19, "Too few independent queries (19) to tell a band (mAP 1.000) from"),
        (20, "a band (mAP"),
    ):
        methods = [scored("plain CLIP", "plain", np.zeros(n)), scored("a band", "band", np.ones(n))]
        compared = Comparison.between(methods, Sampling())
        assert compared.verdict("x", "y").startswith(first)
        assert compared.tells(compared.to_best[0]) == (n == 20)
    compared = Comparison.between(methods, Sampling(groups=np.arange(20) // 2))
    assert compared.verdict("x", "y").startswith("Too few independent queries (10)")


def test_an_image_that_is_searched_for_and_searched_with_counts_twice(clip, embedded):
    within = evaluate_retrieval(task_of(embedded), clip, [BAND])
    assert within.to_json()["intervals_widened"] == 2
    for band, lead in zip(within.comparison.bands, within.comparison.to_best, strict=True):
        gains = band.values["mAP"] - within.comparison.best_baseline.values["mAP"]
        narrow = interval(gains, level=lead.level)
        assert lead.interval.mean == narrow.mean
        wide = lead.interval.high - lead.interval.low
        assert wide == pytest.approx(2 * (narrow.high - narrow.low), rel=0.1)
    odd, even = slice(1, None, 2), slice(0, None, 2)
    apart = evaluate_retrieval(task_of(embedded, odd, even, own=False), clip, [BAND])
    assert "over 30 queries in this gallery." in apart.verdict
    assert "over 60 queries. Measured" in within.verdict
    fitted = [found.page().parts[-1].note for found in (within, apart)]
    assert all("fitted on the gallery, never on labels" in note for note in fitted)
    assert ["queries that lie in it" in note for note in fitted] == [True, False]
    plain = apart.comparison.of("plain CLIP")
    assert plain.intervals["mAP"] == interval(plain.values["mAP"])


def test_of_two_methods_that_differ_by_noise_alone_hardly_one_is_called_better():
    rng, named, labels = np.random.default_rng(0), {1.0: 0, OWN_GALLERY: 0}, np.arange(100) % 5
    for _ in range(60):
        shared = rng.normal(size=(5, 16))[labels] * 0.7 + rng.normal(size=(100, 16))
        noisy = [unit(np.hstack([shared, rng.normal(size=(100, 4))])) for _ in range(2)]
        scores = [
            score_retrieval(*[rows.astype(np.float32)] * 2, *[labels] * 2, own_rows=np.arange(100))
            for rows in noisy
        ]
        for widen in named:
            found = Sampling(widen=widen).difference(*[s.average_precision for s in scores], 0.95)
            named[widen] += found.excludes_zero
    assert named[1.0] > 0.08 * 60 and named[OWN_GALLERY] <= 0.05 * 60


def test_the_draws_of_a_random_band_become_their_mean(clip, embedded):
    found = evaluate_retrieval(task_of(embedded), clip, [BAND]).comparison
    (random,) = [method for method in found.methods if method.name.startswith("random band")]
    assert "draw" not in random.name and "mean of 3 draws" in random.note
    draws = [
        Method("random band (5, draw 1)", "baseline", *[np.eye(4, dtype=np.float32)] * 2),
        Method("random band (5, draw 2)", "baseline", *[np.eye(4, dtype=np.float32)] * 2),
    ]
    values = iter([np.array([0.0, 0.5]), np.array([1.0, 0.7])])
    (merged,) = score_methods(draws, lambda _: {"mAP": next(values)}, sampling=Sampling())
    np.testing.assert_allclose(merged.values["mAP"], [0.5, 0.6])


def test_an_inversion_that_wins_is_the_best_baseline(clip, embedded):
    _, labels, _ = embedded
    exact = np.eye(5, dtype=np.float32)[labels]
    winner = Method("OTI inversion", "inversion", exact, exact, "a note", 1.5)
    found = evaluate_retrieval(task_of(embedded), clip, [BAND], extra=[winner])
    assert found.comparison.best_baseline.name == "OTI inversion"
    assert found.verdict.startswith("OTI inversion (mAP 1.000) is better than every band")
    (told,) = [m for m in found.to_json()["methods"] if m["name"] == "OTI inversion"]
    assert told["seconds_per_query"] == 1.5
    table = found.page().parts[0]
    assert table.rows[0][0] == "OTI inversion" and "1,500.0 ms" in table.rows[0]


def test_the_report_holds_everything_but_single_queries(clip, embedded):
    found = evaluate_retrieval(task_of(embedded), clip, [BAND, Band(0, 4)], seed=3)
    report = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert report["verdict"] == str(found)
    assert "self-trained demo weights" in report["verdict"]
    names = [method["name"] for method in report["methods"]]
    assert names == [method.name for method in found.comparison.methods]
    for method in found.comparison.methods:
        (told,) = [each for each in report["methods"] if each["name"] == method.name]
        for metric, values in method.values.items():
            assert told["metrics"][metric]["mean"] == pytest.approx(np.nanmean(values))
            low, high = told["metrics"][metric]["low"], told["metrics"][metric]["high"]
            assert low <= told["metrics"][metric]["mean"] <= high
    band, best = found.comparison.best_band, found.comparison.best_baseline
    (lead,) = [
        each
        for each in report["differences"]
        if (each["band"], each["baseline"]) == (band.name, best.name)
    ]
    assert lead["mean"] == pytest.approx(band.mean() - best.mean())


def test_the_examples_are_the_queries_that_differ_most(clip, embedded):
    _, labels, names = embedded
    found = evaluate_retrieval(task_of(embedded), clip, [BAND])
    compared = found.comparison
    gains = compared.best_band.values["mAP"] - compared.best_baseline.values["mAP"]
    shown = gains[[example.query for example in found.examples]]
    assert shown.max() == gains.max() and shown.min() == gains.min()
    best = found.examples[0]
    assert gains[best.query] == gains.max()
    assert best.query not in best.band_rows and len(best.band_rows) == 5
    pictures = found.page().parts[-2]
    path, caption = pictures.rows[0][0]
    query = f"Query {'/'.join(Path(path).parts[-2:])}"
    assert path == names[best.query]
    assert caption.split("\n")[:2] == [query, "abcde"[labels[best.query]]]
    for row, (path, caption) in zip(best.band_rows, pictures.rows[0][1:], strict=True):
        assert path == names[row]
        assert caption.startswith("\N{CHECK MARK}") == (labels[row] == labels[best.query])


def test_progress_counts_every_query_once(clip, embedded):
    told = []
    evaluate_retrieval(task_of(embedded), clip, [BAND], told=told.append)
    assert sum(told) == 60 and min(told) > 0


def test_what_cannot_be_measured_is_refused(clip, embedded):
    vectors, _, names = embedded
    with pytest.raises(IsoClipError, match="no band was given"):
        evaluate_retrieval(task_of(embedded), clip, [])
    lone = Task(
        "lone", vectors, np.arange(60), vectors, np.arange(60), np.arange(60), names, names, ()
    )
    with pytest.raises(IsoClipError, match="0 of the queries have something of their own label"):
        evaluate_retrieval(lone, clip, [BAND])
    with pytest.raises(IsoClipError, match="no method is called 'x'"):
        evaluate_retrieval(task_of(embedded), clip, [BAND]).comparison.of("x")


N = 24
"""Originals."""


@pytest.fixture(scope="module")
def copies(clip):
    """Copies of originals at two distances, and twenty distractors."""
    rng = np.random.default_rng(0)
    originals = rng.normal(size=(N, clip.dim)) + 1
    gallery = np.concatenate([originals, rng.normal(size=(20, clip.dim)) + 1])
    near = originals + rng.normal(size=originals.shape) * 0.1
    far = originals + rng.normal(size=originals.shape) * 3
    return CopyTask(
        "made",
        np.concatenate([near, far]).astype(np.float32),
        np.tile(np.arange(N), 2),
        ("near",) * N + ("far",) * N,
        gallery.astype(np.float32),
        np.arange(N + 20),
        [f"q{n}" for n in range(2 * N)],
        [f"g{n}" for n in range(N + 20)],
    )


def test_copies_are_told_by_attack_as_counted_by_hand(clip, copies):
    found = evaluate_copies(copies, clip, [BAND], similarity=0.5)
    cosines = unit(copies.queries) @ unit(copies.gallery).T
    own = cosines[np.arange(2 * N), copies.query_groups]
    ranks = (cosines > own[:, None]).sum(axis=1) + 1
    plain = found.comparison.of("plain CLIP")
    recall, precision = (found.by_attack(plain, metric) for metric in ("recall@1", "mAP"))
    assert recall == {
        "near": pytest.approx((ranks[:N] == 1).mean()),
        "far": pytest.approx((ranks[N:] == 1).mean()),
    }
    assert precision["far"] == pytest.approx((1 / ranks[N:]).mean())
    assert recall["near"] == 1 > recall["far"]
    right = copies.query_groups[:, None] == copies.gallery_groups
    alike = cosines >= 0.5
    matches = found.matches("plain CLIP")
    assert matches["recall"] == pytest.approx((alike & right).sum() / right.sum())
    assert matches["precision"] == pytest.approx((alike & right).sum() / alike.sum())
    assert matches["false_queries"] == pytest.approx((alike & ~right).any(axis=1).mean())
    order = np.argsort(-cosines.max(axis=1))
    hits = (cosines.argmax(axis=1) == copies.query_groups)[order]
    micro = (np.cumsum(hits) / np.arange(1, 2 * N + 1) * hits).sum() / (2 * N)
    assert found.micro_average_precision("plain CLIP") == pytest.approx(micro)


def test_each_query_is_of_one_kind_of_edit(clip, copies):
    few = replace(copies, attacks=copies.attacks[:3])
    with pytest.raises(VectorError, match=f"attacks must be one value for each of {2 * N} rows"):
        evaluate_copies(few, clip, [BAND])


def test_edits_of_one_original_are_drawn_together(clip, copies):
    found = evaluate_copies(copies, clip, [BAND])
    plain = found.comparison.of("plain CLIP")
    together = interval(plain.values["mAP"], groups=copies.query_groups)
    assert plain.intervals["mAP"] == together != interval(plain.values["mAP"])
    assert "over 48 edited pictures of 24 originals" in found.verdict


def test_a_hash_stands_beside_the_bands_in_every_table(clip, copies, tmp_path):
    codes = np.eye(N + 20, dtype=np.float32)
    phash = Method("pHash 64 bit", "hash", codes[copies.query_groups], codes)
    found = evaluate_copies(copies, clip, [BAND], extra=[phash])
    assert found.verdict.startswith("pHash 64 bit (mAP 1.000) is better than every band tried")
    report = json.loads(json.dumps(found.to_json(), allow_nan=False))
    (told,) = [each for each in report["methods"] if each["name"] == "pHash 64 bit"]
    assert told["by_attack"]["far"]["recall@1"] == 1
    assert told["micro_average_precision"] == 1
    page = found.page(similarity=0.9)
    for title in ("recall@1 by kind of edit", "mAP by kind of edit"):
        (table,) = [part for part in page.parts if part.title == title]
        assert "pHash 64 bit" in table.columns
    write_page(tmp_path / "copies.html", page)
    assert b"Copies found last" in (tmp_path / "copies.html").read_bytes()


def test_queries_are_counted_that_have_an_original(clip, copies):
    lost = copies.query_groups.copy()
    lost[:5] = N + 100 + np.arange(5)  # edits of nothing in the gallery
    found = evaluate_copies(replace(copies, query_groups=lost), clip, [BAND])
    counts = {row[0]: row[1] for row in attacks_table(found, "recall@1").rows}
    assert counts == {"near": N - 5, "far": N}
