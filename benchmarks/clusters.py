"""How fast, and how well, are planted clusters found, against scikit-learn?

    python benchmarks/clusters.py [--full]

Leiden on the neighbour graph against HDBSCAN on planted groups (256 dims, a common mean), once
with a tenth of the rows planted as noise, and on vectors like CLIP's; our k-means against
MiniBatchKMeans and KMeans on vectors like CLIP's. CPU seconds, so that a busy machine does not
decide; wall seconds where a target is one. The full run has 10,000 rows for HDBSCAN, Leiden at
100,000, and k-means at a million rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import Record, in_turns, ratio
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.metrics import adjusted_rand_score

from fiftyone_isoclip.index import cluster

DIM = 256
LEAST_SIZE = 5
ROWS_A_GROUP = 100

Table = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def planted(n: int, *, noise: float = 0.0, seed: int = 0) -> tuple[Table, Labels]:
    """Draw groups of 100 rows with cosines of .58 inside, .3 across: (n, 256), (n,) -1 noise."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((n // ROWS_A_GROUP, DIM), np.float32))
    truth = rng.integers(len(centres), size=n)
    rows = np.sqrt(0.4) * centres[truth] + np.sqrt(0.6) * unit(
        rng.standard_normal((n, DIM), np.float32)
    )
    lonely = rng.permutation(n)[: int(noise * n)]
    rows[lonely] = unit(rng.standard_normal((len(lonely), DIM), np.float32))
    truth[lonely] = -1
    mean = unit(rng.standard_normal((1, DIM), np.float32))
    return unit(np.sqrt(0.7) * rows + np.sqrt(0.3) * mean), truth


