"""What every benchmark shares: records, turns between contenders, and made vectors."""

from harness.record import Record
from harness.turns import in_turns, ratio
from harness.vectors import clip_like, flat

__all__ = ["Record", "clip_like", "flat", "in_turns", "ratio"]
