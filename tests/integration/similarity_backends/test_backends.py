"""From a dataset to an index in each database, and what is found there, against brute force."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_isoclip.dataset import build_similarity
from fiftyone_isoclip.dataset.fields import Origin, write_origin
from fiftyone_isoclip.dataset.model import load_model
from fiftyone_isoclip.dataset.similarity_backends import BACKENDS
from fiftyone_isoclip.encoder import Clip, load_clip
from fiftyone_isoclip.errors import DatasetError
from tests.integration.similarity.oracles import EXACT, FIELD, NAME, check_order, fill, unit

N = 60
NOWHERE = {
    "milvus": "http://127.0.0.1:1",
    "pgvector": "host=/nowhere/at/all dbname=postgres",
}


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(NAME, **EXACT)


@pytest.fixture(scope="module")
def plain(clip: Clip) -> Any:
    return (np.random.default_rng(5).normal(size=(N, clip.dim)) + 0.5).astype(np.float32)


@pytest.fixture
def ids(dataset: fo.Dataset, plain: Any, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Samples that hold plain embeddings of the checkpoint, and no files to embed."""
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_runs.embed", lambda *_, **__: None)
    found = fill(dataset, plain)
    write_origin(dataset, FIELD, Origin(NAME, clip.fingerprint, clip.dim))
    return found


def build(dataset: fo.Dataset, backend: str, uri: str, **said: Any) -> Any:
    model = load_model(NAME, **EXACT)
    said = {"brain_key": "found", "backend": backend, "uri": uri} | said
    return build_similarity(dataset, model, **said)


def ask(samples: Any, query: Any, **said: Any) -> list[str]:
    return samples.sort_by_similarity(query, **{"brain_key": "found"} | said).values("id")


def test_images_texts_and_views_are_found(dataset, ids, plain, clip, backend, address):
    build(dataset, backend, address)
    images = clip.isoclip()(plain)
    texts = unit(plain) @ clip.text_embeddings(["a red circle"])[0]
    rows = list(range(1, N, 3))
    view = dataset.select([ids[row] for row in rows])
    check_order(ask(dataset, ids[4], k=7), ids, images @ images[4])
    check_order(ask(dataset, ids[4]), ids, images @ images[4])
    check_order(ask(dataset, plain[6], k=7), ids, images @ images[6])
    check_order(ask(dataset, "a red circle", k=7), ids, texts)
    within = [ids[row] for row in rows]
    check_order(ask(view, ids[4], k=5), within, (images @ images[4])[rows])
    check_order(ask(view, "a red circle"), within, texts[rows])


def test_a_new_process_finds_the_same_while_this_one_goes_on(dataset, ids, tmp_path, postgres):
    addresses = {backend: str(tmp_path / f"{backend}.db") for backend in BACKENDS}
    addresses["pgvector"] = postgres.uri
    for backend, address in addresses.items():
        build(dataset, backend, address, brain_key=backend)
    build(dataset, "lancedb", addresses["lancedb"], brain_key="half", storage="float16")
    dataset.persistent = True
    keys, queries = dataset.list_brain_runs(), [ids[4], "a red circle"]
    code = (
        f"import fiftyone as fo\ndataset = fo.load_dataset({dataset.name!r})\n"
        f"for key in {keys!r}:\n"
        f"    for query in {queries!r}:\n"
        "        view = dataset.sort_by_similarity(query, k=7, brain_key=key)\n"
        "        print('FOUND', *view.values('id'))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [line.split() for line in re.findall("FOUND (.*)", shown.stdout)]
    right = [ask(dataset, query, k=7, brain_key=key) for key in keys for query in queries]
    assert found == right


def test_an_index_is_shown_in_a_line_even_if_its_database_is_away(
    dataset, ids, clip, backend, address, monkeypatch
):
    def fail(table):
        raise DatasetError("it is away")

    index = build(dataset, backend, address)
    told = f"<TableSimilarityIndex 'found' in {backend}: {{}} of {FIELD}, band {clip.image_band}>"
    assert str(index) == repr(index) == told.format(f"{N} vectors")
    with index.tables() as tables:
        monkeypatch.setattr(type(tables.images), "count", fail)
    assert str(index) == told.format("vectors out of reach")


def test_deleting_the_run_leaves_nothing_in_the_database(dataset, ids, backend, address):
    index = build(dataset, backend, address)
    tables = index.backend.open()
    assert (tables.images.count(), tables.texts.count()) == (N, N)
    dataset._brain_cache.clear()  # as in another session
    dataset.delete_brain_run("found")
    tables = index.backend.open()
    assert (tables.images.list_ids(), tables.texts.list_ids()) == (([], []), ([], []))


def test_a_password_is_never_stored(dataset, ids, postgres, monkeypatch):
    address = postgres.uri.replace("://", "://:hush@")
    build(dataset, "pgvector", address)
    run = fo.core.odm.get_db_conn().runs.find_one({"_dataset_id": dataset._doc.id, "key": "found"})
    assert "hush" not in json.dumps(run, default=str)
    dataset._brain_cache.clear()
    with pytest.raises(DatasetError, match="FIFTYONE_BRAIN_SIMILARITY_PGVECTOR_CONNECTION_STRING"):
        ask(dataset, ids[0], k=1)
    settings = fob.brain_config.similarity_backends["pgvector"]  # read from the environment
    monkeypatch.setitem(settings, "connection_string", address)
    dataset._brain_cache.clear()
    assert ask(dataset, ids[0], k=1) == [ids[0]]


@pytest.mark.parametrize(("backend", "uri"), NOWHERE.items())
def test_f12_a_database_that_is_away_is_told_before_anything_is_embedded(dataset, backend, uri):
    pytest.importorskip({"milvus": "pymilvus", "pgvector": "psycopg2"}[backend])
    dataset.add_sample(fo.Sample(filepath="/nowhere.png"))
    with pytest.raises(DatasetError, match=f"^{backend} at {re.escape(uri)} did not do"):
        build(dataset, backend, uri)
    assert (dataset.list_brain_runs(), dataset.has_field(FIELD)) == ([], False)


def test_more_neighbours_than_a_milvus_server_finds_are_refused(
    dataset, ids, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fiftyone_isoclip.dataset.similarity_backends.milvus.MOST_HITS", N - 1)
    build(dataset, "milvus", str(tmp_path / "few.db"))
    assert len(ask(dataset, ids[0], k=N - 1)) == N - 1
    with pytest.raises(DatasetError, match=f"{N - 1} at most; give a smaller k"):
        ask(dataset, ids[0])
