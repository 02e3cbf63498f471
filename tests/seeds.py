"""The seed of a run of the fault tests: the same each time, so that a change is to blame.

`make faults` draws another one, and `FAULTS_SEED` repeats an earlier one.
"""

from __future__ import annotations

import os

SEED = int(os.environ.get("FAULTS_SEED") or 420860191)
