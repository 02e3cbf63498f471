"""Duplicates among files by a rate of false matches, in Python and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.files import embed_files, find_file_duplicates, list_files
from fiftyone_isoclip.projector import WHOLE, Band
from tests.folders import N_SCENES, fill_folder
from tests.terminal import isoclip, sentence

PAIRS = (N_SCENES + 1) * N_SCENES // 2
"""Of the ten scenes and one of them recompressed; the exact copy makes none."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(scope="module")
def clip():
    return load_clip(DEMO_NAME, device="cpu")


@pytest.fixture(scope="module")
def embedded(folder, clip):
    return embed_files(list_files(folder.path), clip)


def similarity_by_hand(folder, embedded, clip, rate, band=None):
    """The lowest similarity of four decimals that at most this share of the pairs reaches."""
    kept = [row for row, p in enumerate(embedded.embedded_paths) if p != folder.exact_copy]
    rows = clip.isoclip(band)(embedded.embeddings[kept]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)].astype(np.float32)
    assert len(cosines) == PAIRS
    steps = np.arange(-9_999, 10_001) / 10_000
    shares = (cosines[:, None] >= steps.astype(np.float32)).mean(axis=0)
    place = np.argmax(shares <= rate)
    return float(steps[place]), float(shares[place])


@pytest.mark.parametrize("band", [None, WHOLE, Band(9, 3)])
@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_the_groups_are_those_at_the_similarity_of_brute_force(folder, embedded, clip, rate, band):
    similarity, share = similarity_by_hand(folder, embedded, clip, rate, band)
    found = find_file_duplicates(
        embedded, clip, similarity="auto", false_matches=rate, band=band
    )  # fmt: skip
    fresh = find_file_duplicates(embedded, clip, similarity=similarity, band=band)
    assert (found.similarity, found.false_matches) == (similarity, share)
    assert found.groups == fresh.groups
    assert fresh.false_matches is None


def test_the_command_line_gives_the_same(folder, embedded, clip, tmp_path):
    words = ["duplicates", folder.path, "--similarity", "auto", "--false-matches", 0.02]
    shown = isoclip(*words, "--json", tmp_path / "found.json")
    assert shown.exit_code == 0
    found = json.loads((tmp_path / "found.json").read_text())
    similarity, share = similarity_by_hand(folder, embedded, clip, 0.02)
    assert (found["similarity"], found["false_matches"]) == (similarity, share)
    assert f"similarity {similarity:g}, which 1 in {PAIRS} pairs of different" in shown.stdout


class TestRefusals:
    def test_too_few_files_for_the_rate(self, folder, embedded, clip):
        with pytest.raises(VectorError, match=rf"1 in 10,000.*1 in {PAIRS}"):
            find_file_duplicates(embedded, clip, similarity="auto")
        told = sentence(isoclip("duplicates", folder.path, "--similarity", "auto"))
        assert "take more images, or give a similarity" in told

    def test_no_file_at_all(self, clip):
        with pytest.raises(VectorError, match="none of 0 images"):
            find_file_duplicates([], clip, similarity="auto")

    def test_both_a_similarity_and_a_rate(self, folder):
        words = ["duplicates", folder.path, "--similarity", 0.9, "--false-matches", 0.01]
        assert "one follows from the other" in sentence(isoclip(*words))

    @pytest.mark.parametrize("similarity", ["automatic", "2", "-1", "nan"])
    def test_no_similarity(self, similarity):
        result = isoclip("duplicates", ".", "--similarity", similarity)
        assert result.exit_code == 2
        assert "--similarity" in result.stderr
