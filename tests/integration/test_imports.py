"""A store of shards in a dataset: every image once, with what the store says of it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

from fiftyone_isoclip.dataset import (
    delete_run,
    embed,
    find_duplicates,
    import_duplicates,
    import_store,
    imported_groups,
    list_runs,
    load_duplicates,
    rerun,
    say_not_duplicates,
)
from fiftyone_isoclip.dataset import imports as importing
from fiftyone_isoclip.dataset.fields import read_origin
from fiftyone_isoclip.dataset.import_rows import OTHER_FILE
from fiftyone_isoclip.dataset.vectors import read_vectors
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError, StoreError
from fiftyone_isoclip.shards import (
    Encoding,
    embed_into_store,
    find_store_duplicates,
    open_store,
    read_images,
)
from tests.made_stores import DIM, RECIPE, make_store, vector_of, write_groups
from tests.pictures import draw, draw_many, recompress
from tests.terminal import isoclip, sentence

FIELD = "clip_embedding"


@pytest.fixture
def name():
    """A name that no dataset has; what is made under it is deleted."""
    name = f"imported-{os.getpid()}-{np.random.default_rng().integers(10**9)}"
    yield name
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


def nowhere(count):
    return [f"/nowhere/{n:03}.jpg" for n in range(count)]


def held(dataset, field=FIELD):
    """The vector of each path, as the verbs read it."""
    dataset.reload()
    found = read_vectors(dataset, field, read_origin(dataset, field).dim)
    path_of = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
    return {path_of[id_]: v for id_, v in zip(found.ids, found.vectors, strict=True)}


def assert_held(dataset, ids, field=FIELD):
    """Exactly these paths have a vector: the one that the id they are stored by decides."""
    found = held(dataset, field)
    assert found.keys() == ids.keys()
    for path, id_ in ids.items():
        np.testing.assert_array_equal(found[path], vector_of(id_))


def state_of(dataset):
    """Every sample as the database has it, but for when it was changed."""
    documents = dataset._sample_collection.find({}, {"last_modified_at": 0})
    return sorted(map(str, documents))


@pytest.mark.parametrize("on_samples", [True, False])
class TestImporting:
    def test_every_image_gets_a_sample_with_its_vector_or_its_reason(
        self, name, tmp_path, on_samples
    ):
        paths = nowhere(11)
        store = make_store(tmp_path / "s", paths, failures={3: "torn", 7: "too large"})
        report = import_store(store.uri, name, on_samples=on_samples)
        dataset = fo.load_dataset(name)
        assert dataset.persistent
        assert sorted(dataset.values("filepath")) == paths
        assert_held(dataset, {path: path for n, path in enumerate(paths) if n not in (3, 7)})
        errors = dict(zip(*dataset.values(["filepath", f"{FIELD}_error"]), strict=True))
        assert {path: why for path, why in errors.items() if why} == {
            paths[3]: "torn",
            paths[7]: "too large",
        }
        assert dataset.count(FIELD) == (9 if on_samples else 0)
        origin = read_origin(dataset, FIELD)
        assert (origin.checkpoint, origin.fingerprint) == (RECIPE.checkpoint, RECIPE.fingerprint)
        assert (report.images, report.embedded, report.failed) == (11, 9, 2)
        assert (report.added, report.written, report.refused) == (11, 9, 0)

    def test_again_it_writes_nothing(self, name, tmp_path, on_samples):
        store = make_store(tmp_path / "s", nowhere(9), failures={2: "torn"})
        import_store(store.uri, name, on_samples=on_samples)
        dataset = fo.load_dataset(name)
        before, latest = state_of(dataset), max(dataset.values("last_modified_at"))
        report = import_store(store.uri, name)
        assert (report.added, report.written) == (0, 0)
        assert (report.images, report.embedded, report.failed) == (9, 8, 1)
        assert state_of(dataset) == before
        assert max(dataset.values("last_modified_at")) == latest

    def test_what_the_store_got_since_is_added(self, name, tmp_path, on_samples):
        paths = nowhere(9)
        make_store(tmp_path / "s", paths[:4])
        import_store(str(tmp_path / "s"), name, on_samples=on_samples)
        make_store(tmp_path / "s", paths[4:])
        report = import_store(str(tmp_path / "s"), name)
        assert (report.images, report.added, report.written) == (9, 5, 5)
        assert_held(fo.load_dataset(name), dict(zip(paths, paths, strict=True)))

    def test_samples_are_found_by_their_path_or_by_their_id(
        self, dataset, fill, tmp_path, on_samples
    ):
        ids = fill(nowhere(5))
        dataset.add_sample(fo.Sample(filepath="/nowhere/004.jpg"))  # a second one of that file
        # The store was made of an export: these two are called by their ids, and lie elsewhere.
        named = [ids[0], "one", ids[2], "four", "new"]
        paths = ["/else/0.jpg", "/nowhere/001.jpg", "/else/2.jpg", "/nowhere/004.jpg", "/new.jpg"]
        store = make_store(tmp_path / "s", paths, ids=named)
        report = import_store(store.uri, dataset, on_samples=on_samples)
        assert (report.images, report.added, report.written) == (5, 1, 6)
        expected = {"/nowhere/000.jpg": ids[0], "/nowhere/001.jpg": "one", "/new.jpg": "new"}
        expected |= {"/nowhere/002.jpg": ids[2], "/nowhere/004.jpg": "four"}
        assert_held(dataset, expected)
        assert len(dataset) == 7

    def test_a_vector_is_taken_for_the_file_it_was_made_of(
        self, dataset, pictures, tmp_path, on_samples
    ):
        here, larger = draw_many(pictures, 2)
        store = make_store(
            tmp_path / "s", [here, larger, "/nowhere/x.png"], sizes={1: 5, 2: 6}, shard_rows=2
        )
        report = import_store(store.uri, dataset, on_samples=on_samples)
        assert (report.embedded, report.failed, report.refused) == (2, 1, 1)
        assert_held(dataset, {here: here, "/nowhere/x.png": "/nowhere/x.png"})
        errors = dict(zip(*dataset.values(["filepath", f"{FIELD}_error"]), strict=True))
        assert errors == {here: None, larger: OTHER_FILE, "/nowhere/x.png": None}
        assert import_store(store.uri, dataset).refused == 1

    def test_a_newer_store_replaces_what_an_older_one_left(self, dataset, tmp_path, on_samples):
        path = "/nowhere/x.png"
        old = make_store(tmp_path / "old", [path], ids=["a"], sizes={0: 5})
        import_store(old.uri, dataset, on_samples=on_samples)
        new = make_store(tmp_path / "new", [path], ids=["b"], sizes={0: 6})
        assert import_store(new.uri, dataset).written == 1
        assert_held(dataset, {path: "b"})

    def test_two_images_of_one_file_are_one_sample(self, dataset, tmp_path, on_samples):
        store = make_store(tmp_path / "s", ["/nowhere/x.png"] * 2, ids=["a", "b"], shard_rows=1)
        report = import_store(store.uri, dataset, on_samples=on_samples)
        assert (report.images, report.embedded, report.added) == (2, 2, 1)
        assert len(dataset) == 1

    @pytest.mark.parametrize("failed", [0, 1])
    def test_of_two_images_of_one_file_that_with_a_vector_gives_it(
        self, dataset, tmp_path, on_samples, failed
    ):
        path, ids = "/nowhere/x.png", ["a", "b"]
        store = make_store(tmp_path / "s", [path] * 2, ids=ids, failures={failed: "torn"})
        report = import_store(store.uri, dataset, on_samples=on_samples)
        assert (report.embedded, report.failed, report.written) == (2, 0, 1)
        assert_held(dataset, {path: ids[1 - failed]})
        before = state_of(dataset)
        assert import_store(store.uri, dataset).written == 0
        assert state_of(dataset) == before

    def test_float16_is_read_as_it_was_stored(self, dataset, tmp_path, on_samples):
        store = make_store(tmp_path / "s", nowhere(3), dtype="float16")
        import_store(store.uri, dataset, on_samples=on_samples)
        for path, vector in held(dataset).items():
            np.testing.assert_array_equal(vector, vector_of(path).astype(np.float16))


class TestWhatItMeets:
    def test_a_vector_that_is_current_stays(self, dataset, fill, pictures, checkpoint, tmp_path):
        """Of the very picture there is a vector already: neither it nor a failure replaces it."""
        paths = draw_many(pictures, 3)
        fill(paths)
        embed(dataset, checkpoint, progress=False)
        before = state_of(dataset)
        origin = read_origin(dataset, FIELD)
        recipe = replace(RECIPE, fingerprint=origin.fingerprint, dim=origin.dim)
        store = make_store(tmp_path / "s", paths, failures={0: "away"}, sizes={1: 1}, recipe=recipe)
        report = import_store(store.uri, dataset)
        assert (report.written, report.embedded, report.failed) == (0, 3, 0)
        assert state_of(dataset) == before

    def test_a_vector_stays_while_its_file_is_away(
        self, dataset, fill, pictures, checkpoint, tmp_path
    ):
        """A disk that is not mounted: nothing says that the store's vector is the better one."""
        paths = draw_many(pictures, 2)
        fill(paths)
        embed(dataset, checkpoint, progress=False)
        before, origin = state_of(dataset), read_origin(dataset, FIELD)
        recipe = replace(RECIPE, fingerprint=origin.fingerprint, dim=origin.dim)
        store = make_store(tmp_path / "s", paths, sizes={0: 1}, recipe=recipe)
        pictures.rename(pictures.with_name("away"))
        report = import_store(store.uri, dataset)
        assert (report.written, report.embedded, report.failed) == (0, 2, 0)
        assert state_of(dataset) == before

    def test_another_checkpoint_is_refused(self, dataset, fill, pictures, checkpoint, tmp_path):
        fill(draw_many(pictures, 2))
        embed(dataset, checkpoint, progress=False)
        before = state_of(dataset)
        store = make_store(tmp_path / "s", nowhere(3))
        with pytest.raises(DatasetError, match=r"plain embeddings of made .* choose another field"):
            import_store(store.uri, dataset)
        assert state_of(dataset) == before
        assert import_store(store.uri, dataset, field="other").written == 3

    @pytest.mark.parametrize("other", [{"precision": "bf16"}, {"decoding": "fast"}])
    def test_vectors_of_two_recipes_are_not_mixed(self, name, tmp_path, other):
        """The same weights in another precision, or of pictures that were read another way."""
        import_store(make_store(tmp_path / "s", nowhere(3)).uri, name)
        dataset = fo.load_dataset(name)
        before = state_of(dataset)
        recipe = replace(RECIPE, **other)
        store = make_store(tmp_path / "t", nowhere(5), recipe=recipe)
        told = f"{recipe.precision}, {recipe.decoding} decoding .* took .* float32, exact decoding"
        with pytest.raises(DatasetError, match=told):
            import_store(store.uri, name)
        assert state_of(dataset) == before
        again = make_store(tmp_path / "u", nowhere(5), recipe=replace(RECIPE, checkpoint="alias"))
        assert import_store(again.uri, name).written == 2
        dataset.clear_sample_field(FIELD)
        dataset.clear_sample_field(f"{FIELD}_source")
        assert import_store(store.uri, name).written == 5
        with pytest.raises(DatasetError, match="choose another field"):
            import_store(again.uri, name)

    def test_a_dataset_that_will_be_deleted_is_told(self, name, tmp_path, caplog):
        store = make_store(tmp_path / "s", nowhere(2))
        dataset = fo.Dataset(name)
        import_store(store.uri, name)
        assert f"{name!r} is not persistent" in caplog.text
        caplog.clear()
        dataset.persistent = True
        import_store(store.uri, name)
        assert "persistent" not in caplog.text

    def test_what_is_damaged_or_not_complete_is_refused_before_anything_is_written(
        self, name, tmp_path
    ):
        store = make_store(tmp_path / "s", nowhere(9))
        store.note(complete=False, shards=store.manifest.shards)
        with pytest.raises(StoreError, match="Run the same `isoclip embed` again"):
            import_store(store.uri, name)
        store.note(complete=True, shards=store.manifest.shards)
        shard = tmp_path / "s" / "shards" / store.names()[-1]
        whole = shard.read_bytes()
        for content in (whole[:-9], whole.replace(b"/nowhere", b"/somehow")):
            shard.write_bytes(content)
            with pytest.raises(StoreError, match="Run the same `isoclip embed` again"):
                import_store(store.uri, name)
        shard.unlink()
        with pytest.raises(StoreError, match="of its shards are missing"):
            import_store(store.uri, name)
        assert not fo.dataset_exists(name)
        shard.write_bytes(whole)
        assert import_store(store.uri, name).images == 9

    def test_views_and_what_is_no_store_are_refused(self, dataset, fill, tmp_path):
        store = make_store(tmp_path / "s", nowhere(2))
        fill(nowhere(1))
        with pytest.raises(DatasetError, match="whole datasets"):
            import_store(store.uri, dataset.limit(1))
        with pytest.raises(StoreError, match="is no store"):
            import_store(str(tmp_path / "nothing"), dataset)
        with pytest.raises(DatasetError, match="cannot be made"):
            import_store(store.uri, "")

    def test_images_on_other_filesystems_need_a_folder_that_stands_for_them(self, name, tmp_path):
        paths = ["s3://bucket/a/1.jpg", "s3://bucket/2.jpg", "file:///pictures/3%20.jpg"]
        store = make_store(tmp_path / "s", paths)
        with pytest.raises(DatasetError, match=r"s3://bucket/.*media_root"):
            import_store(store.uri, name)
        assert not fo.dataset_exists(name)
        import_store(store.uri, name, media_root="/mnt")
        assert_held(
            fo.load_dataset(name),
            {
                "/mnt/bucket/a/1.jpg": paths[0],
                "/mnt/bucket/2.jpg": paths[1],
                "/pictures/3 .jpg": paths[2],
            },
        )

    def test_a_folder_for_no_filesystem_is_refused(self, name, tmp_path):
        store = make_store(tmp_path / "s", ["/pictures/1.jpg", "file:///pictures/2.jpg"])
        with pytest.raises(DatasetError, match=r"files of this machine alone; leave it out"):
            import_store(store.uri, name, media_root="/mnt")
        assert not fo.dataset_exists(name)

    def test_pictures_that_are_not_on_this_machine_are_counted(self, name, pictures, tmp_path):
        (here,) = draw_many(pictures, 1)
        store = make_store(tmp_path / "s", [here, *nowhere(2)])
        report = import_store(store.uri, name)
        assert report.absent == 2 and "of 2 the file is not on this machine" in str(report)

    @pytest.mark.parametrize(
        "path",
        [
            "s3://B/../../etc/shadow",
            "s3://B/a/../x.jpg",
            "s3://B//x.jpg",
            "s3://B/",
            "s3://./x.jpg",
        ],
    )
    def test_no_image_leaves_the_folder_of_the_others(self, name, tmp_path, path):
        store = make_store(tmp_path / "s", ["s3://B/x.jpg", path])
        with pytest.raises(DatasetError, match=r"no place of its own below /mnt"):
            import_store(store.uri, name, media_root="/mnt")
        assert not fo.dataset_exists(name)

    @pytest.mark.parametrize(
        "paths",
        [("s3://B/x.jpg", "gs://B/x.jpg"), ("hdfs://data/x.jpg", "hdfs:///data/x.jpg")],
    )
    def test_two_filesystems_are_not_one_folder(self, name, tmp_path, paths):
        store = make_store(tmp_path / "s", paths, shard_rows=1)
        with pytest.raises(DatasetError, match=r"both would lie in /mnt/(B|data)"):
            import_store(store.uri, name, media_root="/mnt")
        assert not fo.dataset_exists(name)

    def test_one_filesystem_has_many_folders_and_names_with_any_signs(self, name, tmp_path):
        paths = ["S3://B/x.jpg", "s3://B/y.jpg", "s3://C/x.jpg", "s3://B/a..b/%2e%2e/z.jpg"]
        paths += ["file://localhost/x.jpg", "/B/://x.jpg"]
        store = make_store(tmp_path / "s", paths)
        assert import_store(store.uri, name, media_root="/mnt").added == 6
        assert sorted(fo.load_dataset(name).values("filepath")) == [
            "/B/:/x.jpg",
            "/mnt/B/a..b/%2e%2e/z.jpg",
            "/mnt/B/x.jpg",
            "/mnt/B/y.jpg",
            "/mnt/C/x.jpg",
            "/mnt/localhost/x.jpg",
        ]

    def test_ids_of_samples_need_no_folder(self, dataset, fill, name, tmp_path):
        (id_,) = fill(nowhere(1))
        store = make_store(tmp_path / "s", ["s3://bucket/1.jpg"], ids=[id_])
        assert import_store(store.uri, dataset).added == 0
        assert_held(dataset, {"/nowhere/000.jpg": id_})
        paths = [*nowhere(3), "s3://bucket/gone.jpg"]
        gone = make_store(tmp_path / "t", paths, ids=["0", "1", "2", "6" * 24], shard_rows=1)
        for into in (dataset, name):
            with pytest.raises(DatasetError, match=r"s3://bucket/gone\.jpg.*media_root"):
                import_store(gone.uri, into)
        assert len(dataset) == 1
        assert not fo.dataset_exists(name)

    @pytest.mark.parametrize("step", ["_fill", "_count"])
    def test_a_shard_that_goes_meanwhile_is_missed(self, dataset, tmp_path, monkeypatch, step):
        store = make_store(tmp_path / "s", nowhere(12))
        last = tmp_path / "s" / "shards" / store.names()[-1]
        whole, taking = last.read_bytes(), getattr(importing, step)

        def taken(*asked):
            last.unlink()
            return taking(*asked)

        monkeypatch.setattr(importing, step, taken)
        with pytest.raises(StoreError, match=f"{last.name} .* missing"):
            import_store(store.uri, dataset)
        monkeypatch.undo()
        last.write_bytes(whole)
        assert import_store(store.uri, dataset).embedded == 12

    def test_what_is_missing_at_the_end_is_named(self, dataset, tmp_path, monkeypatch):
        """Somebody deletes samples, and clears a vector, while the import runs."""
        store = make_store(tmp_path / "s", nowhere(9), failures={8: "torn"})
        counting = importing._count

        def spoiled(*asked):
            view = dataset.match(fo.ViewField("filepath") == "/nowhere/004.jpg")
            view.set_field(f"{FIELD}_source", None).save()
            view.set_field(FIELD, None).save()
            dataset.delete_samples(dataset.match(fo.ViewField("filepath") == "/nowhere/002.jpg"))
            return counting(*asked)

        monkeypatch.setattr(importing, "_count", spoiled)
        with pytest.raises(DatasetError, match=r"9 images .* 6 with .* 1 with .* of 2 neither"):
            import_store(store.uri, dataset)
        monkeypatch.undo()
        report = import_store(store.uri, dataset)
        assert (report.added, report.written, report.embedded) == (1, 2, 8)

    def test_lost_files_are_filled_again(self, dataset, tmp_path):
        from fiftyone_isoclip.dataset.sidestore import store_folder

        paths = nowhere(6)
        store = make_store(tmp_path / "s", paths)
        import_store(store.uri, dataset, on_samples=False)
        for file in store_folder(dataset, FIELD).iterdir():
            file.unlink()
        assert import_store(store.uri, dataset).written == 6
        assert_held(dataset, dict(zip(paths, paths, strict=True)))

    def test_vectors_are_moved_if_that_is_asked(self, dataset, tmp_path):
        paths = nowhere(6)
        store = make_store(tmp_path / "s", paths)
        for on_samples in (True, False, True):
            import_store(store.uri, dataset, on_samples=on_samples)
            assert dataset.count(FIELD) == (6 if on_samples else 0)
            assert_held(dataset, dict(zip(paths, paths, strict=True)))

    def test_new_samples_are_those_that_fiftyone_makes(self, dataset, tmp_path):
        store = make_store(tmp_path / "s", ["/nowhere/a.png", "/nowhere/without-ending"])
        import_store(store.uri, dataset)
        dataset.add_sample(
            fo.Sample(
                filepath="/nowhere/b.png",
                clip_embedding=vector_of("b"),
                clip_embedding_source="b",
            )
        )
        documents = {d["filepath"]: d for d in dataset._sample_collection.find()}
        ours, theirs = documents["/nowhere/a.png"], documents["/nowhere/b.png"]
        assert ours.keys() == theirs.keys()
        assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in theirs.items()}
        for part in ("_dataset_id", "_media_type", "tags"):
            assert ours[part] == theirs[part]
        assert documents["/nowhere/without-ending"]["_media_type"] == "image"
        assert dataset.media_type == "image"


