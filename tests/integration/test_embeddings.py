from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import open_clip
import pytest
import torch
from fiftyone import ViewField as F
from PIL import Image
from safetensors.torch import load_file

from fiftyone_isoclip.dataset import embed, load_model
from fiftyone_isoclip.dataset.fields import read_origin
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw, draw_many

FIELD = "clip_embedding"


def by_open_clip(checkpoint, images):
    """What open_clip itself makes of these images, one at a time: the oracle."""
    architecture, _, weights = checkpoint.partition("/")
    model, _, preprocess = open_clip.create_model_and_transforms(architecture)
    model.load_state_dict(load_file(weights))
    model.eval()
    with torch.no_grad():
        return np.concatenate(
            [model.encode_image(preprocess(image.convert("RGB"))[None]).numpy() for image in images]
        )


def stored(samples, field=FIELD):
    return samples.values(field)


def agreement(expected, found):
    """The lowest cosine of a row to its twin: 1e-3 is left to the processor's half precision."""
    found = np.stack(found)
    cosines = np.einsum("ij,ij->i", expected, found)
    return (cosines / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)).min()


class TestWhatIsStored:
    def test_the_vectors_are_open_clips_own_in_float32_and_not_normalised(
        self, dataset, fill, pictures, checkpoint
    ):
        paths = draw_many(pictures, 7)
        fill(paths)
        report = embed(dataset, checkpoint, batch_size=3, progress=False)
        expected = by_open_clip(checkpoint, [Image.open(path) for path in paths])
        assert all(vector.dtype == np.float32 for vector in stored(dataset))
        assert agreement(expected, stored(dataset)) > 0.999
        lengths = np.linalg.norm(stored(dataset), axis=1) / np.linalg.norm(expected, axis=1)
        np.testing.assert_allclose(lengths, 1, atol=0.02)
        assert (report.computed, report.kept, report.failed) == (7, 0, {})
        assert report.device == load_model(checkpoint).clip.device

    def test_in_float32_they_are_equal_to_the_last_digits(
        self, dataset, fill, pictures, checkpoint
    ):
        paths = draw_many(pictures, 4)
        fill(paths)
        embed(dataset, load_clip(checkpoint, precision="float32"), progress=False)
        expected = by_open_clip(checkpoint, [Image.open(path) for path in paths])
        np.testing.assert_allclose(stored(dataset), expected, rtol=1e-4, atol=1e-4)

    def test_the_field_says_which_checkpoint_made_it_also_after_clone_and_rename(
        self, dataset, fill, pictures, checkpoint
    ):
        fill(draw_many(pictures, 2))
        embed(dataset, checkpoint, progress=False)
        origin = read_origin(dataset, FIELD)
        assert (origin.checkpoint, origin.band) == (checkpoint, None)
        assert origin.fingerprint == load_clip(checkpoint).fingerprint
        clone = dataset.clone()
        try:
            assert read_origin(clone, FIELD) == origin
            clone.rename_sample_field(FIELD, "renamed")
            clone.name = f"{dataset.name}-renamed"
            assert read_origin(clone, "renamed") == origin
        finally:
            clone.delete()

    def test_a_loaded_model_will_do_but_not_one_with_a_band_folded_in(
        self, dataset, fill, pictures, checkpoint
    ):
        fill(draw_many(pictures, 2))
        model = load_model(checkpoint)
        assert embed(dataset, model, progress=False).computed == 2
        assert embed(dataset, model.clip, progress=False).kept == 2
        with pytest.raises(DatasetError, match="folded in"):
            embed(dataset, model.clip.folded(), progress=False)

    def test_only_the_samples_of_a_view_are_touched(self, dataset, fill, pictures, checkpoint):
        ids = fill(draw_many(pictures, 5))
        report = embed(dataset.select(ids[1:3]), checkpoint, progress=False)
        assert report.computed == 2
        assert [vector is not None for vector in stored(dataset)] == [0, 1, 1, 0, 0]

    def test_odd_paths_f07(self, dataset, fill, pictures, checkpoint):
        names = ["a b.png", "ünï—✓.png", "quote'\".png", "new\nline.png", "x" * 251 + ".png"]
        fill([draw(pictures / name, n) for n, name in enumerate(names)])
        assert embed(dataset, checkpoint, progress=False).failed == {}


