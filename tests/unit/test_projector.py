"""What the projector refuses, and what it says of rank and spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.errors import BandError, IsoClipError, VectorError
from fiftyone_isoclip.projector import WHOLE, Band, Head, Spectrum

rng = np.random.default_rng(0)


def a_spectrum(values, dim=64):
    """Heads whose inter-modal operator has exactly these singular values."""
    left, _ = np.linalg.qr(rng.normal(size=(dim, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(dim, len(values))))
    shared, _ = np.linalg.qr(rng.normal(size=(dim, len(values))))
    root = np.sqrt(np.asarray(values, float))
    return Spectrum.between(Head(shared * root @ left.T), Head(shared * root @ right.T))


def test_the_spectrum_is_that_of_psi_and_its_rank_is_counted():
    values = np.linspace(3.0, 1.0, 20)
    spectrum = a_spectrum(values)
    assert spectrum.rank == 20
    np.testing.assert_allclose(spectrum.values, values)
    with pytest.raises(BandError, match="none of 20 directions"):
        spectrum.rewrite(Band(10, 10))


def test_the_bottom_is_where_the_spectrum_falls_from_its_flat_middle():
    flat = np.linspace(1.0, 0.8, 60)
    assert a_spectrum(flat).bottom_by_line() == 0
    fallen = np.concatenate([flat[:53], flat[53:] * np.linspace(0.9, 0.3, 7)])
    assert a_spectrum(fallen).bottom_by_line() == 7


def test_a_rank_of_one_has_no_bottom():
    assert a_spectrum([2.0]).bottom_by_line() == 0


def test_heads_of_different_spaces_are_refused():
    with pytest.raises(IsoClipError, match="same checkpoint"):
        Spectrum.between(Head.identity(4), Head.identity(5))


def test_heads_that_share_no_direction_are_refused():
    first, second = np.zeros((4, 4)), np.zeros((4, 4))
    first[0, 0] = second[1, 1] = 1.0
    with pytest.raises(IsoClipError, match="share no direction"):
        Spectrum.between(Head(first), Head(second))


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        (np.zeros(3), None, "give a matrix"),
        (np.ones((3, 0)), None, "give a matrix"),
        (np.ones((3, 2)), np.ones(2), r"give \(3,\)"),
        (np.array([[1.0, np.nan]]), None, "NaN or infinity"),
        (np.ones((1, 2)), np.array([np.inf]), "NaN or infinity"),
    ],
)
def test_a_damaged_head_is_refused(weight, bias, said):
    with pytest.raises(IsoClipError, match=said):
        Head(weight, bias)


def test_a_zero_head_has_no_decomposition():
    with pytest.raises(IsoClipError, match="zero everywhere"):
        _ = Head(np.zeros((3, 3))).decomposition


def test_a_spectrum_has_no_centre():
    with pytest.raises(BandError, match=r"without a centre .* use 1/0"):
        a_spectrum([3.0, 2.0, 1.0]).rewrite(Band(1, 0, centred=True))


def test_a_centred_map_is_of_a_centred_band_and_cannot_be_folded():
    plain, _ = a_spectrum([3.0, 2.0, 1.0]).rewrite(Band(1, 0))
    centred = plain.centred_on(np.full(64, 0.1))
    assert (str(plain.band), str(centred.band)) == ("1/0", "1/0-centred")
    with pytest.raises(BandError, match="a head is linear; fold 1/0"):
        centred.folded_into(Head.identity(64))


@pytest.mark.parametrize("centre", [np.zeros(63), np.full(64, np.nan), 0.5])
def test_a_centre_is_a_point_of_the_embeddings(centre):
    with pytest.raises(VectorError, match="give 64 finite numbers"):
        a_spectrum([3.0, 2.0]).rewrite(WHOLE)[0].centred_on(centre)


def test_a_row_at_the_centre_is_named():
    rows = rng.normal(size=(5, 64)).astype(np.float32)
    centre = rows[2].astype(np.float64) / np.linalg.norm(rows[2].astype(np.float64))
    mapping, _ = a_spectrum(np.ones(64)).rewrite(WHOLE)
    with pytest.raises(VectorError, match=r"1 of 5 rows lie at the centre .* row 2"):
        mapping.centred_on(centre)(rows * 7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_rows_without_a_direction_are_named(bad):
    image_map, _ = a_spectrum([3.0, 2.0, 1.0]).rewrite(WHOLE)
    rows = rng.normal(size=(5, 64))
    rows[3] = bad
    with pytest.raises(VectorError, match=r"1 of 5 rows .* row 3"):
        image_map(rows)


def test_embeddings_of_another_dim_are_refused():
    image_map, _ = a_spectrum([3.0, 2.0, 1.0]).rewrite(WHOLE)
    with pytest.raises(VectorError, match=r"shape \(2, 63\).*give \(n, 64\)"):
        image_map(np.ones((2, 63)))
    with pytest.raises(VectorError, match="cannot be folded"):
        image_map.folded_into(Head.identity(5))


def test_no_rows_map_to_no_rows():
    image_map, _ = a_spectrum([3.0, 2.0, 1.0]).rewrite(WHOLE)
    assert image_map(np.empty((0, 64))).shape == (0, 3)


def test_many_rows_are_mapped_block_by_block_as_one_by_one():
    image_map, _ = a_spectrum([3.0, 2.0, 1.0], dim=4).rewrite(Band(1, 0))
    rows = rng.normal(size=(70_000, 4)).astype(np.float16)
    rows[~np.any(rows, axis=1)] = 1
    some = [0, 65_535, 65_536, 69_999]
    np.testing.assert_allclose(
        image_map(rows)[some], np.vstack([image_map(rows[[i]]) for i in some]), atol=1e-6
    )