class TestAfterwards:
    @pytest.fixture
    def embedded(self, pictures, tmp_path):
        """A store that the real model made of pictures, one broken; -> its URI, and its images."""
        paths = draw_many(pictures, 4)
        (pictures / "broken.png").write_text("no picture")
        images = read_images(str(pictures))
        embed_into_store(images, str(tmp_path / "s"), Encoding("isoclip-demo", device="cpu"))
        return str(tmp_path / "s"), paths

    def test_it_is_what_embed_computes(self, dataset, embedded, name, fill, pictures):
        uri, paths = embedded
        import_store(uri, name)
        fill([*paths, pictures / "broken.png"])
        embed(dataset, "isoclip-demo", progress=False)
        imported = fo.load_dataset(name)
        theirs, ours = held(dataset), held(imported)
        assert theirs.keys() == ours.keys() == set(paths)
        for path in paths:
            np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-5, atol=1e-6)
        for part in ("source", "error"):
            columns = ["filepath", f"{FIELD}_{part}"]
            assert dict(zip(*imported.values(columns), strict=True)) == dict(
                zip(*dataset.values(columns), strict=True)
            )
        assert embed(imported, "isoclip-demo", progress=False).kept == 4
        assert len(find_duplicates(imported, similarity=0.1).groups) == len(
            find_duplicates(dataset, similarity=0.1).groups
        )

    def test_pictures_that_come_later_are_those_that_were_embedded(
        self, dataset, embedded, pictures
    ):
        uri, paths = embedded
        away = pictures.rename(pictures.with_name("away"))
        import_store(uri, dataset)
        vectors = held(dataset)
        report = embed(dataset, "isoclip-demo", progress=False)
        assert (report.computed, report.kept, len(report.failed)) == (0, 4, 1)
        find_duplicates(dataset, similarity=0.1)
        assert rerun(dataset, list_runs(dataset)[0].key).run.counts["compared"] == 4
        with pytest.raises(DatasetError, match="is their disk mounted"):
            embed(dataset, "isoclip-demo", overwrite=True, progress=False)
        away.rename(pictures)
        assert embed(dataset, "isoclip-demo", progress=False).kept == 4
        draw(Path(paths[0]), 99, side=96)
        assert embed(dataset, "isoclip-demo", progress=False).computed == 1
        after = held(dataset)
        assert [path for path in paths if not np.array_equal(after[path], vectors[path])] == [
            paths[0]
        ]

    def test_the_command_line_does_the_same(self, embedded, name, tmp_path):
        uri, paths = embedded
        told = isoclip("import", uri, "--dataset", name, "--in-files", "--json", tmp_path / "r")
        assert told.exit_code == 0, told.stderr
        assert "4 with their embedding, 1 with the reason why not" in told.stdout
        assert held(fo.load_dataset(name)).keys() == set(paths)
        assert fo.load_dataset(name).count(FIELD) == 0
        assert "is no store" in sentence(isoclip("import", tmp_path, "--dataset", name))
        assert open_store(uri).manifest.recipe.dim != DIM


