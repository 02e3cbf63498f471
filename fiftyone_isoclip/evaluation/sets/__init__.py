"""The sets of the paper, read from folders that a user has, in exactly the splits it uses.

Which split is query and which is gallery was learned from the research code of IsoCLIP
(simomagi/IsoCLIP) and of Cross the Gap (miccunifi/Cross-the-Gap), on which it builds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.sets.captions import open_coco, open_flickr30k, open_nocaps
from fiftyone_isoclip.evaluation.sets.coop import LAYOUTS, open_coop_set
from fiftyone_isoclip.evaluation.sets.landmarks import FOLDERS, open_landmarks
from fiftyone_isoclip.evaluation.sets.own_splits import open_aircraft, open_cub
from fiftyone_isoclip.evaluation.sets.retrieval_set import (
    AbsentSetError,
    DamagedSetError,
    RetrievalSet,
    TextSet,
)

__all__ = [
    "IMAGE_SETS",
    "TEXT_SETS",
    "AbsentSetError",
    "DamagedSetError",
    "RetrievalSet",
    "Survey",
    "TextSet",
    "open_set",
    "survey_sets",
]

IMAGE_SETS = (
    *("caltech", "cub", "roxford", "rparis", "cars", "pets", "flowers", "aircraft", "dtd"),
    *("eurosat", "food101", "sun397", "ucf101"),
)
"""In the order of the paper's table."""
TEXT_SETS = ("flickr30k", "coco", "nocaps")

_READERS: Mapping[str, Callable[[Path], RetrievalSet | TextSet]] = {
    **{name: partial(open_coop_set, name=name) for name in LAYOUTS},
    **{name: partial(open_landmarks, name=name) for name in FOLDERS},
    "cub": open_cub,
    "aircraft": open_aircraft,
    "flickr30k": open_flickr30k,
    "coco": open_coco,
    "nocaps": open_nocaps,
}


@dataclass(frozen=True, eq=False)
class Survey:
    """What a folder holds of the sets that were asked for.

    ``absent`` and ``damaged`` map the others to the reason.
    """

    found: Sequence[RetrievalSet | TextSet]
    absent: Mapping[str, str]
    damaged: Mapping[str, str]


def open_set(root: str | Path, name: str) -> RetrievalSet | TextSet:
    """Read a set of the paper from a folder that holds it in its usual layout.

    Raises:
        AbsentSetError: a file or folder of it is not there; the message says what and who has it.
        DamagedSetError: it is there, but not as it is published.
        IsoClipError: there is no set of that name, or no such folder.
    """
    if name not in _READERS:
        known = ", ".join((*IMAGE_SETS, *TEXT_SETS))
        raise IsoClipError(f"no set is called {name!r}; the sets are {known}")
    if not Path(root).is_dir():
        raise IsoClipError(f"{root} is no folder; give the one that holds the sets")
    return _READERS[name](Path(root))


def survey_sets(root: str | Path, names: Iterable[str]) -> Survey:
    """Open the sets that a folder holds; one that is not there or damaged costs no other.

    Raises:
        IsoClipError: there is no such folder, or no set of such a name.
    """
    found: list[RetrievalSet | TextSet] = []
    absent: dict[str, str] = {}
    damaged: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            found.append(open_set(root, name))
        except AbsentSetError as error:
            absent[name] = str(error)
        except DamagedSetError as error:
            damaged[name] = str(error)
    return Survey(found, absent, damaged)
