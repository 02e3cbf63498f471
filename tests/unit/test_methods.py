"""Every method beside what it stands for: float64, scikit-learn, or the equations of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from fiftyone_isoclip.errors import BandError, IsoClipError, VectorError
from fiftyone_isoclip.evaluation.methods import CENTRED, PLAIN, RANDOM_BANDS, make_methods
from fiftyone_isoclip.projector import Band, Head, Spectrum
from tests.reference import paper
from tests.strategies import decaying_rows

DIM = 12
BAND = Band(3, 2)


@pytest.fixture(scope="module")
def case():
    """Heads of a full-rank operator, and embeddings with a strong mean as CLIP's have it."""
    rng = np.random.default_rng(5)
    image = Head(rng.normal(size=(DIM, 15)), rng.normal(size=DIM))
    text = Head(rng.normal(size=(DIM, 13)))
    return Spectrum.between(image, text), decaying_rows(rng, 7, DIM), decaying_rows(rng, 40, DIM)


def at_unit_length(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def named(methods):
    assert len({method.name for method in methods}) == len(methods)
    return {method.name: method for method in methods}


def scores(method):
    return method.queries.astype(np.float64) @ method.gallery.astype(np.float64).T


def test_the_methods_are_plain_clip_the_baselines_and_each_band_twice(case):
    found = make_methods(*case, [BAND, Band(0, 4)])
    kinds = [method.kind for method in found]
    assert kinds == ["plain"] + ["baseline"] * (3 + 2 * RANDOM_BANDS) + ["band"] * 4
    assert [m.name for m in found[-4:]] == [
        "IsoCLIP 3/2",
        "IsoCLIP 3/2, centred",
        "IsoCLIP 0/4",
        "IsoCLIP 0/4, centred",
    ]
    for method in found:
        for rows in (method.queries, method.gallery):
            assert rows.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert all(method.note for method in found if method.kind != "plain")


def test_plain_clip_is_the_cosine_of_the_embeddings(case):
    _, queries, gallery = case
    plain = named(make_methods(*case, [BAND]))[PLAIN]
    np.testing.assert_allclose(scores(plain), paper.cosines(queries, gallery), atol=1e-6)


def test_centring_takes_the_mean_of_the_gallery_at_unit_length_off_both_sides(case):
    _, queries, gallery = case
    mean = at_unit_length(gallery).mean(axis=0)
    expected = paper.cosines(at_unit_length(queries) - mean, at_unit_length(gallery) - mean)
    np.testing.assert_allclose(
        scores(named(make_methods(*case, [BAND]))[CENTRED]), expected, atol=1e-6
    )


def test_all_but_the_top_leaves_out_the_principal_component_of_scikit_learn(case):
    _, queries, gallery = case
    fitted = PCA(n_components=1, svd_solver="full").fit(at_unit_length(gallery))

    def rest(rows):
        return at_unit_length(rows) - fitted.inverse_transform(
            fitted.transform(at_unit_length(rows))
        )

    found = named(make_methods(*case, [BAND]))["all-but-the-top"]
    np.testing.assert_allclose(
        scores(found), paper.cosines(rest(queries), rest(gallery)), atol=1e-6
    )


def test_a_hundredth_of_the_directions_is_the_top():
    rng = np.random.default_rng(0)
    spectrum = Spectrum.between(Head(rng.normal(size=(320, 330))), Head(rng.normal(size=(320, 9))))
    gallery = decaying_rows(rng, 50, 320)
    found = named(make_methods(spectrum, gallery[:4], gallery, [Band(0, 1)]))["all-but-the-top"]
    assert np.linalg.matrix_rank(found.gallery.astype(np.float64), tol=1e-4) == 50 - 1 - 3


def test_of_a_tiny_gallery_no_more_than_half_of_its_directions_is_the_top():
    """What is left without all of them is the noise of rounding, and ranks at random."""
    rng = np.random.default_rng(0)
    spectrum = Spectrum.between(Head(rng.normal(size=(320, 330))), Head(rng.normal(size=(320, 9))))
    rows = decaying_rows(rng, 6, 320)
    for gallery, left in ((rows, 5 - 2), (rows[:3], 2 - 1), (rows[[0, 1, 2, 2, 1]], 2 - 1)):
        found = named(make_methods(spectrum, rows, gallery, [Band(0, 1)]))["all-but-the-top"]
        assert np.linalg.matrix_rank(found.gallery.astype(np.float64), tol=1e-4) == left
    for gallery in (rows[:2], rows[[0, 1, 1]]):
        methods = named(make_methods(spectrum, rows, gallery, [Band(0, 1)]))
        assert "all-but-the-top" not in methods and "whitening" in methods


def test_whitening_is_by_the_covariance_that_scikit_learn_shrinks(case):
    _, queries, gallery = case
    fitted = LedoitWolf().fit(at_unit_length(gallery))
    root = np.linalg.cholesky(fitted.get_precision())
    sides = [(at_unit_length(rows) - fitted.location_) @ root for rows in (queries, gallery)]
    found = named(make_methods(*case, [BAND]))["whitening"]
    np.testing.assert_allclose(scores(found), paper.cosines(*sides), atol=1e-5)


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("centred", [False, True])
def test_a_band_is_the_papers_projector_on_features(case, side, centred):
    spectrum, _, _ = case
    rng = np.random.default_rng(8)
    head = spectrum.image if side == "image" else spectrum.text
    queries, gallery = (rng.normal(size=(n, head.matrix.shape[1])) for n in (4, 20))
    plain = [features @ head.matrix.T for features in (queries, gallery)]
    image, text, _ = paper.rewritten_projectors(
        spectrum.image.matrix, spectrum.text.matrix, BAND.drop_top, BAND.drop_bottom
    )
    rewritten = image if side == "image" else text
    # Features at the length at which their embedding has length 1, from a feature of the mean.
    scaled = [
        features / np.linalg.norm(rows, axis=1, keepdims=True)
        for features, rows in zip((queries, gallery), plain, strict=True)
    ]
    away = scaled[1].mean(axis=0) if centred else 0.0
    expected = paper.cosines(*((features - away) @ rewritten.T for features in scaled))
    name = f"IsoCLIP {BAND}" + (", centred" if centred else "")
    found = named(make_methods(spectrum, *plain, [BAND], side=side))[name]
    np.testing.assert_allclose(scores(found), expected, atol=1e-5)


def test_the_whole_band_centred_is_mean_centred_clip(case):
    found = named(make_methods(*case, [Band(0, 0)]))
    np.testing.assert_allclose(
        scores(found["IsoCLIP 0/0, centred"]), scores(found[CENTRED]), atol=1e-5
    )


def test_a_random_band_keeps_that_many_directions_of_the_operator(case):
    spectrum, _, _ = case
    count = BAND.count(spectrum.rank)
    rng = np.random.default_rng(1)
    features = rng.normal(size=(30, spectrum.image.matrix.shape[1]))
    plain = features @ spectrum.image.matrix.T
    found = make_methods(spectrum, plain[:5], plain, [BAND], seed=3)
    draws = [method for method in found if method.name.startswith("random band")]
    assert len(draws) == RANDOM_BANDS
    grams = []
    for method in draws:
        assert np.linalg.matrix_rank(method.gallery.astype(np.float64), tol=1e-4) == count
        grams.append(scores(method))
    assert np.abs(grams[0] - grams[1]).max() > 0.01
    # Every direction at random is every direction: all that can be drawn are of the operator.
    whole = named(make_methods(spectrum, plain[:5], plain, [Band(0, 0)]))
    one = whole[f"random band of equal size ({spectrum.rank} directions, draw 1)"]
    np.testing.assert_allclose(scores(one), scores(whole["IsoCLIP 0/0"]), atol=1e-5)


def test_the_seed_alone_decides_on_random_bands(case):
    first, again, other = (make_methods(*case, [BAND], seed=seed) for seed in (1, 1, 2))
    for one, same, another in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.gallery, same.gallery)
        is_random = one.name.startswith("random band")
        assert np.array_equal(one.gallery, another.gallery) != is_random


