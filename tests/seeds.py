"""The seed of a run of the fault tests: `FAULTS_SEED` repeats an earlier one."""

from __future__ import annotations

import os
import secrets

SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbits(32))
