from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import embed, find_duplicates, find_similar, upgrade
from fiftyone_isoclip.dataset.fields import read_origin
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import Band
from tests.pictures import draw_many

FIELD = "embeddings"


@pytest.fixture(scope="module")
def clip(checkpoint):
    return load_clip(checkpoint, precision="float32")


@pytest.fixture
def held(dataset, fill, pictures, clip):
    """A dataset with plain embeddings that somebody else computed; -> those, unnormalised."""
    import torch
    from PIL import Image

    paths = draw_many(pictures, 10)
    fill(paths)
    pixels = torch.stack([clip.preprocess(Image.open(path).convert("RGB")) for path in paths])
    plain = clip.image_embeddings(pixels)
    dataset.set_values(FIELD, list(plain))
    return plain


def by_the_paper(clip, plain, band):
    """Cosines of theta_i z~ = A_i U_mid U_mid^T A_i^+ e, from the two heads alone."""
    image, text = clip.image_head.matrix, clip.text_head.matrix
    left, values, _ = np.linalg.svd(image.T @ text)
    rank = int((values > values[0] * 1e-10).sum())
    middle = left[:, band.drop_top : rank - band.drop_bottom]
    mapped = plain.astype(np.float64) @ (image @ middle @ middle.T @ np.linalg.pinv(image)).T
    units = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    return units @ units.T


@pytest.mark.parametrize("band", [None, Band(2, 3)])
@pytest.mark.parametrize("stored_as", ["raw", "unit", "float16", "float64"])
def test_the_result_has_the_papers_cosines_however_the_vectors_are_stored(
    dataset, held, clip, checkpoint, stored_as, band
):
    units = held / np.linalg.norm(held, axis=1, keepdims=True)
    kinds = {
        "raw": held,
        "unit": units,
        "float16": units.astype(np.float16),
        "float64": held.astype(np.float64),
    }
    dataset.set_values(FIELD, list(kinds[stored_as]))
    report = upgrade(dataset, FIELD, checkpoint, band=band)
    band = band or clip.image_band
    found = np.stack(dataset.values("isoclip_embedding"))
    assert found.dtype == np.float32
    assert found.shape == (10, report.dim) == (10, 24 - band.drop_top - band.drop_bottom)
    np.testing.assert_allclose(
        found @ found.T,
        by_the_paper(clip, held, band),
        atol=2e-2 if stored_as == "float16" else 1e-4,
    )
    assert (report.n_upgraded, report.n_checked, report.skipped) == (10, 8, {})
    assert report.agreement > 0.99
    assert dataset.values(FIELD)[3].dtype == kinds[stored_as].dtype


def test_afterwards_the_verbs_work_without_reading_an_image(dataset, held, clip, checkpoint):
    upgrade(dataset, FIELD, checkpoint)
    for path in dataset.values("filepath"):
        Path(path).unlink()
    ids = dataset.values("id")
    for field in (FIELD, "isoclip_embedding"):
        report = find_similar(dataset, ids[0], 9, field=field)
        truth = by_the_paper(clip, held, clip.image_band)[0]
        assert report.ids == [ids[row] for row in np.argsort(-truth) if row]
    assert find_duplicates(dataset, field=FIELD, similarity=0.9999).groups == ()
    with pytest.raises(DatasetError, match="plain"):
        find_similar(dataset, text="a dog", field="isoclip_embedding")
    with pytest.raises(DatasetError, match="serves every band"):
        find_similar(dataset, ids[0], field="isoclip_embedding", band=Band(3, 3))


def test_embedding_goes_on_from_upgraded_vectors(dataset, fill, held, pictures, checkpoint):
    upgrade(dataset, FIELD, checkpoint)
    fill(draw_many(pictures, 2, first_seed=50))
    report = embed(dataset, checkpoint, FIELD, progress=False)
    assert (report.kept, report.computed) == (10, 2)


def test_again_after_the_vectors_changed(dataset, held, checkpoint):
    upgrade(dataset, FIELD, checkpoint)
    ids = dataset.values("id")
    dataset.set_values(FIELD, {ids[4]: None}, key_field="id")
    report = upgrade(dataset, FIELD, checkpoint)
    assert report.n_upgraded == 9
    assert list(report.skipped) == [ids[4]]
    assert [v is None for v in dataset.values("isoclip_embedding")] == [r == 4 for r in range(10)]


