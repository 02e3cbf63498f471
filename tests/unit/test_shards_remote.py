"""Images on other filesystems: read as files here are, and not failed where nothing answers."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import ImageError, IsoClipError, StoreError
from fiftyone_isoclip.files import list_images
from fiftyone_isoclip.shards import Encoding, Images, open_store, read_images, remote
from fiftyone_isoclip.shards.local import LocalEngine
from fiftyone_isoclip.shards.mending import mend
from fiftyone_isoclip.shards.remote import RemoteImage
from fiftyone_isoclip.shards.run import fill_store
from fiftyone_isoclip.shards.store import continue_store
from tests import corpus
from tests.folders import fill_folder
from tests.remote_files import FailingFileSystem, fill
from tests.stores import bytes_of, rows_of
from tests.terminal import isoclip, sentence

ENCODING = Encoding("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(ENCODING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(autouse=True)
def filesystems(monkeypatch):
    """Empty filesystems in memory that answer, and no time lost in waiting for them."""
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    yield
    fsspec.filesystem("memory").store.clear()
    FailingFileSystem.store.clear()
    FailingFileSystem.opened.clear()
    FailingFileSystem.answer()


def away(asked, path):
    raise ConnectionError("no route to host")


def store_of(place, images, engine):
    store = continue_store(str(place), engine.recipe, shard_rows=4)
    return fill_store(store, images, engine)


# Read as files of this machine are


@pytest.mark.parametrize("scheme", ["memory", "failing"])
def test_a_folder_elsewhere_gives_what_the_files_give_here(scheme, folder, engine, tmp_path):
    paths = sorted([*folder.readable, *folder.damaged])
    uris = fill(f"{scheme}://bucket/some pictures", paths, folder.path)
    store_of(tmp_path / "here", Images.of(uris, paths), engine)
    there = read_images(f"{scheme}://bucket/some pictures")
    store_of(tmp_path / "there", there, engine)
    here, found = rows_of(tmp_path / "here"), rows_of(tmp_path / "there")
    assert [row["path"] for row in found] == [row["id"] for row in found] == sorted(uris)
    assert [{**row, "path": None} for row in found] == [{**row, "path": None} for row in here]
    assert sum(row["status"] == "failed" for row in found) == 3


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Every kind of odd and of broken file that is a regular one, by its kind."""
    home = tmp_path_factory.mktemp("odd")
    shown = corpus.make_pictures(home / "shown")
    broken = corpus.make_broken(home / "broken", 0)
    paths = {kind: each.path for kind, each in shown.items()} | broken
    return {kind: path for kind, path in paths.items() if path.is_file() and not path.is_symlink()}


def test_f06_every_kind_of_file_is_the_same_wherever_it_lies(odd):
    reader = load_clip("isoclip-demo", device="cpu", precision="float32").reader
    told = 0
    for kind, path in odd.items():
        if path.stat().st_size > 2**27:
            continue  # refused for its size, of which another test tells
        fsspec.filesystem("memory").pipe_file("/odd/file", path.read_bytes())
        (here,), (there,) = reader.read(path), reader.read(RemoteImage("memory://odd/file"))
        if isinstance(here, str):
            told += 1
            assert there == here, kind
        else:
            assert torch.equal(here, there), kind
    assert told >= 10


@pytest.mark.parametrize("name", ["a b#c?.png", "100%41.png", "ø\n.png", "sub/x.y.JPG"])
def test_names_are_taken_as_they_are(name, folder, engine, tmp_path):
    fsspec.filesystem("memory").pipe_file(f"/b/{name}", Path(folder.scenes[0]).read_bytes())
    images = read_images("memory://b/")
    assert images.table["id"].to_pylist() == [f"memory://b/{name}"]
    assert store_of(tmp_path / "s", images, engine).reasons == {}


def test_the_images_of_a_folder_are_known_by_the_same_names_as_here(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "p")
    (tmp_path / "p" / "a link.png").unlink()
    for name in (".hidden.png", ".thumbnails/x.png", "sub folder/UPPER.JPEG", "sub folder/none"):
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_bytes(b"x")
    everything = [str(path) for path in (tmp_path / "p").rglob("*") if path.is_file()]
    fill("memory://bucket/p", everything, tmp_path / "p")
    listed = read_images("memory://bucket/p/").table["id"].to_pylist()
    here = [path.removeprefix(f"{tmp_path}/p") for path in list_images(tmp_path / "p")]
    assert listed == sorted(f"memory://bucket/p{name}" for name in here)


def test_a_parquet_file_may_name_images_anywhere(folder, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.path)
    fill("memory://b", folder.scenes[:1], folder.path)
    paths = [
        "memory://b/scene [0].png",
        folder.scenes[0],
        Path(folder.scenes[0]).as_uri(),
        "scene [0].png",
    ]
    ids = ["memory", "absolute", "uri", "relative"]
    pq.write_table(pa.table({"id": ids, "path": paths}), tmp_path / "images.parquet")
    images = read_images((tmp_path / "images.parquet").as_uri())
    store_of(tmp_path / "s", images, engine)
    rows = {row["id"]: row for row in rows_of(tmp_path / "s")}
    own = {row["path"] for id_, row in rows.items() if id_ != "memory"}
    assert own == {folder.scenes[0]} and rows["memory"]["path"] == paths[0]
    assert {row["bytes"] for row in rows.values()} == {Path(folder.scenes[0]).stat().st_size}
    assert len({tuple(row["embedding"]) for row in rows.values()}) == 1


