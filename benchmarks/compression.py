"""How many of the ten nearest are kept in fewer bytes: shorter rows, half precision, codes?

    python benchmarks/compression.py           # 20,000 vectors, for a look
    python benchmarks/compression.py --full    # 100,000 vectors

Made plain embeddings of 512 numbers, and the map of ViT-B-32's published band on random heads. What
is right are the ten largest cosines after that map, of 512 numbers in float64. Codes are faiss's
product quantizers, and those of four bits for two numbers that the package's own inverted file
holds, with all of its cells opened: what the codes lose, and no cell that was left closed. Each
proposes the ten, or so many that are scored again on the float16 rows. Queries keep all of their
numbers. Time is of one thread that proposes a hundred from all codes.
"""

from __future__ import annotations

import os

# Before numpy and faiss are imported, which read them once: one thread.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from harness import Record, clip_like

Table = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Propose = Callable[[Table, int], Rows]

PLAIN_DIM, BAND, WIDTHS = 512, "150/50", (768, 512)
SIZES = {False: 20_000, True: 100_000}
QUERIES, NEAREST = 500, 10
SCORED_AGAIN = (100, 1_000)
CODES = (156, 78, 39)
"""Bytes of a code: 2, 4 and 8 numbers in each."""
BLOCK, TIMED = 50, 50
AIM, HALF_AIM = 0.99, 0.999


def spectral_map() -> Any:
    """The map of a band on random heads of ViT-B-32's shape: (n, 512) -> (n, 312)."""
    from fiftyone_isoclip.projector import Band, Head, Spectrum

    rng = np.random.default_rng(0)
    heads = (Head(rng.normal(size=(PLAIN_DIM, width)) / np.sqrt(width)) for width in WIDTHS)
    return Spectrum.between(*heads).rewrite(Band.parse(BAND))[0]


def nearest_of(rows: npt.NDArray[Any], asked: Rows) -> Rows:
    """The ten rows most similar to each of some, in no order and without itself: (m, 10).

    Changes what it is given: rows have length 1 afterwards.
    """
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = []
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        scores = rows[block] @ rows.T
        scores[np.arange(len(block)), block] = -np.inf
        found.append(np.argpartition(-scores, NEAREST, axis=1)[:, :NEAREST])
    return np.concatenate(found)


def recall(right: Rows, found: Rows) -> float:
    """The share of what is right that was found."""
    shares = [np.isin(*pair).mean() for pair in zip(right, found, strict=True)]
    return round(float(np.mean(shares)), 4)


def measure_rows(ways: dict[str, npt.NDArray[Any]], asked: Rows, right: Rows) -> dict[str, Any]:
    """Bytes and recall of rows that are kept whole."""
    return {
        name: {
            "bytes": rows.itemsize * rows.shape[1],
            "recall_at_10": recall(right, nearest_of(rows.astype(np.float32), asked)),
        }
        for name, rows in ways.items()
    }


def measure_codes(
    propose: Propose, n_bytes: int, units: Table, asked: Rows, right: Rows
) -> dict[str, Any]:
    """Bytes, recall and time of codes, alone and with the best of them scored again.

    ``propose`` takes unit queries and a number, and gives so many rows each.
    """
    started = time.perf_counter()
    propose(units[asked[:TIMED]], min(SCORED_AGAIN))
    seconds = (time.perf_counter() - started) / TIMED
    widest = propose(units[asked], max(SCORED_AGAIN))
    ten = [row[row != one][:NEAREST] for row, one in zip(widest, asked, strict=True)]
    again = {}
    for width in SCORED_AGAIN:
        chosen = [rescored(units, one, row[:width]) for one, row in zip(asked, widest, strict=True)]
        again[str(width)] = recall(right, np.array(chosen))
    return {
        "bytes": n_bytes,
        "recall_at_10": recall(right, np.array(ten)),
        "recall_at_10_scored_again": again,
        "nanoseconds_a_row": round(1e9 * seconds / len(units), 2),
    }


def rescored(units: Table, one: int, places: Rows) -> Rows:
    """The ten most similar of some rows, by their float16 numbers."""
    others = places[(places != one) & (places >= 0)]
    half = units[others].astype(np.float16).astype(np.float32)
    cosines = half @ units[one] / np.linalg.norm(half, axis=1)
    return np.asarray(others[np.argsort(-cosines)[:NEAREST]])


def product_codes(units: Table, n_bytes: int) -> Propose:
    """Train and fill faiss's product quantizer of so many bytes a row."""
    import faiss

    index = faiss.IndexPQ(units.shape[1], n_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index.train(units)
    index.add(units)
    return lambda queries, width: index.search(queries, width)[1]


def own_codes(units: Table) -> Propose:
    """The codes of this package's inverted file, all cells opened."""
    import faiss

    from fiftyone_isoclip.index.search_inverted import row_keys, train

    keys = row_keys(units, np.arange(len(units)).astype(str))
    inverted = train(units, keys)
    every = faiss.SearchParametersIVF(nprobe=inverted.cells)
    return lambda queries, width: inverted.index.search(queries, width, params=every)[1]


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="100,000 vectors and not 20,000")
    full = parser.parse_args().full
    n = SIZES[full]
    record = Record(
        "compression",
        question="How many of the ten nearest are kept in fewer bytes?",
        packages=("faiss-cpu", "numpy"),
    )
    plain, band = clip_like(n, PLAIN_DIM), spectral_map()
    short = band(plain)
    asked = np.random.default_rng(11).choice(n, QUERIES, replace=False)
    right = nearest_of(plain @ band.oblique.T.astype(np.float64), asked)
    record.setup(
        n=n, dims=[PLAIN_DIM, short.shape[1]], band=BAND, queries=QUERIES, scored_again=SCORED_AGAIN
    )
    ways = {
        "512 float32": (plain @ band.oblique.T).astype(np.float32),
        "512 float16": (plain.astype(np.float16) @ band.oblique.T).astype(np.float16),
        "312 float32": short,
        "312 float16": short.astype(np.float16),
    }
    record.results |= measure_rows(ways, asked, right)
    own = short.shape[1] // 4
    record.results["own codes"] = measure_codes(own_codes(short), own, short, asked, right)
    for size in CODES:
        propose = product_codes(short, size)
        record.results[f"PQ {size}"] = measure_codes(propose, size, short, asked, right)
    hold(record)
    record.write(full)


def hold(record: Record) -> None:
    """Hold the results against what the package relies on."""
    results = dict(record.results)
    kept = results["312 float16"]["recall_at_10"]
    record.row(
        "ten nearest kept by 312 float16 in place of 512 float32, 0.30 x the bytes",
        target=f">= {HALF_AIM}",
        measured=f"{kept}",
        met=kept >= HALF_AIM,
    )
    codes = results["own codes"]
    kept = codes["recall_at_10_scored_again"]["1000"]
    record.row(
        f"ten nearest among the 1,000 that codes of {codes['bytes']} bytes propose",
        target=f">= {AIM}",
        measured=f"{kept}; {codes['recall_at_10']} by the codes alone",
        met=kept >= AIM,
    )


if __name__ == "__main__":
    main()
