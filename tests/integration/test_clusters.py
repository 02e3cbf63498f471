from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.dataset import delete_run, embed, find_clusters, find_duplicates, load_run
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.projector import WHOLE
from tests.pictures import draw_many, recompress

FIELD = "clip_embedding"


@pytest.fixture
def families(dataset, fill, pictures, checkpoint):
    """4 pictures in 8, 6, 4 and 2 versions that differ a little; -> the family of each id."""
    families = {}
    for family, (path, size) in enumerate(zip(draw_many(pictures, 4), (8, 6, 4, 2), strict=True)):
        versions = [recompress(path, pictures / f"{family}-{q}.jpg", 60 + q) for q in range(size)]
        families |= dict.fromkeys(fill(versions), family)
    embed(dataset, checkpoint, progress=False)
    return families


def isoclip(dataset, checkpoint, band=None):
    """The IsoCLIP rows of all samples, by id."""
    rows = load_clip(checkpoint).isoclip(band)(np.stack(dataset.values(FIELD)))
    return dict(zip(dataset.values("id"), rows.astype(np.float64), strict=True))


@pytest.mark.parametrize("band", [None, WHOLE])
def test_planted_families_are_found_largest_first(dataset, families, checkpoint, band):
    report = find_clusters(dataset, count=4, band=band)
    assert [(c.name, c.size) for c in report.clusters] == [("0", 8), ("1", 6), ("2", 4), ("3", 2)]
    names = dict(zip(*dataset.values(["id", "clusters"]), strict=True))
    assert {(family, int(names[id_])) for id_, family in families.items()} == {
        (n, n) for n in range(4)
    }
    assert (report.n_noise, report.skipped) == (0, {})
    assert report.silhouette > 0.8


def test_medoids_and_similarities_are_those_of_brute_force(dataset, families, checkpoint):
    report = find_clusters(dataset, count=4)
    rows = isoclip(dataset, checkpoint)
    for cluster in report.clusters:
        members = dataset.match({"clusters": cluster.name}).values("id")
        table = np.stack([rows[id_] for id_ in members])
        closeness = (table @ table.T).mean(axis=1)
        assert closeness[members.index(cluster.medoid)] == pytest.approx(closeness.max(), abs=1e-6)
        assert cluster.cohesion == pytest.approx(
            (table @ (table.mean(0) / np.linalg.norm(table.mean(0)))).mean(), abs=1e-5
        )
        for id_ in members:
            sample = dataset[id_]
            assert sample["clusters_similarity"] == pytest.approx(
                rows[id_] @ rows[cluster.medoid], abs=1e-5
            )
            assert sample["clusters_medoid"] == (id_ == cluster.medoid)
    assert report.medoids_view.values("id") == [cluster.medoid for cluster in report.clusters]
    for group in dataset.load_saved_view("clusters").iter_dynamic_groups():
        similarities = group.values("clusters_similarity")
        assert similarities == sorted(similarities, reverse=True)


def test_the_data_can_choose_the_count(dataset, families):
    assert len(find_clusters(dataset).clusters) == 4


def test_leiden_leaves_lonely_samples_as_noise(dataset, families):
    random = np.random.default_rng(0)
    axes = np.eye(24)[[0] * 9 + [1] * 8] + 0.01 * random.standard_normal((17, 24))
    vectors = np.concatenate([axes, np.eye(24)[[10, 11, 12]]]).astype(np.float32)
    dataset.set_values(FIELD, list(vectors))
    report = find_clusters(dataset, method="leiden", band=WHOLE)
    assert dataset.values("clusters") == ["0"] * 9 + ["1"] * 8 + ["noise"] * 3
    assert report.n_noise == 3
    noise = dataset.match({"clusters": "noise"})
    assert set(noise.values("clusters_similarity")) == {None}
    assert set(noise.values("clusters_medoid")) == {False}


def test_again_replaces_and_deleting_undoes(dataset, families):
    schema = dataset.get_field_schema().keys()
    find_clusters(dataset[:5], count=5)
    find_clusters(dataset[5:], count=2, key="clusters")
    assert dataset[:5].values("clusters") == [None] * 5
    run = load_run(dataset, "clusters")
    assert (run.method, run.parameters["count"], run.counts["compared"]) == ("clusters", 2, 15)
    with pytest.raises(DatasetError, match="run of clusters"):
        find_duplicates(dataset, key="clusters")
    delete_run(dataset, "clusters")
    assert dataset.get_field_schema().keys() == schema
    assert not dataset.has_saved_view("clusters")


def test_names_sort_as_numbers_do(dataset, families):
    report = find_clusters(dataset, count=12)
    assert [cluster.name for cluster in report.clusters][:3] == ["00", "01", "02"]


def test_f09_nothing_one_two_and_all_the_same(dataset, fill, pictures, checkpoint):
    embed(dataset, checkpoint, progress=False)
    paths = draw_many(pictures, 1)
    for n in range(3):
        for method in ("kmeans", "leiden"):
            report = find_clusters(dataset, method=method)
            assert sum(cluster.size for cluster in report.clusters) + report.n_noise == n
            assert str(report)
        fill(paths)
        embed(dataset, checkpoint, progress=False)
    report = find_clusters(dataset)
    assert [cluster.size for cluster in report.clusters] == [3]


def test_f08_what_cannot_be_compared_has_no_cluster(dataset, fill, families, pictures, checkpoint):
    (bad,) = fill([str(pictures / "missing.png")])
    embed(dataset, checkpoint, progress=False)
    report = find_clusters(dataset, count=4)
    assert report.skipped.keys() == {bad}
    assert dataset[bad]["clusters"] is None


def test_what_has_changed_since_it_was_embedded_has_no_cluster(dataset, families):
    changed = dataset.first()
    Image.new("RGB", (50, 40), "red").save(changed.filepath)
    report = find_clusters(dataset, count=4)
    assert report.skipped.keys() == {changed.id}
    assert "changed" in report.skipped[changed.id]
    assert dataset[changed.id]["clusters"] is None


def test_what_does_not_fit(dataset, families):
    for count in (0, 21):
        with pytest.raises(VectorError):
            find_clusters(dataset, count=count)
    with pytest.raises(VectorError):
        find_clusters(dataset, method="magic")
    for key in ("filepath", "tags", FIELD):
        with pytest.raises(DatasetError, match="would be overwritten"):
            find_clusters(dataset, key=key)
    assert not dataset.list_runs()
