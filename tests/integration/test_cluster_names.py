"""Names and outliers of clusters, against counts and sorted arrays made without the database."""

from __future__ import annotations

from collections import Counter

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.dataset import (
    embed,
    find_clusters,
    load_clusters,
    name_cluster,
    name_clusters_by,
    outliers_view,
)
from fiftyone_isoclip.dataset.cluster_names import label_fields
from fiftyone_isoclip.dataset.clusterings import NOISE, members_view
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import WHOLE
from tests.pictures import draw_many

FIELD = "clip_embedding"
SIZES = (9, 8, 7, 6)
# By family: a clear majority, the same one again, two equally frequent, and few labels at all.
LABELS = (
    ["cat"] * 6 + ["dog"] * 3,
    ["cat"] * 5 + ["dog"] * 2 + [None],
    ["dog"] * 3 + ["cat"] * 3 + [None],
    ["bird"] * 2 + [None] * 4,
)


@pytest.fixture
def clusters(dataset, fill, pictures, checkpoint):
    """Four tight families and three lonely samples, found by Leiden; named by size."""
    n = sum(SIZES) + 3
    fill(draw_many(pictures, n))
    embed(dataset, checkpoint, progress=False)
    random = np.random.default_rng(0)
    axes = np.repeat(np.eye(24)[:4], SIZES, axis=0)
    axes = axes + 0.03 * random.standard_normal(axes.shape)
    dataset.set_values(FIELD, list(np.concatenate([axes, np.eye(24)[10:13]]).astype(np.float32)))
    labels = [label for family in LABELS for label in family] + ["cat"] * 3
    dataset.add_sample_field("shown", fo.StringField)
    dataset.set_values("shown", labels)
    found = [None if label is None else fo.Classification(label=label) for label in labels]
    dataset.set_values("truth", found)
    return find_clusters(dataset, method="leiden", band=WHOLE)


def members(dataset):
    """The ids of each cluster, by its name."""
    held = {}
    for id_, name in zip(*dataset.values(["id", "clusters"]), strict=True):
        held.setdefault(name, []).append(id_)
    return held


def told(dataset):
    return [cluster.name for cluster in load_clusters(dataset).clusters]


def test_what_is_loaded_is_what_was_found(dataset, clusters):
    assert [cluster.size for cluster in clusters.clusters] == list(SIZES)
    loaded = load_clusters(dataset)
    assert loaded.clusters == clusters.clusters
    assert (loaded.n_clusters, loaded.n_noise, loaded.n_skipped) == (4, 3, 0)
    assert loaded.silhouette == clusters.silhouette
    assert str(loaded) == str(clusters)


def test_a_name_by_hand_is_in_the_field_and_in_the_run(dataset, clusters):
    before = members(dataset)
    name_cluster(dataset, "clusters", "1", " red things ")
    before["red things"] = before.pop("1")
    assert members(dataset) == before
    assert told(dataset) == ["0", "red things", "2", "3"]
    shown = {group.first()["clusters"] for group in clusters.view.iter_dynamic_groups()}
    assert shown == set(before)


def test_names_stay_unique_and_noise_stays_noise(dataset, clusters):
    before = members(dataset)
    for cluster, name, sentence in [
        ("0", "1", "already"),
        ("0", NOISE, "already"),
        ("0", "  ", "no name"),
        ("0", "a\x1fb", "no name"),
        ("9", "nine", "has no cluster '9'"),
        (NOISE, "rest", "has no cluster 'noise'"),
    ]:
        with pytest.raises(DatasetError, match=sentence):
            name_cluster(dataset, "clusters", cluster, name)
    name_cluster(dataset, "clusters", "0", "0")
    assert members(dataset) == before
    with pytest.raises(DatasetError, match="no clusters run 'other'"):
        name_cluster(dataset, "other", "0", "cats")


