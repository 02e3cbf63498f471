"""The sets of the paper, read from folders that a user has, in exactly the splits it uses.

Which split is query and which is gallery was learned from the research code of IsoCLIP
(simomagi/IsoCLIP) and of Cross the Gap (miccunifi/Cross-the-Gap), on which it builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    "TextSet",
    "open_set",
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
