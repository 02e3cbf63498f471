"""Names in requests, in the environment and in the database: none leads out of its folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import (
    ExecutionContext,
    ExecutionError,
    execute_or_delegate_operator,
)

from fiftyone_isoclip import embed, find_clusters, find_duplicates, find_leaks
from fiftyone_isoclip.app import OPERATORS
from fiftyone_isoclip.dataset.fields import check_key, need_origin, read_origin, write_origin
from fiftyone_isoclip.dataset.kept_pairs import drop_pairs, load_pairs
from fiftyone_isoclip.dataset.places import MODELS_DIR, side_folder, side_path
from fiftyone_isoclip.dataset.runs import delete_run, load_run, update_run
from fiftyone_isoclip.dataset.sidestore import named_folder
from fiftyone_isoclip.dataset.similarity_files import inverted_path
from fiftyone_isoclip.errors import DatasetError, IsoClipError, StoreError
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.panels import Panel, pictures_of
from tests.pictures import draw_many, recompress

Fill = Callable[[Sequence[str]], list[str]]
HOSTILE = (
    "..",
    ".",
    "",
    "../../victim",
    "a/../../../victim",
    "/etc/passwd",
    ".hidden",
    "~root",
    "a\0b",
    "a\nb",
    "C:\\victim",
    "x" * 300,
    "\u00fc" * 150,
    "\u202e" + "gnp",
    "\ud800",
)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the folder of this package a few levels below, and a file in danger."""
    outer = tmp_path / "outer"
    for place in (outer / "victim", outer / "a" / "victim", outer / "a" / "b" / "victim"):
        place.mkdir(parents=True)
        for name in ("manifest.json", "victim.pairs", "victim.inverted", "vectors.npy"):
            (place / name).write_bytes(b"somebody else's")
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(outer / "a" / "b" / "side"))
    return outer


def others(outer: Path) -> dict[str, bytes]:
    """All files in the outer folder that are none of this package."""
    side = str(side_folder())
    return {path: held for path, held in listing(outer).items() if not path.startswith(side)}


@pytest.fixture
def gallery(
    dataset: fo.Dataset, fill: Fill, pictures: Path, outer: Path, checkpoint: str
) -> fo.Dataset:
    """Four pictures and a copy, embedded."""
    originals = draw_many(pictures, 4)
    fill([*originals, recompress(originals[0], pictures / "copy.jpg", 95)])
    embed(dataset, checkpoint, progress=False)
    return dataset


def test_f16_a_name_is_that_of_one_file_below_the_folder_or_refused(
    outer: Path, dataset: fo.Dataset, seed: int
) -> None:
    random = Random(seed)
    letters = "ab./\\\0~ \n-_\u00fc\u202e\ud800"
    drawn = ["".join(random.choices(letters, k=random.randint(0, 12))) for _ in range(300)]
    before, side = others(outer), side_folder().resolve()
    for name in (*HOSTILE, *drawn):
        places: list[Callable[[], Path]] = [
            lambda name=name: side_path(name),
            lambda name=name: side_path("a", name, "b"),
            lambda name=name: named_folder(name),
            lambda name=name: inverted_path(dataset, name),
        ]
        for place in places:
            try:
                path = place()
            except StoreError:
                continue
            assert path.resolve().parent.is_relative_to(side) and path.resolve() != side, name
        assert load_pairs(dataset, name) is None
        drop_pairs(dataset, name)
    assert others(outer) == before
    for name in HOSTILE:
        with pytest.raises(StoreError, match="cannot be the name"):
            side_path(name)


@pytest.mark.parametrize(
    "key", [*HOSTILE, "A", "1a", "a-b", "a b", "\u00e9t\u00e9", "a\n", None, 7]
)
def test_f16_keys_are_plain_words(key: Any) -> None:
    with pytest.raises(DatasetError, match="cannot be the name of a field or run"):
        check_key(key)


