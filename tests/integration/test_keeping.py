"""Vectors kept in files alone: the verbs give the same, and nothing is silently missing."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from fiftyone_isoclip.dataset import build_similarity, embed, find_duplicates, find_similar, upgrade
from fiftyone_isoclip.dataset.sidestore import store_folder
from fiftyone_isoclip.dataset.vectors import read_vectors
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw, draw_many
from tests.terminal import isoclip

FIELD = "clip_embedding"
DIM = 24


def quiet(dataset, checkpoint, **options):
    return embed(dataset, checkpoint, progress=False, **options)


@pytest.fixture
def filled(dataset, fill, pictures):
    """A dataset of 12 pictures and one file that is no picture."""
    paths = draw_many(pictures, 12)
    (pictures / "broken.jpg").write_text("no picture")
    fill([*paths, pictures / "broken.jpg"])
    return dataset


@pytest.fixture
def truth(filled, checkpoint):
    """What the database holds where it holds the vectors, in a field of its own."""
    quiet(filled, checkpoint, field="truth")
    return filled.exists("truth").values("truth")


def found(samples, field=FIELD):
    return read_vectors(samples, field, len(samples.exists("truth").first()["truth"]))


class TestInFilesAlone:
    def test_the_samples_hold_no_vector_and_reading_gives_the_same(self, filled, truth, checkpoint):
        report = quiet(filled, checkpoint, on_samples=False)
        assert (report.computed, len(report.failed)) == (12, 1)
        assert filled.count(FIELD) == 0
        assert filled.count(f"{FIELD}_source") == 12
        np.testing.assert_array_equal(found(filled).vectors, truth)
        assert found(filled).ids == filled.exists("truth").values("id")
        assert "could not be embedded" in found(filled).skipped[filled.last().id]
        np.testing.assert_array_equal(found(filled.skip(3).limit(5)).vectors, truth[3:8])
        backwards = filled.exists("truth").sort_by("filepath", reverse=True)
        np.testing.assert_array_equal(found(backwards).vectors, backwards.values("truth"))

    def test_the_verbs_give_the_same(self, filled, truth, checkpoint):
        quiet(filled, checkpoint, on_samples=False)
        first = filled.first().id
        for verb in (
            lambda field: find_similar(filled, first, field=field).ids,
            lambda field: find_similar(filled, text="a red circle", field=field).ids,
            lambda field: find_duplicates(filled, similarity=0.5, field=field).groups,
        ):
            assert verb(FIELD) == verb("truth")
        upgrade(filled, FIELD, checkpoint, into="from_files")
        upgrade(filled, "truth", checkpoint, into="from_samples")
        np.testing.assert_array_equal(
            filled.exists("truth").values("from_files"),
            filled.exists("truth").values("from_samples"),
        )

    def test_what_is_up_to_date_is_kept_and_the_rest_computed(
        self, filled, truth, fill, pictures, checkpoint
    ):
        quiet(filled, checkpoint, on_samples=False)
        assert quiet(filled, checkpoint).kept == 12
        fill(draw_many(pictures / "more", 2, first_seed=100))
        draw(filled.first().filepath, 77)
        report = quiet(filled, checkpoint)
        assert (report.computed, report.kept) == (3, 11)
        quiet(filled, checkpoint, field="truth")
        np.testing.assert_array_equal(found(filled).vectors, filled.exists("truth").values("truth"))
        assert filled.count(FIELD) == 0

    def test_two_checkpoints_never_share_a_field(self, filled, truth, checkpoint, other_checkpoint):
        quiet(filled, checkpoint, on_samples=False)
        with pytest.raises(DatasetError, match="which holds 12 plain embeddings"):
            quiet(filled, other_checkpoint)
        np.testing.assert_array_equal(found(filled).vectors, truth)
        assert quiet(filled, other_checkpoint, overwrite=True).computed == 12
        quiet(filled, other_checkpoint, field="truth", overwrite=True)
        np.testing.assert_array_equal(found(filled).vectors, filled.exists("truth").values("truth"))

    def test_the_command_line_offers_it_and_writes_the_same_file(
        self, filled, truth, checkpoint, tmp_path
    ):
        for option, count in (("--in-files", 0), ("--on-samples", 12)):
            out = tmp_path / f"{option}.npz"
            words = ["embed", f"dataset:{filled.name}", "--model", checkpoint, "--out", out, option]
            assert isoclip(*words).exit_code == 0
            filled.reload()
            assert filled.count(FIELD) == count
            with np.load(out) as written:
                np.testing.assert_array_equal(written["embeddings"], truth)
                assert written["failed_paths"].tolist() == [filled.last().filepath]
        refused = isoclip("embed", tmp_path, "--out", out, "--in-files")
        assert (refused.exit_code, "dataset:NAME" in refused.stderr) == (2, True)

    def test_a_clone_has_the_vectors_and_gets_files_of_its_own(self, filled, truth, checkpoint):
        quiet(filled, checkpoint, on_samples=False)
        clone = filled.clone()
        try:
            np.testing.assert_array_equal(found(clone).vectors, truth)
            assert quiet(clone, checkpoint).kept == 12
            shutil.rmtree(store_folder(filled, FIELD))
            np.testing.assert_array_equal(found(clone).vectors, truth)
        finally:
            clone.delete()

    def test_a_renamed_field_has_them_if_its_sources_are_renamed_too(
        self, filled, truth, checkpoint
    ):
        quiet(filled, checkpoint, on_samples=False)
        filled.rename_sample_field(FIELD, "renamed")
        with pytest.raises(DatasetError, match="rename that one with it"):
            found(filled, "renamed")
        filled.rename_sample_field(f"{FIELD}_source", "renamed_source")
        np.testing.assert_array_equal(found(filled, "renamed").vectors, truth)

    def test_an_index_keeps_the_vectors_that_it_reads(self, filled, checkpoint):
        quiet(filled, checkpoint)
        build_similarity(filled, checkpoint, brain_key="reads_them", field=FIELD)
        with pytest.raises(DatasetError, match="brain run 'reads_them' reads its vectors"):
            quiet(filled, checkpoint, on_samples=False)
        assert filled.count(FIELD) == 12
        filled.delete_brain_run("reads_them")
        quiet(filled, checkpoint, on_samples=False)
        assert filled.count(FIELD) == 0

    def test_boxes_are_kept_on_their_labels(self, filled, checkpoint):
        import fiftyone as fo

        boxes = [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])] * 13
        filled.set_values("things", boxes)
        with pytest.raises(DatasetError, match="vectors of boxes"):
            quiet(filled, checkpoint, patches_field="things", on_samples=False)


class TestMoving:
    """No image is read: the pictures are gone from where they were, or replaced unnoticed."""

    @pytest.fixture
    def spoiled(self, filled, truth, pictures):
        """Makes every picture another one with the size and time it had."""

        def spoil():
            for path in pictures.glob("*.png"):
                state = path.stat()
                path.write_bytes(b"\0" * state.st_size)
                os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

        return spoil

    def test_from_the_samples_to_files_and_back(self, filled, truth, checkpoint, spoiled):
        quiet(filled, checkpoint)
        spoiled()
        for on_samples in (False, True, False):
            report = quiet(filled, checkpoint, on_samples=on_samples)
            assert (report.computed, report.kept) == (0, 12)
            assert filled.count(FIELD) == (12 if on_samples else 0)
            np.testing.assert_array_equal(found(filled).vectors, truth)
        assert quiet(filled, checkpoint, on_samples=True).kept == 12
        np.testing.assert_array_equal(filled.exists("truth").values(FIELD), truth)

    def test_what_the_samples_hold_is_what_is_moved(self, filled, checkpoint):
        quiet(filled, checkpoint)
        ids = filled.exists(FIELD).values("id")
        dim = len(filled.first()[FIELD])
        written = {id_: np.full(dim, n + 1, np.float32) for n, id_ in enumerate(ids)}
        filled.set_values(
            FIELD, written, key_field="id"
        )  # by somebody else, behind the copy's back
        quiet(filled, checkpoint, on_samples=False)
        moved = read_vectors(filled, FIELD, dim)
        np.testing.assert_array_equal(moved.vectors, [written[id_] for id_ in moved.ids])

    def test_vectors_that_cannot_be_used_are_not_thrown_away(self, filled, checkpoint):
        quiet(filled, checkpoint)
        filled.set_values(FIELD, {filled.first().id: np.zeros(DIM)}, key_field="id")
        with pytest.raises(DatasetError, match=r"1 vectors in field.* stay on their samples"):
            quiet(filled, checkpoint, on_samples=False)
        assert filled.count(FIELD) == 12

    def test_a_part_of_a_field_is_not_moved(self, filled, checkpoint):
        quiet(filled, checkpoint)
        with pytest.raises(DatasetError, match="pass the whole dataset"):
            quiet(filled.limit(3), checkpoint, on_samples=False)
        quiet(filled, checkpoint, on_samples=False)
        with pytest.raises(DatasetError, match="keeps its vectors in files"):
            quiet(filled.limit(3), checkpoint, on_samples=True)


class TestLost:
    def test_f13_lost_files_are_said_and_embedding_makes_them_again(
        self, filled, truth, checkpoint
    ):
        quiet(filled, checkpoint, on_samples=False)
        shutil.rmtree(store_folder(filled, FIELD))
        for samples in (filled, filled.limit(1)):
            with pytest.raises(DatasetError, match=r"cannot be read.*computes what is lost again"):
                found(samples)
        with pytest.raises(DatasetError, match="cannot be read"):
            find_similar(filled, filled.first().id)
        assert quiet(filled, checkpoint).computed == 12
        np.testing.assert_array_equal(found(filled).vectors, truth)

    @pytest.mark.parametrize("kind", ["vectors", "ids", "manifest"])
    def test_f13_damaged_files_are_said_and_embedding_makes_them_again(
        self, filled, truth, checkpoint, kind
    ):
        quiet(filled, checkpoint, on_samples=False)
        path = next(store_folder(filled, FIELD).glob(f"{kind}*"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=r"is damaged.*computes what is lost again"):
            found(filled)
        assert quiet(filled, checkpoint).computed == 12
        np.testing.assert_array_equal(found(filled).vectors, truth)

    def test_f13_files_from_before_are_said_and_only_what_they_lack_is_computed(
        self, filled, truth, fill, pictures, checkpoint, tmp_path
    ):
        quiet(filled, checkpoint, on_samples=False)
        folder = store_folder(filled, FIELD)
        shutil.copytree(folder, tmp_path / "backup")
        fill(draw_many(pictures / "more", 2, first_seed=100))
        quiet(filled, checkpoint)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "backup", folder)
        with pytest.raises(DatasetError, match=r"14 of .* asked for and .* holds 12 of"):
            found(filled)
        assert quiet(filled, checkpoint).computed == 2
        assert len(found(filled).ids) == 14

    def test_lost_files_keep_nobody_from_bringing_the_vectors_back(self, filled, truth, checkpoint):
        quiet(filled, checkpoint, on_samples=False)
        shutil.rmtree(store_folder(filled, FIELD))
        assert quiet(filled, checkpoint, on_samples=True).computed == 12
        np.testing.assert_array_equal(filled.exists("truth").values(FIELD), truth)