def test_only_the_samples_of_a_view_are_written(dataset, held, checkpoint):
    assert upgrade(dataset[:3], FIELD, checkpoint).n_upgraded == 3
    assert dataset.count("isoclip_embedding") == 3


def test_f08_vectors_without_a_direction_are_left_out_and_named(dataset, held, checkpoint):
    ids = dataset.values("id")
    nan, zero = held[1].copy(), np.zeros(24, np.float32)
    nan[3] = np.nan
    dataset.set_values(FIELD, {ids[1]: nan, ids[2]: zero}, key_field="id")
    report = upgrade(dataset, FIELD, checkpoint)
    assert report.skipped.keys() == {ids[1], ids[2]}
    assert "not finite" in report.skipped[ids[1]]
    assert dataset.count("isoclip_embedding") == 8


class TestRefusals:
    def refused(self, dataset, checkpoint, match, **options):
        with pytest.raises(DatasetError, match=match):
            upgrade(dataset, FIELD, checkpoint, **options)
        assert read_origin(dataset, FIELD) is None
        assert not dataset.has_field("isoclip_embedding")

    def test_vectors_of_another_dim(self, dataset, held, checkpoint):
        dataset.set_values(FIELD, list(np.ones((10, 768), np.float32)))
        self.refused(dataset, checkpoint, "768 numbers")

    def test_vectors_of_another_checkpoint_of_the_same_dim(self, dataset, held, other_checkpoint):
        self.refused(dataset, other_checkpoint, "another checkpoint made them")

    def test_vectors_with_their_mean_taken_away(self, dataset, held, checkpoint):
        dataset.set_values(FIELD, list(held - held.mean(axis=0)))
        self.refused(dataset, checkpoint, "8 of 8 images")

    def test_vectors_whose_images_are_gone_unless_told_not_to_check(
        self, dataset, held, checkpoint
    ):
        for path in dataset.values("filepath"):
            Path(path).unlink()
        self.refused(dataset, checkpoint, "check=False")
        report = upgrade(dataset, FIELD, checkpoint, check=False)
        assert (report.n_upgraded, report.n_checked, report.agreement) == (10, 0, None)

    def test_a_field_that_is_no_vector(self, dataset, held, checkpoint):
        with pytest.raises(DatasetError, match="StringField"):
            upgrade(dataset, "filepath", checkpoint)
        with pytest.raises(DatasetError, match="no field"):
            upgrade(dataset, "nowhere", checkpoint)
        with pytest.raises(DatasetError, match="name another one"):
            upgrade(dataset, FIELD, checkpoint, into=FIELD)

    def test_vectors_recorded_as_something_else(self, dataset, held, checkpoint, other_checkpoint):
        upgrade(dataset, FIELD, checkpoint)
        with pytest.raises(DatasetError, match="pass the checkpoint that made it"):
            upgrade(dataset, FIELD, other_checkpoint, check=False)
        with pytest.raises(DatasetError, match="plain embeddings"):
            upgrade(dataset, "isoclip_embedding", checkpoint, into="twice", check=False)


def test_f09_no_samples_and_no_vectors(dataset, fill, pictures, checkpoint):
    dataset.add_sample_field(FIELD, fo.VectorField)
    assert upgrade(dataset, FIELD, checkpoint).n_upgraded == 0
    fill(draw_many(pictures, 2))
    report = upgrade(dataset, FIELD, checkpoint)
    assert report.n_upgraded == 0
    assert len(report.skipped) == 2


def test_vectors_none_of_which_can_be_used_are_refused(dataset, fill, pictures, checkpoint):
    fill(draw_many(pictures, 3))
    dim = load_clip(checkpoint).dim
    dataset.add_sample_field("old", fo.VectorField)
    dataset.set_values("old", [np.full(dim, np.nan, np.float32)] * 3)
    with pytest.raises(DatasetError, match="none of the 3 vectors"):
        upgrade(dataset, "old", checkpoint)
    assert not dataset.has_field("isoclip_embedding")


def test_an_index_of_an_upgraded_field_embeds_nothing_again(dataset, fill, pictures, checkpoint):
    fill(draw_many(pictures, 4))
    embed(dataset, checkpoint, progress=False)
    dataset.rename_sample_field("clip_embedding", "old")
    dataset.reload()
    upgrade(dataset, "old", checkpoint)
    assert embed(dataset, checkpoint, "old", progress=False).kept == 4