def test_bands_of_one_size_share_their_random_bands(case):
    found = make_methods(*case, [Band(3, 2), Band(1, 4), Band(3, 2, centred=True)])
    assert sum(method.name.startswith("random band") for method in found) == RANDOM_BANDS
    assert sum(method.kind == "band" for method in found) == 4


def test_nothing_is_fitted_on_queries(case):
    spectrum, queries, gallery = case
    rng = np.random.default_rng(2)
    others = np.concatenate([queries[:1], 100 + rng.normal(size=(9, DIM))])
    for one, another in zip(
        make_methods(spectrum, queries, gallery, [BAND]),
        make_methods(spectrum, others, gallery, [BAND]),
        strict=True,
    ):
        np.testing.assert_array_equal(one.gallery, another.gallery, err_msg=one.name)
        np.testing.assert_allclose(one.queries[0], another.queries[0], atol=1e-6)


def test_what_is_given_to_fit_on_takes_the_place_of_the_gallery(case):
    spectrum, queries, gallery = case
    rng = np.random.default_rng(4)
    apart = decaying_rows(rng, 30, DIM)
    here = named(make_methods(spectrum, queries, gallery[:2], [BAND], fit_on=apart))
    there = named(make_methods(spectrum, queries, apart, [BAND]))
    for name, method in here.items():
        np.testing.assert_allclose(method.queries, there[name].queries, atol=1e-6, err_msg=name)
    assert "given to fit on" in here["whitening"].note