# What is refused or fails alone


def test_a_file_is_not_fetched_that_is_too_large():
    fsspec.filesystem("failing").pipe_file("/b/x.png", b"x" * 100)
    reads = []

    class Watched(BytesIO):
        def read(self, *n):
            reads.append(n)

    def refuse(n_bytes):
        raise ImageError(f"{n_bytes} are too many")

    FailingFileSystem.answer(gives=Watched)
    with pytest.raises(ImageError, match="100 are too many"):
        RemoteImage("failing:///b/x.png").fetch(refuse)
    assert reads == []


def test_what_is_not_there_fails_alone_with_the_reason_of_files_here(folder, engine, tmp_path):
    (tmp_path / "folder.png").mkdir()
    fill("memory://b", folder.scenes[:1], folder.path)
    fsspec.filesystem("memory").mkdir("/b/folder.png")
    fsspec.filesystem("memory").pipe_file("/b/empty.png", b"")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ["absent.png", "folder.png", "empty.png"]
    here = store_of(
        tmp_path / "here",
        Images.of(["ok", *names], [folder.scenes[0], *(f"{tmp_path}/{name}" for name in names)]),
        engine,
    )
    paths = ["memory://b/scene [0].png", *(f"memory://b/{name}" for name in names)]
    there = store_of(tmp_path / "there", Images.of(["ok", *names], paths), engine)
    assert there.reasons == here.reasons
    assert set(here.reasons) == set(names)
    sizes = {row["id"]: row["bytes"] for row in rows_of(tmp_path / "there")}
    assert (sizes["absent.png"], sizes["empty.png"]) == (None, 0)


@pytest.mark.parametrize("error", [OSError("503 slow down"), PermissionError("403"), KeyError("x")])
def test_f19_a_file_whose_content_is_not_given_ends_the_run_and_has_not_failed(
    folder, engine, tmp_path, error
):
    uris = fill("failing://b", folder.scenes[:3], folder.path)

    def withheld(asked, path):
        if asked == "open" and path.endswith("[1].png"):
            raise error

    FailingFileSystem.answer(withheld)
    with pytest.raises(IsoClipError, match=r"\[1\].png cannot be read: .*(503|403|x)"):
        store_of(tmp_path / "s", Images.of(uris, uris), engine)
    assert not open_store(str(tmp_path / "s")).manifest.complete
    FailingFileSystem.answer()
    assert store_of(tmp_path / "s", Images.of(uris, uris), engine).reasons == {}


def test_a_moment_of_weakness_is_no_failure(folder, engine, tmp_path):
    uris = fill("failing://b", folder.scenes[:3], folder.path)
    weak = []

    def at_first(asked, path):
        if asked == "open" and len(weak) < 2:
            weak.append(path)
            raise OSError("slow down")

    FailingFileSystem.answer(at_first)
    assert store_of(tmp_path / "s", Images.of(uris, uris), engine).reasons == {}
    assert len(weak) == 2


def test_a_file_of_which_a_part_comes_is_fetched_again(folder):
    (uri,) = fill("failing://b", folder.scenes[:1], folder.path)
    sound = Path(folder.scenes[0]).read_bytes()
    parts = []

    class Torn(BytesIO):
        def read(self, *n):
            part = super().read(*n)
            parts.append(part if parts else part[:50])
            return parts[-1]

    FailingFileSystem.answer(gives=Torn)
    assert RemoteImage(uri).fetch(lambda n_bytes: None) == sound
    assert len(parts) > 1


# A filesystem that does not answer


def test_f19_a_filesystem_that_goes_away_fails_no_image_and_the_run_goes_on_later(
    folder, engine, tmp_path
):
    uris = fill("failing://b/p", folder.readable, folder.path)
    images = read_images("failing://b/p")
    store_of(tmp_path / "undisturbed", images, engine)
    FailingFileSystem.opened.clear()

    def later(asked, path):
        if len(FailingFileSystem.opened) > 6:
            away(asked, path)

    FailingFileSystem.answer(later)
    with pytest.raises(IsoClipError, match=r"cannot be asked for: no route to host; neither it"):
        store_of(tmp_path / "s", images, engine)
    stored = rows_of(tmp_path / "s")
    assert 0 < len(stored) < len(uris)
    assert {row["status"] for row in stored} == {"ok"}
    FailingFileSystem.answer()
    again = store_of(tmp_path / "s", images, engine)
    assert again.before == len(stored)
    assert bytes_of(tmp_path / "s") == bytes_of(tmp_path / "undisturbed")