def unit(rows: npt.NDArray[Any]) -> Table:
    """Bring rows to length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def compare(contenders: dict[str, Callable[[], Labels]], truth: Labels, turns: int) -> Any:
    """Let contenders take turns -> CPU seconds turn by turn, and a table of time and ARI."""
    labels: dict[str, Labels] = {}

    def keep(name: str) -> Callable[[], None]:
        return lambda: labels.update({name: contenders[name]()})

    seconds = in_turns({name: keep(name) for name in contenders}, turns)
    table = {
        name: {
            "cpu_seconds": round(median(times), 2),
            "ari": round(float(adjusted_rand_score(truth, labels[name])), 3),
            "clusters": len(np.unique(labels[name][labels[name] >= 0])),
            "noise": round(float(np.mean(labels[name] < 0)), 3),
        }
        for name, times in seconds.items()
    }
    return seconds, table


def with_leiden(rows: Table) -> Labels:
    """Cluster by Leiden."""
    return cluster(rows, method="leiden", least_size=LEAST_SIZE).labels


def with_hdbscan(rows: Table) -> Labels:
    """Cluster by HDBSCAN, as installed."""
    return np.asarray(HDBSCAN(min_cluster_size=LEAST_SIZE, copy=True).fit_predict(rows))


def with_hdbscan_tuned(rows: Table) -> Labels:
    """Cluster by HDBSCAN on a square table, its fastest setting in so many dims."""
    found = HDBSCAN(min_cluster_size=LEAST_SIZE, algorithm="brute", copy=True).fit_predict(rows)
    return np.asarray(found)


def clip_like_truth(n: int, count: int, seed: int = 0) -> tuple[Table, Labels]:
    """Draw vectors like CLIP's about `count` centres: (n, 256), (n,) the centre of each."""
    rng = np.random.default_rng(seed)
    scales = (1 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    scales /= np.linalg.norm(scales)
    centres = rng.standard_normal((count, DIM), np.float32) * scales
    shares = 1 / np.sqrt(np.arange(1, count + 1))
    truth = rng.choice(count, size=n, p=shares / shares.sum())
    rows = rng.standard_normal((n, DIM), np.float32)
    rows *= scales
    rows += centres[truth]
    rows *= np.float32(np.sqrt(0.5))
    rows[:, 0] += 1.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, truth


def measure_leiden(record: Record, full: bool) -> None:
    """Leiden against HDBSCAN: planted groups, the same with noise, vectors like CLIP's."""
    n = 10_000 if full else 4_000
    tables = {
        "planted": planted(n),
        "planted, a tenth is noise": planted(n, noise=0.1),
        "clip-like": clip_like_truth(n, n // 200),
    }
    for name, (rows, truth) in tables.items():
        contenders = {
            "leiden": lambda rows=rows: with_leiden(rows),
            "hdbscan_tuned": lambda rows=rows: with_hdbscan_tuned(rows),
        }
        if name == "planted":
            contenders["hdbscan_as_installed"] = lambda rows=rows: with_hdbscan(rows)
        seconds, table = compare(contenders, truth, 1)
        record.results[f"{name}, {n:,}"] = table
        ours, peer = table["leiden"], table["hdbscan_tuned"]
        tuned = ratio(seconds["hdbscan_tuned"], seconds["leiden"])
        if name == "planted":
            installed = ratio(seconds["hdbscan_as_installed"], seconds["leiden"])
            record.row(
                f"clusters of {n:,} rows in {n // ROWS_A_GROUP} planted groups, Leiden",
                target=">= 30 x scikit-learn HDBSCAN at equal ARI",
                measured=f"{installed} x as installed, {tuned} x its fastest setting; "
                f"ARI {ours['ari']} and {peer['ari']}",
                met=installed >= 30 and ours["ari"] >= peer["ari"] - 0.005,
                note="" if installed >= 30 else "the neighbours are exact at this size",
            )
        else:
            record.row(
                f"clusters of {n:,} rows, {name}, Leiden",
                target="ARI of HDBSCAN at least",
                measured=f"ARI {ours['ari']} and {peer['ari']}; {tuned} x its fastest setting",
                met=ours["ari"] >= peer["ari"] - 0.005,
                note=""
                if ours["ari"] >= peer["ari"] - 0.005
                else "of noise some is missed: a row is noise only if it leans on no one cluster",
            )


def measure_scale(record: Record, full: bool) -> None:
    """Leiden where HDBSCAN would take hours."""
    n = 100_000 if full else 40_000
    for name, (rows, truth) in {
        "clip-like": clip_like_truth(n, n // 200),
        "planted": planted(n),
    }.items():
        start = time.perf_counter()
        labels = with_leiden(rows)
        wall = time.perf_counter() - start
        ari = round(float(adjusted_rand_score(truth, labels)), 3)
        record.results[f"{name}, {n:,}, leiden"] = {"wall_seconds": round(wall, 1), "ari": ari}
        record.row(
            f"clusters of {n:,} rows, {name}, Leiden",
            target="under 20 s",
            measured=f"{wall:.1f} s, ARI {ari}",
            met=wall < 20,
        )


def measure_kmeans(record: Record, full: bool) -> None:
    """Our k-means against scikit-learn's two, at a given count."""
    n, count = (1_000_000, 500) if full else (20_000, 100)
    rows, truth = clip_like_truth(n, count)
    walls: list[float] = []

    def ours_timed() -> Labels:
        start = time.perf_counter()
        labels = cluster(rows, count=count).labels
        walls.append(time.perf_counter() - start)
        return labels

    contenders: dict[str, Callable[[], Labels]] = {
        "ours": ours_timed,
        "minibatch": lambda: MiniBatchKMeans(
            count, n_init=3, batch_size=4096 if full else 1024, random_state=0
        ).fit_predict(rows),
    }
    if not full:
        contenders["kmeans"] = lambda: KMeans(count, n_init=1, random_state=0).fit_predict(rows)
    seconds, table = compare(contenders, truth, 1)
    record.results[f"kmeans, clip-like, {n:,}"] = table | {"ours_wall_seconds": round(walls[0], 1)}
    times = ratio(seconds["minibatch"], seconds["ours"])
    ours, peer = table["ours"]["ari"], table["minibatch"]["ari"]
    record.row(
        f"k-means of {n:,} rows into {count:,}",
        target="in minutes, ARI of scikit-learn's MiniBatchKMeans at least",
        measured=f"{walls[0]:.0f} s wall; {times} x MiniBatchKMeans; ARI {ours} and {peer}",
        met=walls[0] < 300 and ours >= peer - 0.01,
        note="" if ours >= peer - 0.01 else "k-means of either kind stops in a local optimum",
    )


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    record = Record(
        "clusters",
        question="How fast and how well are planted clusters found, against scikit-learn?",
        packages=("faiss-cpu", "graspologic-native", "numpy", "scikit-learn"),
    )
    # The libraries are loaded once, and not at the expense of whoever comes first.
    for warm_up in (with_leiden, with_hdbscan, lambda rows: cluster(rows, count=4).labels):
        warm_up(planted(1_000)[0])
    record.setup(dim=DIM, least_size=LEAST_SIZE)
    measure_leiden(record, full)
    measure_scale(record, full)
    measure_kmeans(record, full)
    record.write(full)


if __name__ == "__main__":
    main()
