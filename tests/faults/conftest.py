"""What injected faults need: a seed that is told, and the fixtures of tests on real datasets."""

from __future__ import annotations

import pytest

from tests.integration.conftest import (  # noqa: F401  (the same fixtures, found by their names)
    _one_thread,
    checkpoint,
    fill,
    other_checkpoint,
    pictures,
)
from tests.seeds import SEED


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What the test draws from, told where the test fails."""
    print(f"{request.node.nodeid}: FAULTS_SEED={SEED} draws the same again")
    return SEED