def test_the_length_of_embeddings_changes_nothing(case):
    spectrum, queries, gallery = case
    rng = np.random.default_rng(6)
    lengths = [np.exp(rng.normal(size=(len(rows), 1))) for rows in (queries, gallery)]
    scaled = make_methods(spectrum, queries * lengths[0], gallery * lengths[1], [BAND])
    for one, another in zip(make_methods(*case, [BAND]), scaled, strict=True):
        np.testing.assert_allclose(scores(one), scores(another), atol=2e-5, err_msg=one.name)


def test_rotating_the_shared_space_changes_nothing(case):
    spectrum, queries, gallery = case
    turn, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(DIM, DIM)))
    image, text = spectrum.image, spectrum.text
    assert image.bias is not None
    turned = Spectrum.between(
        Head(turn @ image.weight, turn @ image.bias), Head(turn @ text.weight)
    )
    for one, another in zip(
        make_methods(spectrum, queries, gallery, [BAND]),
        make_methods(turned, queries @ turn.T, gallery @ turn.T, [BAND]),
        strict=True,
    ):
        np.testing.assert_allclose(scores(one), scores(another), atol=2e-5, err_msg=one.name)


def test_fewer_embeddings_than_dimensions_are_whitened_too(case):
    spectrum, queries, gallery = case
    for few in (gallery[:3], np.stack([gallery[0], -gallery[0]])):
        for method in make_methods(spectrum, queries, few, [BAND]):
            assert np.isfinite(method.queries).all()


def test_what_cannot_be_fitted_or_compared_is_refused(case):
    spectrum, queries, gallery = case
    with pytest.raises(VectorError, match="the gallery, which has fewer than two different"):
        make_methods(spectrum, queries, np.repeat(gallery[:1], 5, axis=0), [BAND])
    with pytest.raises(VectorError, match="dim 5 were given with a spectrum of dim 12"):
        make_methods(spectrum, queries[:, :5], gallery, [BAND])
    with pytest.raises(BandError, match="keeps none"):
        make_methods(spectrum, queries, gallery, [Band(DIM, 0)])
    with pytest.raises(IsoClipError, match='"image" or "text"'):
        make_methods(spectrum, queries, gallery, [BAND], side="sound")
