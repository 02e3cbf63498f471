"""Groups of duplicate files, against cosines computed in another way."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import BandError, IsoClipError
from fiftyone_isoclip.files import embed_files, find_file_duplicates, list_files
from fiftyone_isoclip.projector import Band
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    name = write_checkpoint(tmp_path_factory.mktemp("weights"))
    return load_clip(name, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(scope="module")
def embedded(folder, clip):
    return embed_files(list_files(folder.path), clip)


def cosines_by_path(embedded, matrix):
    """Every pair's cosine after a map (k, r), in float64."""
    rows = embedded.embeddings.astype(np.float64) @ matrix.T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    table, paths = rows @ rows.T, embedded.embedded_paths
    return {(paths[i], paths[j]): table[i, j] for i, j in np.ndindex(table.shape)}


def median_threshold(cosines):
    """A similarity that about half of the pairs reach, between two of the values."""
    values = np.unique(np.round(list(cosines.values()), 6))
    gaps = np.diff(values)
    middle = slice(len(values) // 3, 2 * len(values) // 3)
    place = middle.start + int(np.argmax(gaps[middle]))
    return float(values[place : place + 2].mean())


@pytest.mark.parametrize("band", [None, Band(0, 0), Band(2, 3)])
def test_groups_are_stars_of_the_cosines_under_the_band(embedded, clip, band):
    matrix = np.eye(clip.dim) if band == Band(0, 0) else clip.isoclip(band).matrix
    cosines = cosines_by_path(embedded, matrix)
    similarity = median_threshold(cosines)
    found = find_file_duplicates(embedded, clip, similarity=similarity, band=band)
    assert found.groups
    gone = {member.path for group in found.groups for member in group.members}
    for group in found.groups:
        for member in group.members:
            assert member.similarity == pytest.approx(cosines[group.keeper, member.path], abs=1e-5)
            assert member.similarity >= similarity
        everyone = [group.keeper, *(member.path for member in group.members)]
        least = min(cosines[pair] for pair in itertools.combinations(everyone, 2))
        assert group.least_similarity == pytest.approx(least, abs=1e-5)
    survivors = [path for path in embedded.embedded_paths if path not in gone]
    assert all(cosines[pair] < similarity for pair in itertools.combinations(survivors, 2))
    assert gone.isdisjoint(group.keeper for group in found.groups)


@pytest.mark.parametrize("similarity", [1.0, 0.9999])
def test_exact_copies_are_found_by_their_bytes_at_any_similarity(folder, clip, similarity):
    paths = [folder.scenes[3], folder.exact_copy]
    [group] = find_file_duplicates(paths, clip, similarity=similarity).groups
    assert group.keeper == folder.scenes[3]
    assert group.reason.startswith("largest: 96x96, ")
    [member] = group.members
    assert (member.path, member.similarity, member.kind) == (folder.exact_copy, 1.0, "exact")
    assert group.least_similarity == 1.0


def test_only_the_keepers_own_bytes_are_exact(folder, clip, tmp_path):
    larger = tmp_path / "larger.png"
    with Image.open(folder.scenes[3]) as image:
        image.resize((300, 300)).save(larger)
    paths = [folder.scenes[3], folder.exact_copy, str(larger)]
    [group] = find_file_duplicates(paths, clip, similarity=0.5).groups
    assert group.keeper == str(larger)
    assert {member.path for member in group.members} == {folder.scenes[3], folder.exact_copy}
    assert {member.kind for member in group.members} == {"near"}
    assert len({member.similarity for member in group.members}) == 1


def test_f15_links_to_one_file_are_no_duplicates(folder, clip):
    found = find_file_duplicates([folder.scenes[1], folder.link, folder.scenes[1]], clip)
    assert (found.images, found.groups) == (1, ())
    assert found.aliases == (folder.link, folder.scenes[1])


def test_f04_equal_files_that_are_no_pictures_only_fail(folder, clip):
    found = find_file_duplicates(folder.damaged, clip)
    assert found.groups == ()
    assert sorted(found.failed) == folder.damaged


def test_the_order_of_the_files_changes_no_group(embedded, folder, clip):
    similarity = median_threshold(cosines_by_path(embedded, clip.isoclip().matrix))
    forward = find_file_duplicates(folder.readable, clip, similarity=similarity)
    backward = find_file_duplicates(folder.readable[::-1], clip, similarity=similarity)

    def as_sets(found):
        return {(g.keeper, frozenset(member.path for member in g.members)) for g in found.groups}

    assert as_sets(forward) == as_sets(backward)


def test_the_rule_chooses_the_keeper(folder, clip, tmp_path):
    old, new = tmp_path / "longer name.png", tmp_path / "new.png"
    for path in (old, new):
        shutil.copyfile(folder.scenes[0], path)
    os.utime(old, (1e9, 1e9))
    paths = [str(old), str(new)]
    by_age = find_file_duplicates(paths, clip, prefer="earliest").groups[0]
    assert by_age.keeper == str(old)
    assert by_age.reason.startswith("earliest: modified 2001-09-")
    assert find_file_duplicates(paths, clip, prefer="largest").groups[0].keeper == str(new)


def test_the_report_is_json_with_the_promised_keys(embedded, clip):
    report = json.loads(json.dumps(find_file_duplicates(embedded, clip, similarity=0.9).to_json()))
    assert {"images", "failed", "groups"} <= set(report)
    assert report["images"] == len(embedded.paths)
    assert all(set(failure) == {"path", "reason"} for failure in report["failed"])
    for group in report["groups"]:
        assert set(group) == {"keeper", "reason", "least_similarity", "members"}
        assert all(set(member) == {"path", "similarity", "kind"} for member in group["members"])


@pytest.mark.parametrize("count", [0, 1])
def test_f09_too_few_files_have_no_duplicates(folder, clip, count):
    found = find_file_duplicates(folder.readable[:count], clip)
    assert (found.images, found.groups) == (count, ())


def test_impossible_wishes_are_refused_before_the_work(clip):
    never = [str(Path("missing.jpg"))]
    with pytest.raises(IsoClipError, match="choose from largest, sharpest, earliest"):
        find_file_duplicates(never, clip, prefer="most_labels")
    with pytest.raises(BandError, match="keeps none"):
        find_file_duplicates(never, clip, band=Band(clip.dim, 0))
