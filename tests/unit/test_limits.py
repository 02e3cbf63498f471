"""Searches refused by a sample: only where the sample is enough to tell."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.index.limits import refuse_explosion


@pytest.mark.parametrize("held", [0, 1])
def test_a_sample_of_less_than_a_pair_refuses_nothing(held):
    refuse_explosion(np.ones((held, 4), np.float32), 0.95, n=300_000)
