"""From the App: which databases it opens, and that an index is replaced by a whole one alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_isoclip import build_similarity, embed, fit_centre
from fiftyone_isoclip.app.index import DEFAULT_KEY, BuildSimilarityIndex
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.similarity_backends import BACKENDS
from fiftyone_isoclip.dataset.similarity_files import inverted_path
from tests.operators import Offered
from tests.pictures import draw_many

pytest.importorskip("lancedb", reason="the extra lancedb is not installed")

Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def ids(dataset: fo.Dataset, fill: Fill, pictures: Path) -> list[str]:
    found = fill(draw_many(pictures, 6))
    embed(dataset, "isoclip-demo", progress=False)
    return found


@pytest.fixture
def folder(dataset: fo.Dataset) -> Path:
    return side_folder() / "indexes" / str(dataset._doc.id)


@pytest.fixture(autouse=True)
def _no_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in BACKENDS:
        monkeypatch.setitem(fob.brain_config.similarity_backends, backend, {})


def nearest(dataset: fo.Dataset, id_: str) -> list[str]:
    return list(dataset.sort_by_similarity(id_, k=2, brain_key=DEFAULT_KEY).values("id"))


@pytest.mark.parametrize(
    "asked",
    [
        {"backend": "milvus", "storage": "float16"},
        {"backend": "lancedb", "band": "4/32-centred"},
    ],
)
def test_what_a_database_does_not_hold_is_refused_by_the_form_and_replaces_nothing(
    dataset: fo.Dataset, ids: list[str], folder: Path, asked: dict[str, str]
) -> None:
    fit_centre(dataset)
    build_similarity(dataset, brain_key=DEFAULT_KEY)
    found, offered = nearest(dataset, ids[0]), Offered(BuildSimilarityIndex, dataset)
    asked = {"uri": str(folder / "x.db")} | asked
    (told,) = offered.refusals(replace=True, **asked)
    assert offered.run(**offered.defaults(replace=True, **asked))["error"].startswith(
        told.split("or below")[0]
    )
    assert dataset.list_brain_runs() == [DEFAULT_KEY]
    assert nearest(dataset, ids[0]) == found


def test_a_database_that_refuses_while_it_is_filled_replaces_nothing(
    dataset: fo.Dataset, ids: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_isoclip.dataset.similarity_backends.lancedb import LanceTable

    build_similarity(dataset, brain_key=DEFAULT_KEY)
    found, offered = nearest(dataset, ids[0]), Offered(BuildSimilarityIndex, dataset)

    def refuse(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(LanceTable, "put", refuse)
    asked = offered.defaults(replace=True, backend="lancedb", uri=str(folder))
    assert "no room" in offered.run(**asked)["error"]
    assert dataset.list_brain_runs() == [DEFAULT_KEY]
    assert nearest(dataset, ids[0]) == found


def test_an_index_is_replaced_under_its_name(
    dataset: fo.Dataset, ids: list[str], folder: Path
) -> None:
    offered = Offered(BuildSimilarityIndex, dataset)
    for asked in ({"backend": "lancedb", "uri": str(folder)}, {"uri": "left"}, {"band": "2/3"}):
        offered.run(**offered.defaults(replace=True, **asked))
        assert dataset.list_brain_runs() == [DEFAULT_KEY]
        found = nearest(dataset, ids[0])
        assert found[0] == ids[0]
        dataset._brain_cache.clear()  # as in another session
        dataset.reload()
        assert nearest(dataset, ids[0]) == found
    assert list(folder.iterdir()) == []


def test_a_renamed_index_keeps_its_file(dataset: fo.Dataset, ids: list[str]) -> None:
    build_similarity(dataset, brain_key="before")
    path = inverted_path(dataset, "before")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"of before")
    dataset.rename_brain_run("before", "after")
    assert inverted_path(dataset, "after").read_bytes() == b"of before"
    assert not path.exists()
    dataset.delete_brain_run("after")
    assert not inverted_path(dataset, "after").exists()


@pytest.mark.parametrize(
    ("backend", "uri"),
    [
        ("lancedb", "{outside}/any"),
        ("lancedb", "~/any"),
        ("lancedb", "{inside}/../../any"),
        ("lancedb", "{inside}/link/any"),
        ("lancedb", "s3://somebody/tables"),
        ("milvus", "{outside}/any.db"),
        ("milvus", "http://127.0.0.1:1"),
        ("pgvector", "host=127.0.0.1 port=1"),
        ("pgvector", "{inside}"),
        ("pgvector", "postgresql://127.0.0.1:1/db"),
    ],
)
def test_the_app_opens_no_database_that_nobody_named(
    dataset: fo.Dataset, ids: list[str], folder: Path, tmp_path: Path, backend: str, uri: str
) -> None:
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    uri = uri.format(outside=tmp_path, inside=folder)
    offered = Offered(BuildSimilarityIndex, dataset)
    (told,) = offered.refusals(backend=backend, uri=uri)
    # What pgvector takes for a secret is refused, too, and before anything is opened.
    assert "the App opens a database only" in told or "may hold a user" in told
    assert uri not in told
    assert offered.run(**offered.defaults(backend=backend, uri=uri))["error"].startswith(
        told.split("or below")[0]
    )
    assert not list(tmp_path.glob("any*"))


def test_the_app_opens_what_the_environment_or_an_index_names(
    dataset: fo.Dataset, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, named, earlier = Offered(BuildSimilarityIndex, dataset), tmp_path / "a", tmp_path / "b"
    monkeypatch.setitem(fob.brain_config.similarity_backends["lancedb"], "uri", str(named))
    build_similarity(dataset, brain_key="earlier", backend="lancedb", uri=str(earlier))
    for uri in (None, str(named), str(earlier)):
        assert offered.refusals(backend="lancedb", uri=uri) == []
    assert len(offered.refusals(backend="milvus", uri=str(earlier))) == 1


def test_python_opens_what_it_is_told_to(
    dataset: fo.Dataset, ids: list[str], tmp_path: Path
) -> None:
    offered = Offered(BuildSimilarityIndex, dataset)
    asked = offered.defaults() | {"backend": "lancedb", "uri": str(tmp_path / "any")}
    ctx = offered.context(asked)
    del ctx.request_params["operator_uri"]
    assert offered.operator.execute(ctx)["images"] == 6