class TestDuplicates:
    @pytest.fixture
    def made(self, name, pictures, tmp_path):
        """A dataset of an imported store: scenes, and copies of them; -> it, and the store."""
        scenes = draw_many(pictures, 4)
        for number, scene in enumerate(scenes[:3]):
            recompress(scene, pictures / f"near{number}.jpg")
        shutil.copyfile(scenes[3], pictures / "copy.png")
        images, uri = read_images(str(pictures)), str(tmp_path / "s")
        embed_into_store(images, uri, Encoding("isoclip-demo", device="cpu"))
        import_store(uri, name)
        return fo.load_dataset(name), uri

    def test_the_run_is_what_find_duplicates_writes(self, made, tmp_path):
        dataset, uri = made
        file = tmp_path / "groups.parquet"
        find_store_duplicates(uri, similarity=0.9).write(file)
        imported = import_duplicates(file, dataset, key="imported")
        searched = find_duplicates(dataset, similarity=0.9, key="searched")
        assert imported.groups
        assert {c.kind for c in imported.duplicates} == {"exact", "near"}

        by_group = [{g.keeper: g for g in report.groups} for report in (imported, searched)]
        assert by_group[0].keys() == by_group[1].keys()
        for keeper, group in by_group[0].items():
            other = by_group[1][keeper]
            assert [(c.id, c.kind) for c in group.copies] == [(c.id, c.kind) for c in other.copies]
            assert group.reason == other.reason
            assert group.least_similarity == pytest.approx(other.least_similarity, abs=1e-5)
        assert imported.recall == searched.recall == 1.0
        dataset.reload()
        for part in ("group", "rank", "role", "kind", "bytes"):
            assert dataset.values(f"imported_{part}") == dataset.values(f"searched_{part}")
        assert load_duplicates(dataset, "imported").groups == imported.groups
        again = rerun(dataset, "imported").run
        assert again.counts["groups"] == len(searched.groups)
        delete_run(dataset, "imported")
        assert not [name for name in dataset.get_field_schema() if name.startswith("imported")]
        assert "imported" not in dataset.list_saved_views()

    def test_samples_are_asked_for_a_part_at_a_time(self, made, tmp_path, monkeypatch):
        """The database refuses a question that names 800,000 of them."""
        dataset, uri = made
        file = tmp_path / "groups.parquet"
        find_store_duplicates(uri, similarity=0.1).write(file)
        at_once = import_duplicates(file, dataset, key="at_once")
        asked, select = [], fo.Dataset.select
        monkeypatch.setattr(
            fo.Dataset, "select", lambda self, ids: asked.append(len(ids)) or select(self, ids)
        )
        monkeypatch.setattr(imported_groups, "IDS_AT_ONCE", 3)
        parts = import_duplicates(file, dataset, key="parts")
        assert parts.groups == at_once.groups
        assert max(asked) == 3
        dataset.reload()
        for part in ("group", "rank", "role", "kind", "similarity"):
            assert dataset.values(f"parts_{part}") == dataset.values(f"at_once_{part}")

    def test_what_a_person_said_is_respected_and_who_is_gone_is_left_out(self, dataset, tmp_path):
        clip = load_clip("isoclip-demo")
        paths = nowhere(9)
        recipe = replace(RECIPE, fingerprint=clip.fingerprint, dim=clip.dim)
        recipe = replace(recipe, checkpoint="isoclip-demo")
        store = make_store(tmp_path / "s", paths, recipe=recipe)
        import_store(store.uri, dataset)
        id_of = dict(zip(*dataset.values(["filepath", "id"]), strict=True))
        groups = [[(p, p) for p in paths[:4]], [(p, p) for p in paths[4:6]]]
        groups += [[(p, p) for p in paths[6:9]]]
        file = write_groups(tmp_path / "groups", groups, clip.fingerprint, recall=0.5)
        say_not_duplicates(dataset, [id_of[paths[0]], id_of[paths[2]]])
        dataset.delete_samples([id_of[paths[3]], id_of[paths[6]]])
        report = import_duplicates(file, dataset)
        found = {
            g.path: (g.reason, [(c.path, round(c.similarity, 5)) for c in g.copies])
            for g in report.groups
        }
        assert found == {
            paths[0]: ("the file's keeper 0", [(paths[1], 0.99)]),
            paths[4]: ("the file's keeper 1", [(paths[5], 0.99)]),
        }
        assert sorted(report.skipped) == [paths[3], *paths[6:]]
        assert (report.n_compared, report.recall) == (100, 0.5)
        (pair,) = [g for g in report.groups if g.path == paths[4]]
        assert pair.least_similarity == pytest.approx(0.99)
        unknown = write_groups(tmp_path / "unknown", groups, clip.fingerprint)
        assert import_duplicates(unknown, dataset).recall is None

    def test_other_embeddings_and_other_files_are_refused(self, dataset, tmp_path):
        store = make_store(tmp_path / "s", nowhere(2))
        import_store(store.uri, dataset)
        file = write_groups(tmp_path / "g", [[("a", "/a"), ("b", "/b")]], "cd" * 32)
        with pytest.raises(DatasetError, match="import the store that was searched"):
            import_duplicates(file, dataset)
        file = write_groups(tmp_path / "g", [[("a", "/a"), ("b", "/b")]], RECIPE.fingerprint)
        with pytest.raises(DatasetError, match="none of the 2 images of the file has a sample"):
            import_duplicates(file, dataset)
        with pytest.raises(StoreError, match="does not exist"):
            import_duplicates(tmp_path / "nothing", dataset)
        assert list_runs(dataset) == []

    def test_the_command_line_brings_them_along(self, made, tmp_path):
        dataset, uri = made
        file, told = tmp_path / "groups.parquet", tmp_path / "told.json"
        find_store_duplicates(uri, similarity=0.9).write(file)
        words = ["import", uri, "--dataset", dataset.name, "--duplicates", file, "--key", "found"]
        result = isoclip(*words, "--json", told)
        assert result.exit_code == 0, result.stderr
        dataset.reload()
        report = load_duplicates(dataset, "found")
        assert json.loads(told.read_text())["duplicates"] == {
            "key": "found",
            "groups": len(report.groups),
            "duplicates": report.n_duplicates,
            "skipped": 0,
        }
        assert isoclip("import", uri, "--dataset", dataset.name, "--key", "x").exit_code == 2

    def test_what_a_search_of_the_dataset_found_stays(self, made, tmp_path):
        dataset, uri = made
        searched = find_duplicates(dataset, similarity=0.1)
        file = tmp_path / "groups.parquet"
        find_store_duplicates(uri, similarity=0.9).write(file)
        imported = import_duplicates(file, dataset)
        assert {run.key for run in list_runs(dataset)} == {searched.key, imported.key}
        assert load_duplicates(dataset).groups == searched.groups
        assert imported.groups != searched.groups

    def test_the_command_line_looks_at_the_groups_first(self, name, tmp_path):
        store = make_store(tmp_path / "s", nowhere(2))
        words = ["import", store.uri, "--dataset", name, "--duplicates"]
        (tmp_path / "text").write_text("no groups")
        groups = [[(path, path) for path in nowhere(2)]]
        other = write_groups(tmp_path / "other", groups, "cd" * 32)
        fitting = write_groups(tmp_path / "fitting", groups, RECIPE.fingerprint)
        for asked, told in {
            (tmp_path / "typo",): "does not exist",
            (tmp_path / "text",): "holds no groups",
            (other,): "made of this store",
            (fitting, "--key", "No key"): "cannot be the name",
        }.items():
            assert told in sentence(isoclip(*words, *asked))
            assert not fo.dataset_exists(name)
        fo.Dataset(name, persistent=True).add_sample_field("store_duplicates_group", fo.IntField)
        assert "no run 'store_duplicates' made it" in sentence(isoclip(*words, fitting))
        assert len(fo.load_dataset(name)) == 0

    def test_the_command_line_tells_of_the_import_before_the_groups(self, name, tmp_path):
        """The groups cannot be taken here, where nobody knows the checkpoint `made`."""
        store = make_store(tmp_path / "s", nowhere(2))
        groups = [[(path, path) for path in nowhere(2)]]
        file = write_groups(tmp_path / "groups", groups, RECIPE.fingerprint)
        result = isoclip("import", store.uri, "--dataset", name, "--duplicates", file)
        assert "'made'" in sentence(result)
        assert "2 with their embedding" in result.stdout
