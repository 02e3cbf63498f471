"""The errors a user can meet; each message says what was asked, what was found and what to do."""

from __future__ import annotations


class IsoClipError(Exception):
    """Anything this package can explain to the user in a sentence."""


class BandError(IsoClipError):
    """A band that keeps no direction, or that is not written as two counts."""


class CheckpointError(IsoClipError):
    """A checkpoint that is unknown, unreachable, incomplete or not finite."""


class ImageError(IsoClipError):
    """One image that cannot be read; the message is the reason stored on its sample."""


class VectorError(IsoClipError):
    """Vectors of the wrong dim, or rows that are not finite or have no direction."""


class StoreError(IsoClipError):
    """A file of stored vectors that is damaged or belongs to another checkpoint."""


class DatasetError(IsoClipError):
    """A FiftyOne dataset, field or run that does not hold what was asked for."""


class RemovalError(IsoClipError):
    """A plan of removal, or the quarantine it filled, that cannot be read, trusted or written."""
