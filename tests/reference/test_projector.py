"""The projector against an independent reading of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.projector import WHOLE, Band, Head, Spectrum
from tests.reference import paper

IMAGE_FEATURES, TEXT_FEATURES = 40, 28


def a_pair(rng, dim, image_bias, text_bias):
    image = rng.normal(size=(dim, IMAGE_FEATURES))
    text = rng.normal(size=(dim, TEXT_FEATURES))
    return (
        (image, rng.normal(size=dim) if image_bias else None),
        (text, rng.normal(size=dim) if text_bias else None),
    )


@pytest.mark.parametrize("dim", [20, 28, 34, 60])
@pytest.mark.parametrize("image_bias", [False, True])
@pytest.mark.parametrize("text_bias", [False, True])
@pytest.mark.parametrize("band", [WHOLE, Band(3, 0), Band(0, 4), Band(5, 6)])
def test_maps_give_the_cosines_of_the_rewritten_projectors(dim, image_bias, text_bias, band):
    rng = np.random.default_rng([dim, image_bias, text_bias, band.drop_top])
    (wi, bi), (wt, bt) = a_pair(rng, dim, image_bias, text_bias)
    a_i, a_t = paper.append_bias(wi, bi), paper.append_bias(wt, bt)
    theta_i, theta_t, values = paper.rewritten_projectors(a_i, a_t, band.drop_top, band.drop_bottom)
    z_i = paper.append_one(rng.normal(size=(9, IMAGE_FEATURES)), bi)
    z_t = paper.append_one(rng.normal(size=(7, TEXT_FEATURES)), bt)

    spectrum = Spectrum.between(Head(wi, bi), Head(wt, bt))
    image_map, text_map = spectrum.rewrite(band)

    np.testing.assert_allclose(spectrum.values, values, rtol=1e-9)
    for features, head, theta, mapped in (
        (z_i, a_i, theta_i, image_map),
        (z_t, a_t, theta_t, text_map),
    ):
        plain = features @ head.T
        rewritten = features @ theta.T
        np.testing.assert_allclose(plain @ mapped.oblique.T, rewritten, atol=1e-8)
        compressed = plain @ mapped.matrix.T
        np.testing.assert_allclose(compressed @ compressed.T, rewritten @ rewritten.T, atol=1e-7)
        np.testing.assert_allclose(
            mapped(plain) @ mapped(plain).T, paper.cosines(rewritten, rewritten), atol=2e-6
        )


def test_folding_gives_the_rewritten_projector():
    rng = np.random.default_rng(7)
    (wi, bi), (wt, bt) = a_pair(rng, 24, True, False)
    band = Band(2, 3)
    theta, _, _ = paper.rewritten_projectors(
        paper.append_bias(wi, bi), wt, band.drop_top, band.drop_bottom
    )
    image = Head(wi, bi)
    image_map, _ = Spectrum.between(image, Head(wt, bt)).rewrite(band)
    z = rng.normal(size=(5, IMAGE_FEATURES))
    folded = image_map.folded_into(image, compressed=False)
    expected = paper.append_one(z, bi) @ theta.T
    np.testing.assert_allclose(z @ folded.weight.T + folded.bias, expected, atol=1e-9)
    small = image_map.folded_into(image)
    assert small.weight.shape == (24 - 5, IMAGE_FEATURES)
    np.testing.assert_allclose((z @ small.weight.T + small.bias) @ image_map.basis.T, expected)


def test_a_text_query_ranks_a_compressed_index_as_both_text_projectors_rank_the_rewritten_one():
    rng = np.random.default_rng(11)
    (wi, bi), (wt, bt) = a_pair(rng, 22, True, True)
    band = Band(4, 5)
    a_i, a_t = paper.append_bias(wi, bi), paper.append_bias(wt, bt)
    theta_i, theta_t, _ = paper.rewritten_projectors(a_i, a_t, 4, 5)
    z_i = paper.append_one(rng.normal(size=(30, IMAGE_FEATURES)), bi)
    z_t = paper.append_one(rng.normal(size=(3, TEXT_FEATURES)), bt)
    image_map, _ = Spectrum.between(Head(wi, bi), Head(wt, bt)).rewrite(band)

    with_plain_text = (z_t @ a_t.T) @ (z_i @ theta_i.T).T
    with_rewritten_text = (z_t @ theta_t.T) @ (z_i @ theta_i.T).T
    np.testing.assert_allclose(with_plain_text, with_rewritten_text, atol=1e-9)
    lengths = np.linalg.norm(z_i @ theta_i.T, axis=1)
    ours = image_map.query(z_t @ a_t.T) @ image_map(z_i @ a_i.T).T
    np.testing.assert_array_equal(
        np.argsort(-ours, axis=1), np.argsort(-with_plain_text / lengths, axis=1)
    )


@pytest.mark.parametrize("band", [Band(20, 100), Band(10, 50), Band(150, 50)])
def test_a_pretrained_text_projection_is_mapped_within_float32(shared_data, band):
    """Condition 7,212: the conditioning real checkpoints have, random matrices do not."""
    rows = np.load(shared_data / "clip_text_projection" / "text_projection.npy").astype(float)
    rng = np.random.default_rng(3)
    text = Head(rows.T)
    assert 7_000 < text.condition < 7_500
    image_weight = rng.normal(size=(512, 768))
    theta_i, theta_t, _ = paper.rewritten_projectors(
        image_weight, text.weight, band.drop_top, band.drop_bottom
    )
    image_map, text_map = Spectrum.between(Head(image_weight), text).rewrite(band)
    for features, head, theta, mapped in (
        (rng.normal(size=(40, 768)), image_weight, theta_i, image_map),
        (rng.normal(size=(40, 512)), text.weight, theta_t, text_map),
    ):
        stored = (features @ head.T).astype(np.float32)
        expected = paper.cosines(features @ theta.T, features @ theta.T)
        np.testing.assert_allclose(mapped(stored) @ mapped(stored).T, expected, atol=5e-6)
        np.testing.assert_allclose(mapped.oblique @ mapped.oblique, mapped.oblique, atol=1e-8)
