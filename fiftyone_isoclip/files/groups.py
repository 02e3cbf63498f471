"""Groups of duplicate files, as a search finds them and as a plan of removal takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FileMember:
    """A file that its group's keeper can stand for; "exact" has the keeper's very bytes."""

    path: str
    similarity: float
    kind: Literal["exact", "near"]


@dataclass(frozen=True, slots=True)
class FileGroup:
    """One file to keep, why, and its duplicates; exact ones first, then by similarity to it."""

    keeper: str
    reason: str
    least_similarity: float
    members: tuple[FileMember, ...]
