"""FiftyOne's own Similarity Search and Embeddings panels on our indexes and maps, in Chromium."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip import build_similarity, embed, find_similar, load_clip
from fiftyone_isoclip.dataset import map_embeddings
from tests.e2e.app_page import AppPage
from tests.e2e.conftest import KINDS
from tests.e2e.search_page import SearchPage
from tests.e2e.test_app import N, await_view

INDEX, MAP = "panels_search", "panels_map"
COPIES = 1 + len(KINDS)


@pytest.fixture(scope="module", autouse=True)
def index(photographs: fo.Dataset) -> None:
    embed(photographs, "isoclip-demo", progress=False)
    build_similarity(photographs, "isoclip-demo", brain_key=INDEX)
    map_embeddings(photographs, brain_key=MAP)


@pytest.fixture
def search(app: AppPage, session: Any) -> SearchPage:
    app.show_everything(f"{N} samples")
    session.view = None
    page = SearchPage(app)
    page.open()
    page.new(INDEX)
    return page


def found(session: Any, search: SearchPage) -> Any:
    search.execute()
    return await_view(session)


def test_a_text_finds_what_plain_clip_finds(
    search: SearchPage, session: Any, photographs: fo.Dataset
) -> None:
    search.by_text("a red circle")
    shown = found(session, search)
    expected = find_similar(photographs, text="a red circle", k=N)
    assert shown.values("id") == expected.ids


def test_an_uploaded_picture_finds_its_copies_first(
    search: SearchPage, session: Any, photographs: fo.Dataset
) -> None:
    path = photographs.match({"source_group": "rocket"}).first().filepath
    search.by_upload(path)
    shown = found(session, search)
    assert set(shown.values("source_group")[:COPIES]) == {"rocket"}
    assert shown.values("id") == find_similar(photographs, path, k=N).ids


def test_what_is_wanted_counts_twice_and_what_is_not_once(
    search: SearchPage, session: Any, photographs: fo.Dataset
) -> None:
    # The grid shows the originals first, in the order of SOURCES.
    search.by_samples(wanted=0, unwanted=4)
    shown = found(session, search).values("id")
    ids = photographs.values("id")
    vectors = load_clip("isoclip-demo").isoclip()(np.stack(photographs.values("clip_embedding")))
    scores = vectors @ (2 * vectors[0] - vectors[4])
    assert shown == [ids[row] for row in np.argsort(-scores)]
    assert shown != find_similar(photographs, ids[0], k=N).ids


def test_the_embeddings_panel_shows_our_map(app: AppPage, photographs: fo.Dataset) -> None:
    app.show_everything(f"{N} samples")
    SearchPage(app).open_map(MAP, N)