@pytest.mark.parametrize("field", ["shown", "truth"])
def test_the_majority_is_that_of_counting_by_hand(dataset, clusters, field):
    before = members(dataset)
    label_of = dict(zip(*dataset.values(["id", "shown"]), strict=True))
    report = name_clusters_by(dataset, "clusters", field)
    assert [cluster.name for cluster in report.clusters] == ["cat", "cat 2", "2", "bird"]
    assert told(dataset) == ["cat", "cat 2", "2", "bird"]
    for naming in report.clusters:
        counts = Counter(label_of[id_] for id_ in before[naming.was] if label_of[id_])
        (first, most), *rest = counts.most_common()
        assert naming.purity == pytest.approx(most / counts.total())
        assert (naming.size, naming.labelled) == (len(before[naming.was]), counts.total())
        assert naming.majority == (None if rest and rest[0][1] == most else first)
        assert sorted(members(dataset)[naming.name]) == sorted(before[naming.was])
    assert report.purity == pytest.approx((6 + 5 + 3 + 2) / (9 + 7 + 6 + 2))
    assert report.n_named == 3
    assert members(dataset)[NOISE] == before[NOISE]


def test_naming_again_changes_nothing(dataset, clusters):
    first = name_clusters_by(dataset, "clusters", "truth")
    before = members(dataset)
    again = name_clusters_by(dataset, "clusters", "truth")
    assert [c.name for c in again.clusters] == [c.name for c in first.clusters]
    assert members(dataset) == before


def test_clusters_can_swap_their_names(dataset, clusters):
    name_cluster(dataset, "clusters", "0", "bird")
    name_cluster(dataset, "clusters", "3", "cat")
    before = members(dataset)
    name_clusters_by(dataset, "clusters", "truth")
    after = members(dataset)
    assert after["cat"] == before["bird"]
    assert after["bird"] == before["cat"]


def test_a_name_given_by_hand_is_not_given_twice(dataset, clusters):
    name_cluster(dataset, "clusters", "2", "cat")
    name_clusters_by(dataset, "clusters", "truth")
    assert told(dataset) == ["cat 2", "cat 3", "cat", "bird"]


def test_a_higher_share_names_fewer(dataset, clusters):
    shares = {"0": 6 / 9, "1": 5 / 7, "3": 1.0}
    report = name_clusters_by(dataset, "clusters", "truth", least_share=0.7)
    named = {cluster.was for cluster in report.clusters if cluster.majority}
    assert named == {cluster for cluster, share in shares.items() if share >= 0.7}
    for share in (0, 1.1, float("nan")):
        with pytest.raises(DatasetError, match="share in"):
            name_clusters_by(dataset, "clusters", "truth", least_share=share)


def test_labels_are_sought_where_labels_are(dataset, clusters):
    dataset.add_sample_field("number", fo.IntField)
    dataset.add_sample_field("boxes", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    assert label_fields(dataset) == ["shown", "truth"]
    for field in ("number", "boxes", "boxes.detections.label", "nothing"):
        with pytest.raises(DatasetError, match="shown, truth"):
            name_clusters_by(dataset, "clusters", field)


@pytest.mark.parametrize("cluster", [None, "0", "2"])
def test_outliers_are_the_end_of_the_sorted_similarities(dataset, clusters, cluster):
    vectors = np.stack(dataset.values(FIELD)).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {id_: row for row, id_ in enumerate(dataset.values("id"))}
    scores = {}
    for one in clusters.clusters:
        if cluster in (None, one.name):
            for id_ in members(dataset)[one.name]:
                scores[id_] = vectors[rows[id_]] @ vectors[rows[one.medoid]]
    expected = sorted(scores, key=scores.__getitem__)[:5]
    assert outliers_view(dataset, "clusters", cluster, limit=5).values("id") == expected
    assert len(outliers_view(dataset, "clusters", cluster)) == len(scores)


def test_members_come_medoid_first_and_noise_can_be_shown(dataset, clusters):
    for one in clusters.clusters:
        shown = members_view(dataset, "clusters", one.name).values("id")
        assert shown[0] == one.medoid
        assert sorted(shown) == sorted(members(dataset)[one.name])
    noise = members_view(dataset, "clusters", NOISE).values("id")
    assert sorted(noise) == sorted(members(dataset)[NOISE])
    assert len(outliers_view(dataset, "clusters", NOISE)) == 0
