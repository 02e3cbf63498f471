"""Maps of the Embeddings panel, against a decomposition by numpy and planted neighbours."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.dataset import embed, map_embeddings, maps
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw_many

FIELD = "clip_embedding"


@pytest.fixture
def mapped(dataset, fill, pictures, checkpoint):
    """Twelve pictures with embeddings, and one that cannot be read; -> all ids."""
    ids = fill([*draw_many(pictures, 12), str(pictures / "missing.png")])
    embed(dataset, checkpoint, progress=False)
    return ids


def points_of(dataset, key):
    results = dataset.load_brain_results(key)
    return dict(zip(results.sample_ids.tolist(), results.points, strict=True))


@pytest.mark.parametrize("band", [None, "0/0", "2/3"])
def test_pca_is_that_of_numpy_on_the_isoclip_vectors(dataset, mapped, checkpoint, band):
    report = map_embeddings(dataset, band=band)
    ids = mapped[:12]
    clip = load_clip(checkpoint)
    from fiftyone_isoclip.projector import Band

    chosen = None if band is None else Band.parse(band)
    rows = clip.isoclip(chosen)(np.stack(dataset.select(ids).values(FIELD))).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * values[:2]
    found = points_of(dataset, "isoclip_map")
    points = np.stack([found[id_] for id_ in ids])
    signs = np.sign((points * expected).sum(axis=0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-4)
    assert (report.n_mapped, list(report.skipped)) == (12, mapped[12:])
    assert report.band == str(chosen or clip.image_band)
    config = dataset.get_brain_info("isoclip_map").config
    assert (config.type, config.method) == ("visualization", "pca")
    assert maps.list_maps(dataset) == ["isoclip_map"]


def test_tsne_keeps_neighbours_together_and_is_the_same_again(dataset, fill, pictures, checkpoint):
    fill(draw_many(pictures, 20))
    embed(dataset, checkpoint, progress=False)
    random = np.random.default_rng(0)
    axes = np.repeat(np.eye(24)[:2], 10, axis=0) + 0.05 * random.standard_normal((20, 24))
    dataset.set_values(FIELD, list(axes.astype(np.float32)))
    for key in ("one", "two"):
        map_embeddings(dataset, method="tsne", band="0/0", brain_key=key)
    points = dataset.load_brain_results("one").points
    table = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(20)
    assert (table.argmin(axis=1) // 10 == np.arange(20) // 10).all()
    np.testing.assert_array_equal(points, dataset.load_brain_results("two").points)


def test_a_view_maps_its_own_and_only_what_can_be_compared(dataset, mapped):
    Image.new("RGB", (50, 40), "red").save(dataset[mapped[2]].filepath)
    report = map_embeddings(dataset.select(mapped[:6]))
    assert report.n_mapped == 5
    assert points_of(dataset, "isoclip_map").keys() == {*mapped[:2], *mapped[3:6]}
    assert "changed" in report.skipped[mapped[2]]
    shown = dataset.load_brain_view("isoclip_map")
    assert set(shown.values("id")) == {*mapped[:2], *mapped[3:6]}
    dataset.delete_brain_run("isoclip_map")
    assert not dataset.list_brain_runs()


def test_what_does_not_fit_leaves_no_run(dataset, mapped, monkeypatch):
    monkeypatch.setattr(maps, "MOST_BY_TSNE", 11)
    monkeypatch.setattr(maps, "find_spec", lambda name: None)
    wrong = [
        (dataset, {"method": "tsne"}, "12 samples and takes at most 11"),
        (dataset, {"method": "umap"}, "pip install umap-learn"),
        (dataset, {"method": "magic"}, "pca, tsne, umap"),
        (dataset, {"brain_key": "My Map"}, "lower-case"),
        (dataset[:2], {}, "3 samples with embeddings, found 2"),
    ]
    for samples, asked, sentence in wrong:
        with pytest.raises(DatasetError, match=sentence):
            map_embeddings(samples, **asked)
    assert not dataset.list_brain_runs()
    map_embeddings(dataset)
    with pytest.raises(DatasetError, match="already; choose another key"):
        map_embeddings(dataset)
    assert isinstance(dataset, fo.Dataset) and maps.list_maps(dataset) == ["isoclip_map"]


def test_a_map_that_fails_midway_is_taken_away(dataset, mapped, monkeypatch):
    import fiftyone.brain.visualization as fbv

    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(fbv.PCAVisualization, "fit_reducer", fail)
    with pytest.raises(MemoryError):
        map_embeddings(dataset)
    assert not dataset.list_brain_runs()
