"""Does a threshold guide made on some photographs hold on others, and on copies it never saw?

    python benchmarks/threshold_guide.py --copies ../shared/data/copies_clothing_cc0 --full

groups.csv names file, group and attack. The guide is made on the distractors, which have no copies:
false matches among their pairs, and edits of 100 of them. It is reported on the originals and their
copies, other photographs edited by somebody else's program: the share of their pairs that show
different things and are as similar as suggested, and of each attack the share of copies that are.
A guide promises a rate of false matches of its own images; this is how far that carries.
The last part makes the guide on everything, copies included, which raises the similarity: that is
what near-copies in the data cost. The demo weights are self-trained and say nothing about published
checkpoints.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from harness import Record
from numpy.typing import NDArray

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.files import embed_files
from fiftyone_isoclip.files.edit_recall import EditRecall, measure_edits
from fiftyone_isoclip.index.false_matches import false_match_rates, similarity_for
from fiftyone_isoclip.projector import WHOLE

RATES = (1e-3, 1e-4)
SAME_EDIT = {
    "jpeg20": "recompressed", "jpeg8": "strongly recompressed", "crop90": "crop 90",
    "crop70": "crop 70", "crop50": "crop 50", "crop30": "crop 30", "half": "half size",
    "quarter": "quarter size", "gray": "grey", "bright": "brighter", "dark": "darker",
    "contrast": "more contrast", "saturate": "saturated", "blur3": "blurred", "noise25": "noisy",
    "rot5": "tilted", "rot90": "quarter turn", "hflip": "mirrored", "caption": "caption bar",
    "screenshot": "screenshot", "strong": "combined",
}  # fmt: skip
"""The attack of the data and the edit of this package that is most like it; none is the same."""


class Copies:
    """Photographs and their copies under a band: rows (n, k), who shows what, and how edited."""

    def __init__(self, rows: NDArray[np.float32], listed: list[dict[str, str]]) -> None:
        """Compare all with all, except the distractors."""
        self.rows = rows
        self.attacks = np.array([row["attack"] for row in listed])
        self.others = self.attacks != "distractor"
        groups = np.array([row["group"] for row in listed])[self.others]
        exact = rows[self.others].astype(np.float64)
        self.cosines = (exact @ exact.T).astype(np.float32)
        self.same = groups[:, None] == groups[None]

    def false_share(self, similarity: float) -> float:
        """The share of pairs that show different things and are at or above the similarity."""
        left, right = np.triu_indices(len(self.cosines), 1)
        different = ~self.same[left, right]
        return float((self.cosines[left, right][different] >= np.float32(similarity)).mean())

    def recall(self, attack: str, similarity: float) -> float:
        """The share of the copies of an attack that are at or above it to their original."""
        attacks = self.attacks[self.others]
        found = self.cosines[attacks == attack][:, attacks == "original"]
        own = self.same[attacks == attack][:, attacks == "original"]
        return float((found[own] >= np.float32(similarity)).mean())


def measure(copies: Copies, edits: EditRecall, allowed: float) -> dict[str, Any]:
    """The guide's promise beside what came of it."""
    alone = false_match_rates(copies.rows[~copies.others])
    similarity = similarity_for(alone, allowed)
    told = edits.by_kind(similarity)
    kinds = {
        attack: {
            "foretold": round(told[kind].share, 3),
            "low": round(told[kind].low, 3),
            "high": round(told[kind].high, 3),
            "found": round(copies.recall(attack, similarity), 3),
        }
        for attack, kind in SAME_EDIT.items()
    }
    foretold, found = (
        np.array([each[name] for each in kinds.values()]) for name in ("foretold", "found")
    )
    crowded = similarity_for(false_match_rates(copies.rows), allowed)
    found_there = np.mean([copies.recall(attack, crowded) for attack in SAME_EDIT])
    return {
        "pairs_of_the_guide": alone.pairs,
        "similarity": similarity,
        "false_matches_on_other_photographs": float(f"{copies.false_share(similarity):.3g}"),
        "recall_foretold": round(float(foretold.mean()), 3),
        "recall_found": round(float(found.mean()), 3),
        "mean_difference_by_attack": round(float(abs(foretold - found).mean()), 3),
        "by_attack": kinds,
        "guide_made_with_the_copies": {
            "similarity": crowded,
            "false_matches": float(f"{copies.false_share(crowded):.3g}"),
            "recall_found": round(float(found_there), 3),
        },
    }


def main() -> None:
    """Measure and write the record."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--copies", type=Path, required=True, help="a folder with groups.csv")
    options.add_argument("--model", default="isoclip-demo")
    options.add_argument("--full", action="store_true")
    asked = options.parse_args()
    with (asked.copies / "groups.csv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    listed = listed if asked.full else listed[::3]
    clip = load_clip(asked.model, device="cpu", precision="float32")
    embedded = embed_files([str(asked.copies / row["file"]) for row in listed], clip)
    listed = [listed[row] for row in embedded.rows]
    attacks = [row["attack"] for row in listed]
    paths = zip(embedded.embedded_paths, attacks, strict=True)
    clean = [path for path, attack in paths if attack == "distractor"]
    record = Record("threshold_guide", question=__doc__.splitlines()[0], packages=("numpy",))
    record.setup(model=asked.model, distractors=len(clean), others=len(listed) - len(clean))
    for band in (clip.image_band, WHOLE):
        to_space = clip.isoclip(band)
        copies = Copies(to_space(embedded.embeddings), listed)
        edits = measure_edits(clean, clip, to_space, pictures=100)
        record.results[str(band)] = {f"{rate:g}": measure(copies, edits, rate) for rate in RATES}
    record.write(asked.full)


if __name__ == "__main__":
    main()
