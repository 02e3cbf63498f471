"""Stores of shards: what is written is what was computed, in files that anybody can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import IsoClipError, StoreError
from fiftyone_isoclip.files import embed_files
from fiftyone_isoclip.files.listing import own_path
from fiftyone_isoclip.shards import (
    DamagedShardError,
    Encoding,
    Images,
    Manifest,
    Recipe,
    Shard,
    embed_into_store,
    open_store,
    read_images,
)
from fiftyone_isoclip.shards.local import LocalEngine
from fiftyone_isoclip.shards.place import open_place
from fiftyone_isoclip.shards.run import fill_store
from fiftyone_isoclip.shards.store import continue_store
from fiftyone_isoclip.shards.tasks import Task
from tests.folders import fill_folder
from tests.stores import bytes_of, rows_of

ENCODING = Encoding("isoclip-demo", device="cpu", precision="float32")
RECIPE = Recipe("made", "0" * 64, "float32", "exact", 3)


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(ENCODING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture
def made(tmp_path, folder, engine):
    """A store of the folder, four images in a shard."""
    store = continue_store(str(tmp_path / "store"), engine.recipe, shard_rows=4)
    return fill_store(store, read_images(str(folder.path)), engine)


def shard_of(ids, first=1.0):
    """A shard of the recipe above whose last image failed."""
    m = len(ids) - 1
    numbers = first + np.arange(3 * m, dtype=np.float32).reshape(m, 3)
    paths = tuple(f"/pictures/{id_}" for id_ in ids)
    sizes = (*range(2**33, 2**33 + m), None)
    return Shard(tuple(ids), paths, sizes, np.arange(m), numbers, {m: "it is torn"})


def everything_of(shard):
    """A shard as values that can be compared."""
    vectors = dict(zip(shard.rows.tolist(), shard.embeddings.tolist(), strict=True))
    files = list(zip(shard.ids, shard.paths, shard.sizes, strict=True))
    return files, vectors, shard.failures, shard.embeddings.dtype


# What is in the files


def test_rows_are_the_embeddings_of_their_files(made, folder, tmp_path):
    rows = rows_of(tmp_path / "store")
    assert [row["id"] for row in rows] == sorted([*folder.readable, *folder.damaged])
    clip = load_clip("isoclip-demo", device="cpu", precision="float32")
    alone = embed_files(folder.readable, clip, batch_size=1)
    found = {row["id"]: row["embedding"] for row in rows if row["status"] == "ok"}
    assert sorted(found) == folder.readable
    np.testing.assert_allclose(
        [found[path] for path in alone.embedded_paths], alone.embeddings, atol=1e-4
    )


def test_f04_a_bad_file_is_a_row_with_its_reason(made, folder, tmp_path):
    failed = {row["id"]: row for row in rows_of(tmp_path / "store") if row["status"] == "failed"}
    assert sorted(failed) == folder.damaged
    assert made.reasons == {path: row["reason"] for path, row in failed.items()}
    assert all(row["reason"] and row["embedding"] is None for row in failed.values())


def test_a_row_names_its_file_and_how_large_it_was(tmp_path, folder, engine):
    absent = str(tmp_path / "absent.png")
    paths = [*folder.readable, *folder.damaged, absent]
    store = continue_store(str(tmp_path / "store"), engine.recipe, shard_rows=4)
    fill_store(store, Images.of([f"{n:02}" for n in range(len(paths))], paths), engine)
    rows = rows_of(tmp_path / "store")
    assert [row["path"] for row in rows] == paths
    assert [row["bytes"] for row in rows] == [*map(os.path.getsize, paths[:-1]), None]


def test_a_file_that_is_replaced_while_it_is_read_has_its_size_from_before(
    engine, tmp_path, folder, monkeypatch
):
    path = tmp_path / "picture.png"
    shutil.copy(folder.scenes[0], path)
    before, embedder = path.stat().st_size, engine._embedder
    read = embedder._clip.image_embeddings

    def replacing(pixels):
        path.write_bytes(b"another")
        return read(pixels)

    monkeypatch.setattr(embedder._clip, "image_embeddings", replacing)
    shard = embedder.embed(Task(("a",), (str(path),)), "float32")
    assert (shard.sizes, path.stat().st_size) == ((before,), 7)


def test_a_store_in_float16_holds_the_same_numbers_rounded(made, folder, engine, tmp_path):
    store = continue_store(str(tmp_path / "half"), engine.recipe, dtype="float16", shard_rows=4)
    fill_store(store, read_images(str(folder.path)), engine)
    halves, wholes = list(open_store(str(tmp_path / "half"))), list(made.store)
    assert [half.ids for half in halves] == [whole.ids for whole in wholes]
    for half, whole in zip(halves, wholes, strict=True):
        assert half.embeddings.dtype == np.float16
        assert (half.embeddings == whole.embeddings.astype(np.float16)).all()


def test_f08_what_does_not_fit_into_float16_is_a_failure_and_no_infinity(
    engine, folder, monkeypatch
):
    embedder = engine._embedder
    huge = lambda pixels: np.full((len(pixels), embedder.recipe.dim), 1e6, np.float32)  # noqa: E731
    monkeypatch.setattr(embedder._clip, "image_embeddings", huge)
    shard = embedder.embed(Task(("a",), (folder.scenes[0],)), "float16")
    assert len(shard.embeddings) == 0
    assert shard.failures == {0: "its embedding does not fit into float16"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("ids", [["a"], ["a", "b", 'odd\n"ø'], [f"{n}" for n in range(300)]])
def test_a_shard_comes_back_as_it_was(ids, dtype):
    manifest = Manifest(RECIPE, dtype, 300)
    shard = shard_of(ids)
    shard = replace(shard, embeddings=shard.embeddings.astype(dtype))
    back = Shard.loads(shard.dumps(manifest), shard.name, manifest)
    assert everything_of(back) == everything_of(shard)


@given(st.data())
def test_a_flipped_byte_changes_nothing_or_is_found(data):
    manifest = Manifest(RECIPE, "float32", 9)
    shard = shard_of("abcdefg")
    content = bytearray(shard.dumps(manifest))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        back = Shard.loads(bytes(content), shard.name, manifest)
    except StoreError:
        return
    assert everything_of(back) == everything_of(shard)


@given(st.sets(st.sampled_from("abcdefg")))
def test_a_shard_without_some_ids_keeps_what_belongs_to_the_others(gone):
    shard = shard_of("abcdefg")
    rest = shard.without(gone)
    kept = [row for row, id_ in enumerate(shard.ids) if id_ not in gone]
    assert rest.ids == tuple(shard.ids[row] for row in kept)
    assert rest.paths == tuple(f"/pictures/{id_}" for id_ in rest.ids)
    assert rest.sizes == tuple(shard.sizes[row] for row in kept)
    sound = [row for row in kept if row not in shard.failures]
    np.testing.assert_array_equal(rest.embeddings, shard.embeddings[sound])
    assert rest.reasons == {id_: "it is torn" for id_ in "g" if id_ not in gone}


def test_a_shard_under_another_name_is_damaged():
    manifest = Manifest(RECIPE, "float32", 9)
    with pytest.raises(DamagedShardError, match="its name"):
        Shard.loads(shard_of("abc").dumps(manifest), shard_of("abd").name, manifest)


def test_f19_a_shard_in_a_codec_that_pyarrow_lacks_is_not_removed(
    made, engine, folder, tmp_path, monkeypatch
):
    # What a pyarrow without Zstandard says can only be said here, not brought about.
    def lacking(*_, **__):
        raise pa.ArrowNotImplementedError("Support for codec 'zstd' not built")

    monkeypatch.setattr(pa, "Codec", SimpleNamespace(is_available=lambda name: False))
    monkeypatch.setattr(pq.ParquetFile, "read", lacking)
    before = bytes_of(tmp_path / "store")
    with pytest.raises(StoreError, match=r"cannot be read: .* has no zstd"):
        fill_store(made.store, read_images(str(folder.path)), engine)
    assert bytes_of(tmp_path / "store") == before


# Which shards are made


def tables_of(ids, done=(), shard_rows=4):
    images = Images.of(list(ids), [f"/{id_}" for id_ in ids])
    done = pa.chunked_array([pa.array(list(done), pa.string())])
    return [Task.of(table) for table in images.tasks(done, shard_rows)]


IDS = st.lists(st.text(max_size=5), unique=True, max_size=40)


@given(IDS, st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_same_images_fall_into_the_same_shards(ids, rows, draws):
    undisturbed = tables_of(ids, shard_rows=rows)
    draws.shuffle(ids)
    assert tables_of(ids, shard_rows=rows) == undisturbed
    there = [task for task in undisturbed if draws.random() < 0.5]
    done = [id_ for task in there for id_ in task.ids]
    left = tables_of(ids, done, rows)
    assert left == [task for task in undisturbed if task not in there]


@given(IDS, st.sets(st.text(max_size=5)), st.integers(1, 9))
def test_every_image_that_is_not_done_is_in_one_task(ids, done, rows):
    tasks = tables_of(ids, done, rows)
    given_out = [id_ for task in tasks for id_ in task.ids]
    assert sorted(given_out) == sorted(set(ids) - done)
    assert all(len(task.ids) <= rows for task in tasks)
    assert all(task.paths == tuple(f"/{id_}" for id_ in task.ids) for task in tasks)


def test_images_that_come_later_make_no_other_image_anew(made, folder, engine, tmp_path):
    before = bytes_of(tmp_path / "store")
    more = read_images(str(folder.path)).table.to_pydict()
    ids = ["0 before all", *more["id"], "z behind all"]
    paths = [folder.scenes[0], *more["path"], folder.scenes[1]]
    again = fill_store(made.store, Images.of(ids, paths), engine)
    after = bytes_of(tmp_path / "store")
    assert again.before == len(more["id"])
    assert {name: after[name] for name in before if "shards" in name}.items() <= before.items()
    assert [row["id"] for row in rows_of(tmp_path / "store")] == sorted(ids)


# What is refused


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"recipe": {"precision": "bf16"}}, "in bf16"),
        ({"recipe": {"fingerprint": "1" * 64}}, "weights 111111111111"),
        ({"recipe": {"decoding": "fast"}}, "fast decoding"),
        ({"dtype": "float16"}, "float16 of isoclip-demo"),
        ({"shard_rows": 5}, "has 4 images in a shard, and 5"),
        ({"dtype": "int8"}, "choose float32 or float16"),
    ],
)
def test_a_store_of_something_else_is_refused_and_left_alone(made, tmp_path, other, told):
    before = bytes_of(tmp_path / "store")
    recipe = replace(made.store.manifest.recipe, **other.get("recipe", {}))
    rest = {name: value for name, value in other.items() if name != "recipe"}
    with pytest.raises(StoreError, match=told):
        continue_store(made.store.uri, recipe, **rest)
    assert bytes_of(tmp_path / "store") == before


def test_shards_of_other_weights_are_refused_and_not_removed(made, engine, folder, tmp_path):
    (tmp_path / "store" / "manifest.json").unlink()
    before = bytes_of(tmp_path / "store")
    other = replace(engine.recipe, fingerprint="1" * 64)
    store = continue_store(made.store.uri, other, shard_rows=4)
    with pytest.raises(StoreError, match=r"holds float32 of isoclip-demo \(weights faed"):
        fill_store(store, read_images(str(folder.path)), engine)
    assert before.items() <= bytes_of(tmp_path / "store").items()


def test_a_worker_with_other_weights_stores_nothing(engine, tmp_path, folder):
    other = replace(engine.recipe, fingerprint="1" * 64)
    store = continue_store(str(tmp_path / "store"), other)
    with pytest.raises(StoreError, match="give all machines the same weights"):
        fill_store(store, read_images(str(folder.path)), engine)
    assert rows_of(tmp_path / "store") == []


def test_foreign_files_are_never_touched(made, engine, folder, tmp_path):
    foreign = [tmp_path / "store" / name for name in ("shards/mine.parquet", "notes.txt")]
    for path in foreign:
        path.write_text("mine")
    fill_store(made.store, read_images(str(folder.path)), engine)
    assert open_store(made.store.uri).look().problems == {}
    assert [path.read_text() for path in foreign] == ["mine", "mine"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 9}', "\x00garbage"])
def test_a_damaged_manifest_is_told_with_what_to_do(made, content, tmp_path):
    (tmp_path / "store" / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match="remove that file and run the same"):
        open_store(made.store.uri)


def test_a_store_without_its_manifest_is_continued(made, engine, folder, tmp_path):
    before = bytes_of(tmp_path / "store")
    (tmp_path / "store" / "manifest.json").unlink()
    store = continue_store(made.store.uri, engine.recipe, shard_rows=4)
    again = fill_store(store, read_images(str(folder.path)), engine)
    assert again.before == again.n
    assert bytes_of(tmp_path / "store") == before


@pytest.mark.parametrize("uri", ["{folder}", "memory://begun/photos"])
def test_a_store_is_not_begun_among_other_things(engine, tmp_path, uri):
    uri = uri.format(folder=tmp_path / "photos")
    place = open_place(uri)
    place.write("summer/one.jpg", b"a picture")
    with pytest.raises(StoreError, match=f"{uri} holds other things, such as summer, and"):
        continue_store(uri, engine.recipe)
    assert place.names("") == ["summer"]
    assert continue_store(f"{uri}/store", engine.recipe).names() == []


@pytest.mark.parametrize("left", ["writer.lock", ".isoclip-0123456789abcdef.part"])
def test_what_a_killed_run_leaves_is_nothing_else(engine, tmp_path, left):
    (tmp_path / left).touch()
    assert continue_store(str(tmp_path), engine.recipe).names() == []


def test_f11_the_second_writer_is_told(made):
    with (
        made.store.one_writer(),
        pytest.raises(StoreError, match="another process is writing"),
        open_store(made.store.uri).one_writer(),
    ):
        pass


def test_there_is_no_such_engine(tmp_path, folder):
    with pytest.raises(IsoClipError, match="choose local or ray"):
        embed_into_store(
            read_images(str(folder.path)), str(tmp_path / "s"), ENCODING, engine="spark"
        )


# Whether it is whole


def test_a_store_that_a_run_left_whole_is_so(made):
    open_store(made.store.uri).require_whole()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda store: store.note(complete=False, shards={}), "has not ended, or was stopped"),
        (lambda store: store.place.remove(f"shards/{store.names()[1]}"), "1 of its shards are mi"),
        (lambda store: store.note(complete=True, shards={}), "4 shards came after the last run"),
    ],
)
def test_a_store_that_is_not_whole_is_told(made, harm, told):
    harm(made.store)
    with pytest.raises(StoreError, match=f"is not whole: .*{told}.*Run the same `isoclip embed`"):
        open_store(made.store.uri).require_whole()


def test_a_shard_that_goes_while_all_are_read_is_told(made):
    reading = iter(open_store(made.store.uri))
    next(reading)
    for name in made.store.names():
        made.store.place.remove(f"shards/{name}")
    with pytest.raises(StoreError, match="cannot be used: it is missing"):
        next(reading)
    with pytest.raises(StoreError, match="cannot be used: it is missing"):
        list(open_store(made.store.uri))


# What goes in


def parquet(tmp_path, **columns):
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_parquet_file_names_images_by_ids_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = parquet(tmp_path, id=[30, 4], path=["/a.png", "b.png"], other=[1, 2])
    images = read_images(path)
    assert images.table.to_pydict() == {"id": ["30", "4"], "path": ["/a.png", f"{tmp_path}/b.png"]}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a"], "file": ["b"]}, "needs the columns id and path, and has id, file alone"),
        ({"id": ["a", "a"], "path": ["b", "c"]}, "the id 'a' is there more than once"),
        ({"id": ["a", None], "path": ["b", "c"]}, "the column id has 1 empty places"),
        ({"id": ["a"], "path": [["b"]]}, "the column path holds no text"),
    ],
)
def test_f04_a_parquet_file_that_does_not_name_images_is_refused(tmp_path, columns, told):
    with pytest.raises(IsoClipError, match=told):
        read_images(parquet(tmp_path, **columns))


def test_f04_what_is_no_parquet_file_is_told(tmp_path):
    (tmp_path / "x.parquet").write_text("nothing")
    for name in ("x.parquet", "absent.parquet"):
        with pytest.raises(IsoClipError, match="cannot be read as Parquet"):
            read_images(str(tmp_path / name))


def test_f07_a_name_that_is_not_utf8_is_refused_before_any_work(tmp_path, folder):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(IsoClipError, match="is not UTF-8"):
        read_images(str(tmp_path))


# Other filesystems, and what is loaded


def test_an_object_store_is_reached_by_its_uri(made, engine, folder, tmp_path):
    uri = f"local://{tmp_path}/through fsspec"  # a scheme that fsspec knows and pyarrow does not
    store = continue_store(uri, engine.recipe, shard_rows=4)
    fill_store(store, read_images(str(folder.path)), engine)
    assert open_store(uri).look().problems == {}
    assert bytes_of(tmp_path / "through fsspec") == bytes_of(tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("file:///a%20b/c.jpg", "/a b/c.jpg"),
        ("file://localhost/a%20b/c.jpg", "/a b/c.jpg"),
        ("FILE:///a.jpg", "/a.jpg"),
        ("/file://localhost/a.jpg", "/file://localhost/a.jpg"),
        ("file://elsewhere/a.jpg", "file://elsewhere/a.jpg"),
        ("s3://localhost/a%20b.jpg", "s3://localhost/a%20b.jpg"),
    ],
)
def test_the_uri_of_a_file_of_this_machine_is_its_path(tmp_path, name, path):
    assert own_path(name) == path
    images = read_images(parquet(tmp_path, id=["a"], path=[name]))
    assert images.table["path"].to_pylist() == [path]


def test_the_uri_of_a_file_of_another_machine_is_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for asked in (read_images, open_store):
        with pytest.raises(StoreError, match=r"files of this machine are file:///PATH"):
            asked("file://elsewhere/")


def test_a_store_is_found_under_any_name_of_its_folder(made):
    for start in ("file://", "file://localhost"):
        assert open_store(f"{start}{made.store.uri}").names() == made.store.names()


def test_an_unknown_scheme_is_told(tmp_path):
    with pytest.raises(StoreError, match="such as s3://BUCKET/FOLDER"):
        open_store("nowhere://store")


def run(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_a_worker_knows_neither_a_database_nor_an_engine(made):
    code = (
        "import sys\n"
        "from fiftyone_isoclip.shards.worker import Encoding, Worker\n"
        "Worker.open(Encoding('isoclip-demo', 'cpu'), sys.argv[1])\n"
        "print(sorted({'fiftyone', 'pymongo', 'mongoengine', 'ray'} & set(sys.modules)))"
    )
    assert run(code, made.store.uri).stdout == "[]\n"


@pytest.mark.parametrize(("absent", "module"), [("pyarrow", "store"), ("ray", "ray_engine")])
def test_without_the_extra_the_command_that_installs_it_is_told(absent, module):
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from fiftyone_isoclip.errors import IsoClipError\n"
        f"try: import fiftyone_isoclip.shards.{module}\n"
        "except IsoClipError as error: print(error)"
    )
    assert "pip install 'fiftyone-isoclip[ray]'" in run(code).stdout


def test_the_command_line_needs_no_extra_to_start():
    code = "import sys, fiftyone_isoclip.cli; print({'pyarrow', 'ray'} & set(sys.modules))"
    assert run(code).stdout == "set()\n"
