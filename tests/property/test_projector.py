"""What must hold for every pair of heads and every band."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.projector import WHOLE, Head, Spectrum
from tests.strategies import heads_and_bands, pairs_of_heads


def cosines(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def gram(mapping, embeddings):
    """Inner products after a map, in float64, which no cancellation can turn into noise."""
    mapped = embeddings @ mapping.matrix.T
    return mapped @ mapped.T


@given(heads_and_bands())
def test_the_rewrite_has_as_many_directions_as_the_band_keeps(case):
    _, _, spectrum, band, _, _ = case
    for mapping in spectrum.rewrite(band):
        assert mapping.dim == band.count(spectrum.rank)
        assert np.linalg.matrix_rank(mapping.oblique, tol=1e-6) == mapping.dim


@given(heads_and_bands())
def test_the_map_is_a_projector(case):
    _, _, spectrum, band, _, _ = case
    for mapping in spectrum.rewrite(band):
        scale = max(1.0, np.abs(mapping.oblique).max()) ** 2
        np.testing.assert_allclose(
            mapping.oblique @ mapping.oblique, mapping.oblique, atol=1e-9 * scale
        )


@given(heads_and_bands())
def test_compression_keeps_every_inner_product(case):
    _, _, spectrum, band, embeddings, _ = case
    mapping, _ = spectrum.rewrite(band)
    full = embeddings @ mapping.oblique.T
    np.testing.assert_allclose(
        gram(mapping, embeddings), full @ full.T, atol=1e-8 * (1 + np.abs(full).max() ** 2)
    )


@given(pairs_of_heads(least_rank=4))
@settings(max_examples=60)
def test_the_whole_band_of_a_full_rank_operator_is_plain_clip(case):
    _, _, rng = case
    dim = 5
    image, text = Head(rng.normal(size=(dim, 9))), Head(rng.normal(size=(dim, 7)))
    mapping, _ = Spectrum.between(image, text).rewrite(WHOLE)
    embeddings = rng.normal(size=(6, dim))
    np.testing.assert_allclose(cosines(mapping(embeddings)), cosines(embeddings), atol=2e-6)
    # Nor is it another set of coordinates: what is mapped and what is not can be compared.
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(mapping(embeddings), units, atol=2e-6 * mapping.condition)


@given(heads_and_bands())
def test_swapping_the_modalities_swaps_the_results(case):
    image, text, spectrum, band, embeddings, _ = case
    image_map, text_map = spectrum.rewrite(band)
    swapped_text, swapped_image = Spectrum.between(text, image).rewrite(band)
    for ours, swapped in ((image_map, swapped_image), (text_map, swapped_text)):
        np.testing.assert_allclose(
            gram(ours, embeddings),
            gram(swapped, embeddings),
            atol=1e-7 * (1 + np.abs(gram(ours, embeddings)).max()),
        )


@given(heads_and_bands(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_scaling_a_head_changes_no_cosine(case, by_image, by_text):
    image, text, spectrum, band, embeddings, _ = case
    scaled = Spectrum.between(
        Head(image.weight * by_image, None if image.bias is None else image.bias * by_image),
        Head(text.weight * by_text, None if text.bias is None else text.bias * by_text),
    )
    ours, theirs = spectrum.rewrite(band)[0], scaled.rewrite(band)[0]
    np.testing.assert_allclose(
        gram(theirs, embeddings),
        gram(ours, embeddings),
        atol=1e-7 * (1 + np.abs(gram(ours, embeddings)).max()),
    )


@given(heads_and_bands())
def test_rotating_the_shared_space_changes_nothing(case):
    image, text, spectrum, band, embeddings, rng = case
    rotation, _ = np.linalg.qr(rng.normal(size=(image.dim, image.dim)))
    rotated = Spectrum.between(
        Head(rotation @ image.weight, None if image.bias is None else rotation @ image.bias),
        Head(rotation @ text.weight, None if text.bias is None else rotation @ text.bias),
    )
    ours, theirs = spectrum.rewrite(band)[0], rotated.rewrite(band)[0]
    np.testing.assert_allclose(
        gram(theirs, embeddings @ rotation.T),
        gram(ours, embeddings),
        atol=1e-7 * (1 + np.abs(gram(ours, embeddings)).max()),
    )


def centred(mapping, embeddings, rng):
    """A map centred on a point as far from the embeddings as they are from each other."""
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    centre = units.mean(axis=0) + 0.3 * rng.normal(size=mapping.plain_dim)
    return mapping.centred_on(centre), (units - centre) @ mapping.oblique.T


@given(heads_and_bands())
def test_a_centred_map_compares_the_directions_from_the_centre(case):
    _, _, spectrum, band, embeddings, rng = case
    mapping, full = centred(spectrum.rewrite(band)[0], embeddings, rng)
    found = mapping(embeddings).astype(np.float64) * np.linalg.norm(full, axis=1, keepdims=True)
    scale = np.abs(mapping.matrix).max() * (1 + np.linalg.norm(mapping.centre))
    np.testing.assert_allclose(found @ found.T, full @ full.T, atol=1e-5 * scale**2)


@given(heads_and_bands(), st.floats(1e-30, 1e30))
def test_the_length_of_an_embedding_changes_nothing_centred(case, by):
    _, _, spectrum, band, embeddings, rng = case
    mapping, _ = centred(spectrum.rewrite(band)[0], embeddings, rng)
    np.testing.assert_allclose(mapping(embeddings * by), mapping(embeddings), atol=1e-4)


@given(heads_and_bands())
def test_the_origin_as_a_centre_is_no_centring(case):
    _, _, spectrum, band, embeddings, _ = case
    mapping, _ = spectrum.rewrite(band)
    at_origin = mapping.centred_on(np.zeros(mapping.plain_dim))
    np.testing.assert_allclose(at_origin(embeddings), mapping(embeddings), atol=1e-4)


@given(heads_and_bands(), st.floats(1e-30, 1e30))
def test_the_length_of_an_embedding_changes_no_cosine(case, by):
    image, _, spectrum, band, embeddings, _ = case
    del image
    mapping, _ = spectrum.rewrite(band)
    np.testing.assert_allclose(mapping(embeddings * by), mapping(embeddings), atol=1e-5)


@given(heads_and_bands())
def test_folding_equals_two_steps(case):
    image, _, spectrum, band, _, rng = case
    mapping, _ = spectrum.rewrite(band)
    features = rng.normal(size=(4, image.weight.shape[1]))

    def through(head):
        return features @ head.weight.T + (0 if head.bias is None else head.bias)

    plain = through(image)
    for compressed, matrix in ((True, mapping.matrix), (False, mapping.oblique)):
        np.testing.assert_allclose(
            through(mapping.folded_into(image, compressed=compressed)),
            plain @ matrix.T,
            atol=1e-9 * (1 + np.abs(matrix).max() * np.abs(plain).max()),
        )
