"""Clusters of files, against scikit-learn's own measure of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.files import cluster_files, embed_files, list_files
from fiftyone_isoclip.index import cluster
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    name = write_checkpoint(tmp_path_factory.mktemp("weights"))
    return load_clip(name, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, clip):
    folder = fill_folder(tmp_path_factory.mktemp("files") / "pictures")
    return embed_files(list_files(folder.path), clip)


def test_every_file_is_in_one_cluster_and_medoids_are_members(embedded, clip):
    found = cluster_files(embedded, clip, count=3)
    assert len(found.clusters) == 3
    together = [path for part in found.clusters for path in part.members]
    assert sorted(together) == embedded.embedded_paths
    assert all(part.medoid in part.members for part in found.clusters)
    sizes = [len(part.members) for part in found.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert json.loads(json.dumps(found.to_json()))["images"] == len(embedded.paths)


def test_files_are_divided_as_their_isoclip_embeddings_are(embedded, clip):
    found = cluster_files(embedded, clip, count=4)
    label_of = {path: place for place, part in enumerate(found.clusters) for path in part.members}
    rows = embedded.embeddings.astype(np.float64) @ clip.isoclip().matrix.T
    wanted = cluster(rows, count=4).labels
    ours = [label_of[path] for path in embedded.embedded_paths]
    assert adjusted_rand_score(wanted, ours) == 1


def test_leiden_leaves_lonely_files_out(embedded, clip):
    found = cluster_files(embedded, clip, method="leiden")
    together = [path for part in found.clusters for path in part.members]
    assert sorted([*together, *found.noise]) == embedded.embedded_paths


def test_f09_no_files_and_too_many_clusters(embedded, clip):
    assert cluster_files([], clip).clusters == ()
    assert cluster_files([], clip, count=1).clusters == ()
    with pytest.raises(VectorError, match="Asked for 99 clusters"):
        cluster_files(embedded, clip, count=99)
