"""The operators and our index in the real App: what a user clicks, and what is true afterwards.

These tests build on each other, as one sitting at the App does.
"""

from __future__ import annotations

import re
import time
from typing import Any

import fiftyone as fo
import numpy as np
import torch

from fiftyone_isoclip.app import OPERATORS
from fiftyone_isoclip.encoder import load_clip, read_image
from fiftyone_isoclip.hardware import processor_has_bf16
from tests.e2e.app_page import AppPage
from tests.e2e.conftest import KINDS, SOURCES

EMBED = "IsoCLIP: Compute embeddings"
DUPLICATES = "IsoCLIP: Find near-duplicates"
N = len(SOURCES) * (1 + len(KINDS))
SIMILARITY = "0.9"


def test_the_operator_browser_offers_them_all(app: AppPage) -> None:
    assert sorted(app.list_operators("IsoCLIP")) == sorted(each.label for each in OPERATORS)


def test_duplicates_need_embeddings_first(app: AppPage) -> None:
    app.choose_operator(DUPLICATES)
    app.expect_in_form("run the operator IsoCLIP: Compute embeddings first")


def test_embedding_through_the_form_stores_the_towers_output(
    app: AppPage, photographs: fo.Dataset
) -> None:
    app.open_operator(EMBED)
    assert (app.value("Model"), app.value("Field")) == ("isoclip-demo", "clip_embedding")
    app.fill("Similarity index (optional)", "isoclip_search")
    app.expect_in_form("and the brain run isoclip_search")
    result = app.execute()
    app.expect_notice(f"{N} embeddings computed, 0 were up to date")
    assert re.search(rf"Embeddings computed:\s*{N}\b", result)
    app.leave_result()
    photographs.reload()
    found, right = np.stack(photographs.values("clip_embedding")), towers_output(photographs)
    error = np.linalg.norm(found - right, axis=1) / np.linalg.norm(right, axis=1)
    # The operator computes in bf16 where the processor has it: every product of the tower's layers
    # is rounded by 2^-9, and tens of these add up at random.
    assert error.max() < (2.0**-5 if processor_has_bf16() else 1e-5)


def test_duplicates_through_the_form_show_the_planted_groups(
    app: AppPage, photographs: fo.Dataset
) -> None:
    app.open_operator(DUPLICATES)
    app.fill("Similarity from which images are duplicates", SIMILARITY)
    result = app.execute()
    app.expect_notice(f"{len(SOURCES)} groups of {N} images; {N - len(SOURCES)} of them could go")
    photographs.reload()
    groups = {
        frozenset(group.values("source_group"))
        for group in photographs.load_saved_view("duplicates").iter_dynamic_groups()
    }
    assert groups == {frozenset([name]) for name in SOURCES}
    assert re.search(rf"Groups:\s*{len(SOURCES)}\b", result)
    app.leave_result()
    app.expect_counts(f"{len(SOURCES)} groups")
    app.expect_tiles(len(SOURCES))


def test_the_magnifier_finds_the_copies_of_an_image_first(app: AppPage, session: Any) -> None:
    app.show_everything(f"{N} samples")
    app.search_like_first_tile()
    shown = await_view(session)
    first, *_ = SOURCES
    assert shown.values("source_group")[: 1 + len(KINDS)] == [first] * (1 + len(KINDS))
    assert len(shown) == N


def await_view(session: Any, seconds: float = 60) -> Any:
    """The view that the App shows, as FiftyOne's session in Python learns of it."""
    deadline = time.monotonic() + seconds
    while session.view is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert session.view is not None, "the App still shows the whole dataset"
    return session.view


def towers_output(dataset: fo.Dataset) -> np.ndarray[Any, Any]:
    """The tower's output image by image, without batches, operators or a database."""
    torch.set_num_threads(1)
    clip = load_clip("isoclip-demo", device="cpu", precision="float32")
    paths = dataset.values("filepath")
    rows = [clip.image_embeddings(clip.preprocess(read_image(path))[None])[0] for path in paths]
    return np.stack(rows)