def test_f19_a_store_that_is_away_is_not_an_empty_one(folder, engine):
    images = Images.of(folder.scenes, folder.scenes)
    store = store_of("failing://b/store", images, engine).store
    before = dict(FailingFileSystem.store)
    FailingFileSystem.answer(away)
    for asked in (
        store.look,
        store.names,
        lambda: list(store),
        lambda: open_store(store.uri),
        lambda: fill_store(store, images, engine),
        lambda: store.place.remove(f"shards/{store.manifest.shards and 'x'}"),
    ):
        with pytest.raises(StoreError, match="no route to host"):
            asked()
    FailingFileSystem.answer()
    assert dict(FailingFileSystem.store) == before
    assert open_store(store.uri).look().problems == {}


def test_f19_a_shard_that_cannot_be_fetched_is_not_taken_for_a_damaged_one(folder, engine):
    store = store_of("failing://b/store", Images.of(folder.scenes, folder.scenes), engine).store
    name = store.names()[0]

    def one(asked, path):
        if path.endswith(name):
            away(asked, path)

    FailingFileSystem.answer(one)
    with pytest.raises(StoreError, match="no route to host"):
        store.look()


@pytest.mark.parametrize("error", [RuntimeError("HttpError 503"), KeyError("Content-Length")])
def test_f19_an_error_of_any_kind_is_a_sentence(error):
    def rude(asked, path):
        raise error

    FailingFileSystem.answer(rude)
    for asked in (
        lambda: read_images("failing://b/p"),
        lambda: read_images("failing://b/p.parquet"),
        lambda: open_store("failing://b/store"),
        lambda: open_store("failing://b/store").names(),
    ):
        with pytest.raises(IsoClipError, match=str(error.args[0])):
            asked()


# A shard that is sound, and does not come so


def cut(content):
    return BytesIO(content[:-100] if content.startswith(b"PAR1") else content)


def cut_once():
    done = []

    def gives(content):
        if not content.startswith(b"PAR1") or done:
            return BytesIO(content)
        done.append(content)
        return cut(content)

    return gives


class Stopping(BytesIO):
    """A connection that breaks before the last bytes."""

    def read(self, *n):
        part = super().read(*n)
        return part[:-100] if part.startswith(b"PAR1") else part


@pytest.mark.parametrize("gives", [cut, cut_once(), Stopping])
def test_f19_a_sound_shard_is_not_removed_because_of_which_a_part_comes(gives, folder, engine):
    images = Images.of(folder.scenes, folder.scenes)
    store = store_of("failing://b/store", images, engine).store
    before = dict(FailingFileSystem.store)
    FailingFileSystem.answer(gives=gives)
    with pytest.raises(StoreError, match=r"nothing was removed|bytes came"):
        fill_store(store, images, engine)
    FailingFileSystem.answer()
    assert dict(FailingFileSystem.store) == before
    assert open_store(store.uri).look().problems == {}


def test_f19_a_shard_that_is_not_found_for_a_moment_is_not_removed(folder, engine):
    images = Images.of(folder.scenes, folder.scenes)
    store = store_of("failing://b/store", images, engine).store

    def lost(asked, path):
        if path.endswith(".parquet"):
            raise FileNotFoundError(path)

    FailingFileSystem.answer(lost)
    found = store.look()
    assert set(found.problems) == set(store.names())
    mend(store, found)
    FailingFileSystem.answer()
    assert open_store(store.uri).look().problems == {}


def test_f19_a_shard_that_was_made_anew_meanwhile_is_not_removed(folder, engine, tmp_path):
    images = Images.of(folder.scenes, folder.scenes)
    store = store_of(tmp_path / "s", images, engine).store
    path = tmp_path / "s" / "shards" / store.names()[0]
    sound = path.read_bytes()
    path.write_bytes(sound[:-100])
    found = store.look()
    assert set(found.problems) == {path.name}
    path.write_bytes(sound)
    mend(store, found)
    assert path.read_bytes() == sound


# The command


def test_the_command_embeds_a_folder_elsewhere(folder, tmp_path):
    fill("memory://b/p", [*folder.readable, *folder.damaged], folder.path)
    words = ["--device", "cpu", "--precision", "float32", "--json", tmp_path / "report.json"]
    result = isoclip("embed", "memory://b/p", "--store", tmp_path / "store", *words)
    assert result.exit_code == 0, result.stderr
    told = json.loads((tmp_path / "report.json").read_text())
    assert (told["images"], told["embedded"]) == (15, 12)
    assert all(each["id"].startswith("memory://b/p/") for each in told["failed"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["embed", "memory://nothing", "--store", "s"], "memory://nothing does not exist"),
        (["embed", "memory://b/notes.txt", "--store", "s"], "is no image by its suffix"),
        (["embed", "nowhere://b", "--store", "s"], "nowhere://b/ cannot be reached"),
        (["embed", "memory://b", "--out", "e.npz"], "which only `isoclip embed --store` reads"),
        (["clusters", "memory://b"], "which only `isoclip embed --store` reads"),
    ],
)
def test_a_mistake_is_one_sentence(words, told, tmp_path, monkeypatch):
    fsspec.filesystem("memory").pipe_file("/b/notes.txt", b"nothing")
    monkeypatch.chdir(tmp_path)
    assert told in sentence(isoclip(*words))
    assert list(tmp_path.iterdir()) == []
