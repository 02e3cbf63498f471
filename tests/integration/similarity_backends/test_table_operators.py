"""Indexes in a database from the App: the form, the run, the tab Runs, deleting and replacing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_isoclip import build_similarity, embed
from fiftyone_isoclip.app.index import BuildSimilarityIndex
from fiftyone_isoclip.app.runs import DeleteRun, Rerun
from fiftyone_isoclip.dataset.fields import Origin, write_origin
from fiftyone_isoclip.dataset.places import side_folder
from tests.operators import Offered
from tests.panels import Panel, texts, views
from tests.pictures import draw, draw_many

pytest.importorskip("lancedb", reason="the extra lancedb is not installed")

Fill = Callable[[Sequence[str]], list[str]]
KEY = "isoclip_search"


@pytest.fixture
def ids(dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str) -> list[str]:
    found = fill(draw_many(pictures, 6))
    embed(dataset, checkpoint, progress=False)
    return found


@pytest.fixture(autouse=True)
def _no_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(fob.brain_config.similarity_backends["lancedb"], "uri", raising=False)
    yield


@pytest.fixture
def folder(dataset: fo.Dataset) -> Path:
    return side_folder() / "indexes" / str(dataset._doc.id) / "tables"


def tables_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def build(dataset: fo.Dataset, folder: Path, **said: object) -> dict[str, object]:
    offered = Offered(BuildSimilarityIndex, dataset)
    said = {"backend": "lancedb", "uri": str(folder)} | said
    assert offered.refusals(**said) == []
    result = offered.run(**offered.defaults(**said))
    assert "error" not in result, result
    return result


def test_the_form_asks_for_an_address_of_a_database_alone(
    dataset: fo.Dataset, ids: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    offered = Offered(BuildSimilarityIndex, dataset)
    assert not {"uri", "text"} & set(offered.form())
    (told,) = offered.refusals(backend="lancedb")
    assert "FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI" in told
    monkeypatch.setitem(fob.brain_config.similarity_backends["lancedb"], "uri", str(folder))
    assert offered.refusals(backend="lancedb") == []


def test_the_form_takes_no_password_for_it_would_be_kept_with_a_scheduled_run(
    dataset: fo.Dataset, ids: list[str]
) -> None:
    address = "lance://someone:word@host/db"
    offered = Offered(BuildSimilarityIndex, dataset)
    (told,) = offered.refusals(backend="lancedb", uri=address)
    assert "FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI" in told and "word@" not in told
    error = offered.run(**offered.defaults(backend="lancedb", uri=address))["error"]
    assert "FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI" in error
    assert dataset.list_brain_runs() == []


def test_what_it_builds_is_the_verbs(
    dataset: fo.Dataset, ids: list[str], folder: Path, checkpoint: str
) -> None:
    result = build(dataset, folder, storage="float16")
    assert (result["images"], result["embedded"]) == (6, 0)
    assert (result["search"], result["storage"]) == ("by lancedb", "float16")
    build_similarity(
        dataset,
        checkpoint,
        brain_key="direct",
        backend="lancedb",
        uri=str(folder),
        storage="float16",
    )
    for query in (ids[0], "a red circle"):
        one, other = (dataset.sort_by_similarity(query, brain_key=key) for key in (KEY, "direct"))
        assert one.values("id") == other.values("id")
    assert len(tables_in(folder)) == 4


def test_the_tab_runs_says_where_it_lies_and_deleting_takes_the_tables_along(
    dataset: fo.Dataset, ids: list[str], folder: Path, checkpoint: str
) -> None:
    build(dataset, folder, text=False)
    shown = texts(Panel(dataset, "runs").send())
    assert f"**{KEY}** (index in lancedb, {checkpoint}" in shown
    assert "not built to its end" not in shown

    offered = Offered(DeleteRun, dataset)
    assert "and its tables in lancedb" in offered.form(key=KEY)["writes"]["view"]["label"]
    assert offered.run(**offered.defaults(key=KEY, confirm=True))["kind"] == "index in lancedb"
    assert (dataset.list_brain_runs(), tables_in(folder)) == ([], set())


def test_an_index_that_no_longer_fits_its_field_is_announced_and_brought_up_to_date(
    dataset: fo.Dataset, ids: list[str], folder: Path, fill: Fill, pictures: Path, checkpoint: str
) -> None:  # fmt: skip
    build(dataset, folder)
    assert "Since then" not in texts(Panel(dataset, "runs").send())
    fill(draw_many(pictures / "more", 2, first_seed=30))
    draw(Path(dataset[ids[1]].filepath), 40)
    refresh = Offered(Rerun, dataset)
    result = refresh.run(**refresh.defaults(key=KEY))
    assert (result["computed"], result["counts"]) == (3, {"vectors": 8})
    embed(dataset, checkpoint, progress=False)
    draw(Path(dataset[ids[2]].filepath), 41)
    embed(dataset, checkpoint, progress=False)
    dataset.delete_samples(ids[4:])

    stale, panel = "2 images removed, 1 embedding or more made anew", Panel(dataset, "runs")
    assert f"Since then: {stale}." in texts(panel.send())
    panel.press("Bring up to date")
    assert stale in refresh.form(key=KEY)["found"]["view"]["label"]
    result = refresh.run(**refresh.defaults(key=KEY))

    assert (result["since"], result["found"]) == (stale, "6 vectors")
    assert dataset.load_brain_results(KEY).total_index_size == 6
    assert "Since then" not in texts(Panel(dataset, "runs").send())


@pytest.mark.parametrize("backend", ["lancedb", "faiss"])
def test_an_index_of_other_weights_is_told_to_be_built_again_and_not_offered(
    dataset: fo.Dataset, ids: list[str], folder: Path, backend: str
) -> None:
    build(dataset, folder, backend=backend)
    told = "clip_embedding holds plain embeddings of isoclip-other"
    assert "build it again" not in texts(Panel(dataset, "runs").send())
    write_origin(dataset, "clip_embedding", Origin("isoclip-other", "0" * 64, 64))
    panel = Panel(dataset, "runs")
    shown = texts(panel.send())
    assert told in shown and "delete it and build it again" in shown
    offered = {button["label"] for button in views(panel.send(), "Button")}
    assert "Delete" in offered and "Bring up to date" not in offered
    assert "no run" in str(Offered(Rerun, dataset).form(key=KEY))


def test_a_run_stays_where_its_tables_cannot_be_deleted(
    dataset: fo.Dataset, ids: list[str], folder: Path
) -> None:
    build(dataset, folder)
    (name, _) = sorted(tables_in(folder))
    dataset._brain_cache.clear()
    shutil.move(folder, folder.with_name("elsewhere"))
    folder.write_bytes(b"")  # no folder
    offered = Offered(DeleteRun, dataset)
    error = offered.run(**offered.defaults(key=KEY, confirm=True))["error"]
    assert f"the tables {name.removesuffix('.lance')} and" in error
    assert f"dataset.delete_brain_run('{KEY}')" in error
    assert dataset.list_brain_runs() == [KEY]


def test_replacing_takes_the_earlier_tables_away_but_not_for_a_database_that_is_away(
    dataset: fo.Dataset, ids: list[str], folder: Path
) -> None:
    build(dataset, folder)
    earlier, file = tables_in(folder), folder.parent / "file"
    file.write_bytes(b"")
    offered = Offered(BuildSimilarityIndex, dataset)
    away = offered.defaults(replace=True, backend="lancedb", uri=str(file / "x"))
    assert "did not do what was asked" in offered.run(**away)["error"]
    assert tables_in(folder) == earlier
    assert dataset.sort_by_similarity(ids[0], k=1, brain_key=KEY).values("id") == [ids[0]]

    build(dataset, folder, replace=True, band="2/3")
    assert len(tables_in(folder)) == 2 and not tables_in(folder) & earlier
    assert dataset.get_brain_info(KEY).config.band == "2/3"


def test_an_index_that_was_not_built_to_its_end_is_told(
    dataset: fo.Dataset, ids: list[str], folder: Path
) -> None:
    build(dataset, folder)
    dataset._doc.brain_methods[KEY].results.delete()
    dataset._doc.brain_methods[KEY].save()
    assert "not built to its end" in texts(Panel(dataset, "runs").send())