class TestWhatIsComputedAgain:
    def test_new_and_changed_images_only(self, dataset, fill, pictures, checkpoint):
        paths = draw_many(pictures, 4)
        fill(paths)
        embed(dataset, checkpoint, progress=False)
        before = stored(dataset)
        draw(Path(paths[2]), seed=99)
        fill(draw_many(pictures, 1, first_seed=10))
        report = embed(dataset, checkpoint, progress=False)
        after = stored(dataset)
        assert (report.computed, report.kept) == (2, 3)
        assert [np.array_equal(a, b) for a, b in zip(before, after[:4], strict=True)] == [
            1,
            1,
            0,
            1,
        ]
        expected = by_open_clip(checkpoint, [Image.open(paths[2])])
        assert agreement(expected, after[2:3]) > 0.999

    def test_everything_on_demand(self, dataset, fill, pictures, checkpoint):
        fill(draw_many(pictures, 3))
        embed(dataset, checkpoint, progress=False)
        assert embed(dataset, checkpoint, overwrite=True, progress=False).computed == 3

    def test_a_cancelled_run_keeps_what_it_saved_and_goes_on(
        self, dataset, fill, pictures, checkpoint
    ):
        fill(draw_many(pictures, 12))

        def cancel(bar):
            if bar.iteration >= 6:
                raise InterruptedError("cancelled")

        with pytest.raises(InterruptedError):
            embed(dataset, checkpoint, batch_size=3, progress=cancel)
        saved = dataset.count(FIELD)
        assert 3 <= saved <= 6
        report = embed(dataset, checkpoint, progress=False)
        assert (report.kept, report.computed) == (saved, 12 - saved)


class TestFailures:
    def test_an_unmounted_disk_does_not_clear_every_vector(
        self, dataset, fill, pictures, checkpoint
    ):
        fill(draw_many(pictures, 3))
        embed(dataset, checkpoint, progress=False)
        pictures.rename(pictures.with_name("away"))
        with pytest.raises(DatasetError, match="disk mounted"):
            embed(dataset, checkpoint, progress=False)
        assert dataset.count(FIELD) == 3

    def test_f09_none_one_and_nothing_but_failures(self, dataset, fill, pictures, checkpoint):
        report = embed(dataset, checkpoint, progress=False)
        assert (report.computed, report.kept, report.failed) == (0, 0, {})
        fill([str(pictures / "missing.png")])
        report = embed(dataset, checkpoint, progress=False)
        assert report.computed == 0
        assert len(report.failed) == 1
        fill(draw_many(pictures, 1))
        assert embed(dataset, checkpoint, progress=False).computed == 1


class TestPatches:
    @pytest.fixture
    def boxed(self, dataset, fill, pictures):
        fill(draw_many(pictures, 2))
        boxes = [[(0, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)], [(0.25, 0, 0.5, 1)]]
        labels = [
            fo.Detections(
                detections=[
                    fo.Detection(label=f"box{n}", bounding_box=box) for n, box in enumerate(each)
                ]
            )
            for each in boxes
        ]
        dataset.set_values("things", labels)
        return boxes

    def test_every_box_gets_the_vector_of_its_crop(self, dataset, boxed, checkpoint):
        report = embed(dataset, checkpoint, patches_field="things", progress=False)
        crops = []
        for path, boxes in zip(dataset.values("filepath"), boxed, strict=True):
            image = Image.open(path)
            for left, top, width, height in boxes:
                edges = (left * 64, top * 64, (left + width) * 64, (top + height) * 64)
                crops.append(image.crop(edges))
        expected = by_open_clip(checkpoint, crops)
        assert (
            agreement(expected, dataset.values(f"things.detections.{FIELD}", unwind=True)) > 0.999
        )
        assert report.computed == 3
        assert dataset.first().things.detections[0][FIELD].dtype == np.float32
        assert embed(dataset, checkpoint, patches_field="things", progress=False).kept == 3

    def test_moved_boxes_are_computed_again_and_filtered_ones_left_alone(
        self, dataset, boxed, checkpoint
    ):
        first = dataset.filter_labels("things", F("label") == "box0")
        assert embed(first, checkpoint, patches_field="things", progress=False).computed == 2
        sample = dataset.first()
        held = dataset.values(f"things.detections.{FIELD}")
        assert [[v is not None for v in each] for each in held] == [[1, 0], [1]]
        sample.things.detections[0].bounding_box = [0.25, 0.25, 0.5, 0.5]
        sample.save()
        report = embed(dataset, checkpoint, patches_field="things", progress=False)
        assert (report.computed, report.kept) == (2, 1)

    def test_an_impossible_box_fails_alone(self, dataset, boxed, checkpoint):
        sample = dataset.first()
        sample.things.detections[0].bounding_box = [0.5, 0.5, 0, 0]
        sample.save()
        report = embed(dataset, checkpoint, patches_field="things", progress=False)
        assert report.failed.keys() == {sample.things.detections[0].id}
        assert "area" in dataset.first().things.detections[0][f"{FIELD}_error"]
        assert report.computed == 2

    def test_only_detections_have_boxes(self, dataset, boxed, checkpoint):
        dataset.add_sample_field(
            "kind", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification
        )
        for name in ("kind", "nowhere", "filepath"):
            with pytest.raises(DatasetError, match="Detections"):
                embed(dataset, checkpoint, patches_field=name, progress=False)


