"""Which directions of the inter-modal operator are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fiftyone_isoclip.errors import BandError

_CENTRED = "-centred"


@dataclass(frozen=True, slots=True)
class Band:
    """How many directions to drop at either end of the spectrum of Psi, as counted in the paper.

    A band is independent of any model: ``of(rank)`` applies it to one. The counts are
    ``k_top`` and ``k_bottom`` of the paper (section 4). A ``centred`` band compares embeddings
    by their directions from a centre, which a map of it has to be given; the paper has none.

    Raises:
        BandError: a count is negative or not a whole number.
    """

    drop_top: int = 0
    drop_bottom: int = 0
    centred: bool = False

    def __post_init__(self) -> None:
        for count in (self.drop_top, self.drop_bottom):
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise BandError(
                    f"Band(drop_top={self.drop_top!r}, drop_bottom={self.drop_bottom!r}) asks for "
                    f"{count!r} directions; give whole numbers of 0 or more"
                )

    @classmethod
    def parse(cls, text: str) -> Band:
        """Read a band written as ``TOP/BOTTOM``, for example ``150/50`` or ``150/50-centred``.

        Raises:
            BandError: the text is not two whole numbers with a slash between them.
        """
        match = re.fullmatch(rf"\s*(\d+)\s*/\s*(\d+)\s*({_CENTRED})?\s*", text)
        if match is None:
            raise BandError(
                f"{text!r} is not a band; write TOP/BOTTOM, for example 150/50, or "
                "150/50-centred to compare from a fitted centre"
            )
        return cls(int(match[1]), int(match[2]), match[3] is not None)

    def count(self, rank: int) -> int:
        """How many of ``rank`` directions are kept; at least 1.

        Raises:
            BandError: nothing would be left.
        """
        kept = rank - self.drop_top - self.drop_bottom
        if kept < 1:
            raise BandError(
                f"Band(drop_top={self.drop_top}, drop_bottom={self.drop_bottom}) keeps none of "
                f"{rank} directions; drop fewer than {rank} in total"
            )
        return kept

    def of(self, rank: int) -> slice:
        """The kept positions among ``rank`` directions in descending order of singular value.

        Raises:
            BandError: nothing would be left.
        """
        return slice(self.drop_top, self.drop_top + self.count(rank))

    def __str__(self) -> str:
        return f"{self.drop_top}/{self.drop_bottom}" + _CENTRED * self.centred


WHOLE = Band()
"""Every direction: plain CLIP on a full-rank Psi, the baseline without a special case."""