def test_f16_links_do_not_lead_out(outer: Path, dataset: fo.Dataset) -> None:
    side = side_folder()
    (side / "search").mkdir(parents=True)
    (side / "search" / str(dataset._doc.id)).symlink_to(outer / "victim")
    with pytest.raises(StoreError, match="is a link that leads out"):
        inverted_path(dataset, "victim")
    (side / "vectors").symlink_to("vectors")
    with pytest.raises(StoreError, match="is a link that leads out"):
        named_folder("a/b")


def test_f16_the_folder_may_be_a_link_but_not_into_the_plugins(
    outer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = outer / "disk"
    disk.mkdir()
    link = outer / "link"
    link.symlink_to(disk)
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(link))
    assert side_path("a", "b").resolve() == disk.resolve() / "a" / "b"
    plugins = Path(fo.config.plugins_dir)
    plugins.mkdir(parents=True, exist_ok=True)
    into = outer / "into"
    into.symlink_to(plugins)
    for named in (plugins, plugins / "x" / "..", plugins / "isoclip", into, into / "isoclip"):
        monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(named))
        with pytest.raises(StoreError, match="set FIFTYONE_ISOCLIP_DIR to another folder"):
            side_folder()


@pytest.mark.parametrize("name", ["../../victim", ".."])
def test_f16_a_record_edited_by_hand_touches_nothing_else(
    gallery: fo.Dataset, outer: Path, checkpoint: str, name: str
) -> None:
    key = find_duplicates(gallery, similarity=0.9, least=0.5).key
    kept = str(load_run(gallery, key).details["pairs"])
    embed(gallery, checkpoint, on_samples=False, progress=False)
    before = others(outer)
    update_run(gallery, key, details={**load_run(gallery, key).details, "pairs": name})
    origin = need_origin(gallery, "clip_embedding")
    assert origin.folder
    write_origin(gallery, "clip_embedding", replace(origin, folder=name))
    for work in (
        lambda: find_duplicates(gallery, similarity=0.8),
        lambda: find_clusters(gallery, count=2),
        lambda: embed(gallery, checkpoint, on_samples=True, progress=False),
        lambda: embed(gallery, checkpoint, overwrite=True, progress=False),
    ):
        try:
            work()
        except IsoClipError as error:
            assert "name of a file" in str(error) or "embed" in str(error)
        if read_origin(gallery, "clip_embedding") not in (None, origin):
            write_origin(gallery, "clip_embedding", replace(origin, folder=name))
    delete_run(gallery, key)
    assert others(outer) == before and not gallery.has_run(key)
    assert kept  # the run had a file, and no other one was taken for it


def asked_by_the_app(dataset: fo.Dataset, uri: str, params: dict[str, Any]) -> str:
    """What the App shows of an operator that is executed with its form's defaults and these."""
    base = {"dataset_name": dataset.name, "operator_uri": uri}
    operator = foo.get_operator(uri)
    form = operator.resolve_type(ExecutionContext({**base, "params": {}}), "inputs")
    defaults = {
        name: part.default
        for name, part in form.type.properties.items()
        if part.default is not None
    }
    asked = {**base, "params": {**defaults, **params}}
    try:
        ctx = asyncio.run(execute_or_delegate_operator(uri, asked))
    except ExecutionError as error:
        return str(error)
    list(ctx.result)
    return str([sent.params for sent in ctx.executor._requests])


@pytest.fixture
def reviewed(gallery: fo.Dataset) -> fo.Dataset:
    """A dataset on which every operator has something to do."""
    install_plugin(fo.config.plugins_dir)
    find_duplicates(gallery, similarity=0.9)
    find_leaks_with_tags(gallery)
    gallery.add_sample_field("theirs", fo.VectorField)
    return gallery


def words_of(dataset: fo.Dataset, uri: str) -> list[str]:
    """The inputs of a form that take words."""
    base = {"dataset_name": dataset.name, "operator_uri": uri, "params": {}}
    form = foo.get_operator(uri).resolve_type(ExecutionContext(base), "inputs").type.properties
    kinds = {name: part.type.to_json()["name"] for name, part in form.items() if name != "token"}
    return [name for name, kind in kinds.items() if kind in ("String", "Enum")]