class TestRefusals:
    def test_two_checkpoints_never_share_a_field(
        self, dataset, fill, pictures, checkpoint, other_checkpoint
    ):
        ids = fill(draw_many(pictures, 4))
        embed(dataset, checkpoint, progress=False)
        before = stored(dataset)
        with pytest.raises(DatasetError, match="choose another field or pass overwrite=True"):
            embed(dataset, other_checkpoint, progress=False)
        with pytest.raises(DatasetError, match="outside this view"):
            embed(dataset.select(ids[:2]), other_checkpoint, overwrite=True, progress=False)
        np.testing.assert_array_equal(stored(dataset), before)
        assert embed(dataset, other_checkpoint, overwrite=True, progress=False).computed == 4
        assert read_origin(dataset, FIELD).checkpoint == other_checkpoint
        assert embed(dataset, other_checkpoint, progress=False).kept == 4

    def test_vectors_of_unknown_origin_are_not_touched(self, dataset, fill, pictures, checkpoint):
        fill(draw_many(pictures, 2))
        dataset.set_values(FIELD, list(np.ones((2, 24), np.float32)))
        with pytest.raises(DatasetError, match="unknown origin"):
            embed(dataset, checkpoint, progress=False)

    @pytest.mark.parametrize("name", ["../up", "a/b", "Upper", "9", "", "a b", "$x"])
    def test_f16_a_new_field_needs_a_plain_name(self, dataset, fill, pictures, checkpoint, name):
        fill(draw_many(pictures, 1))
        with pytest.raises(DatasetError):
            embed(dataset, checkpoint, name, progress=False)

    def test_f21_a_dataset_deleted_meanwhile(self, dataset, fill, pictures, checkpoint):
        fill(draw_many(pictures, 8))

        def delete(bar):
            if not dataset.deleted:
                dataset.delete()

        with pytest.raises(DatasetError, match="was deleted"):
            embed(dataset, checkpoint, batch_size=2, progress=delete)
        with pytest.raises(DatasetError, match="was deleted"):
            embed(dataset, checkpoint, progress=False)

    def test_f21_a_dataset_deleted_by_another_process(self, dataset, fill, pictures, checkpoint):
        fill(draw_many(pictures, 8))

        def delete(bar):
            fo.core.odm.get_db_conn().datasets.delete_one({"_id": dataset._doc.id})

        with pytest.raises(DatasetError, match="was deleted"):
            embed(dataset, checkpoint, batch_size=2, progress=delete)

    def test_f21_a_dataset_renamed_meanwhile(self, dataset, fill, pictures, checkpoint):
        fill(draw_many(pictures, 8))

        def rename(bar):
            dataset.name = f"{dataset.name}-x"

        embed(dataset, checkpoint, batch_size=2, progress=rename)
        assert dataset.count(FIELD) == 8

    def test_what_is_no_collection_of_images(self, dataset, fill, pictures, checkpoint):
        with pytest.raises(DatasetError, match="found list"):
            embed([], checkpoint)
        with pytest.raises(DatasetError, match="found int"):
            embed(dataset, 3)
        fill(draw_many(pictures, 1))
        dataset.set_values(
            "things", [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])]
        )
        with pytest.raises(DatasetError, match="PatchesView"):
            embed(dataset.to_patches("things"), checkpoint)