def test_f16_no_form_leads_elsewhere(reviewed: fo.Dataset, outer: Path) -> None:
    before, tried = others(outer), 0
    for uri in (f"{PLUGIN_NAME}/{operator.name_}" for operator in OPERATORS):
        words = words_of(reviewed, uri)
        for value in ("../../victim", "a\0b"):
            told = asked_by_the_app(reviewed, uri, {**dict.fromkeys(words, value), "confirm": True})
            assert str(outer) not in told and "site-packages" not in told
            tried += len(words)
    assert tried > 50
    assert others(outer) == before


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_f16_no_input_of_a_form_leads_elsewhere(reviewed: fo.Dataset, outer: Path) -> None:
    before, tried = others(outer), 0
    for uri in (f"{PLUGIN_NAME}/{operator.name_}" for operator in OPERATORS):
        for name in words_of(reviewed, uri):
            for value in HOSTILE:
                told = asked_by_the_app(reviewed, uri, {name: value, "confirm": True})
                assert str(outer) not in told and "site-packages" not in told
                tried += 1
    assert tried > 300
    assert others(outer) == before


def find_leaks_with_tags(dataset: fo.Dataset) -> None:
    dataset[:2].tag_samples("train")
    dataset[2:].tag_samples("test")
    find_leaks(dataset, splits=["train", "test"], similarity=0.9)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder from which the App may have weights read by path."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv(MODELS_DIR, str(folder))
    yield folder


def test_f16_the_app_reads_weights_below_the_configured_folders_only(
    dataset: fo.Dataset, fill: Fill, pictures: Path, models: Path, checkpoint: str
) -> None:
    install_plugin(fo.config.plugins_dir)
    fill(draw_many(pictures, 2))
    uri = f"{PLUGIN_NAME}/compute_embeddings"
    architecture, _, weights = checkpoint.partition("/")
    (models / "link.safetensors").symlink_to(weights)
    elsewhere = [
        weights,  # there
        f"{weights}.not-there",
        f"{models}/../{Path(weights).name}",
        str(models / "link.safetensors"),
        "weights.safetensors",
        os.path.relpath(weights),
        "/etc/passwd",
    ]
    names = [f"{architecture}/{path}" for path in elsewhere] + ["local-dir:/etc", "local-dir:.."]
    for name in names:
        told = asked_by_the_app(dataset, uri, {"model": name})
        assert "names a file, and the App reads weights from" in told
    assert not dataset.has_field("clip_embedding")
    inside = models / "mine.safetensors"
    inside.write_bytes(Path(weights).read_bytes())
    assert "embeddings computed" in asked_by_the_app(
        dataset, uri, {"model": f"{architecture}/{inside}", "field": "from_app"}
    )
    # Python and the command line are the user's own.
    foo.get_operator(uri)(dataset, model=checkpoint)
    assert dataset.count("clip_embedding") == 2
    # What the dataset has embeddings of may be asked for again.
    assert "up to date" in asked_by_the_app(dataset, uri, {"model": checkpoint})


def test_f16_the_panel_shows_files_of_samples_only(gallery: fo.Dataset) -> None:
    find_duplicates(gallery, similarity=0.9, least=0.5)
    find_leaks_with_tags(gallery)
    find_clusters(gallery, count=2)
    shown = []
    for tab in ("duplicates", "leaks", "clusters", "space", "runs"):
        for state in ({}, {"leaks_cell": ["train", "test"], "duplicates_part": "threshold"}):
            panel = Panel(gallery, tab)
            panel.state |= state
            shown += pictures_of(panel.send())
            # A state that somebody made up shows nothing else.
            made_up = {"clusters_page": "../..", "duplicates_at": "/etc/passwd", "leaks_at": -7}
            panel.state |= made_up | {f"{tab}_run": "../../victim"}
            shown += pictures_of(panel.send())
    assert shown and set(shown) <= set(gallery.values("filepath"))
