"""Embeddings of files: each stands for its own file, alone and after being stored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.files import (
    Listing,
    embed_files,
    list_files,
    read_embeddings,
    write_embeddings,
)
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def clip(weights):
    return load_clip(write_checkpoint(weights), device="cpu", precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


@pytest.fixture(scope="module")
def embedded(folder, clip):
    return embed_files(list_files(folder.path), clip, batch_size=4)


def test_each_vector_is_that_of_its_own_file(embedded, folder, clip):
    assert embedded.embedded_paths == folder.readable
    alone = [
        clip.image_embeddings(torch.stack(clip.reader.read(path)))[0] for path in folder.readable
    ]
    np.testing.assert_allclose(embedded.embeddings, alone, atol=1e-5)


def test_f04_a_bad_file_fails_alone_with_its_reason(embedded, folder):
    assert sorted(embedded.failed) == folder.damaged
    assert all(embedded.failed.values())
    assert embedded.aliases == (folder.link,)


def test_a_folder_that_cannot_be_read_is_among_the_failures(clip):
    embedded = embed_files(Listing((), (), {"closed": "permission denied"}), clip)
    assert embedded.failed == {"closed": "permission denied"}


def test_what_is_embedded_is_not_embedded_again(embedded, clip):
    assert embed_files(embedded, clip) is embedded


def test_f09_no_files_have_no_embeddings(clip):
    assert embed_files([], clip).embeddings.shape == (0, clip.dim)


def test_progress_counts_every_file_once(folder, clip):
    done = []
    embed_files(list_files(folder.path), clip, batch_size=4, progress=done.append)
    assert sum(done) == len(folder.readable) + len(folder.damaged)


def test_stored_embeddings_come_back_as_they_were(embedded, clip, tmp_path):
    write_embeddings(tmp_path / "e.npz", embedded, clip)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        assert stored["embeddings"].dtype == np.float32
        assert stored["fingerprint"] == clip.fingerprint
        assert stored["model"] == clip.checkpoint.name
    again = read_embeddings(tmp_path / "e.npz", clip)
    assert again.embedded_paths == embedded.embedded_paths
    assert again.failed == embedded.failed
    np.testing.assert_array_equal(again.embeddings, embedded.embeddings)


def test_f07_a_name_beyond_utf8_is_stored_exactly(clip, folder, tmp_path):
    name = str(tmp_path / os.fsdecode(b"\xff \n.png"))
    Path(name).write_bytes(Path(folder.scenes[0]).read_bytes())
    write_embeddings(tmp_path / "e.npz", embed_files([name], clip), clip)
    assert read_embeddings(tmp_path / "e.npz", clip).embedded_paths == [name]


def test_f09_no_embeddings_can_be_stored_too(clip, tmp_path):
    write_embeddings(tmp_path / "e.npz", embed_files(["missing.jpg"], clip), clip)
    again = read_embeddings(tmp_path / "e.npz", clip)
    assert again.embeddings.shape == (0, clip.dim)
    assert list(again.failed) == ["missing.jpg"]


def test_f13_embeddings_of_other_weights_are_refused(embedded, clip, weights, tmp_path):
    write_embeddings(tmp_path / "e.npz", embedded, clip)
    other = load_clip(write_checkpoint(weights, seed=1), device="cpu")
    with pytest.raises(StoreError, match="use the same model or embed again"):
        read_embeddings(tmp_path / "e.npz", other)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text", "other arrays"])
def test_f13_damaged_embeddings_are_refused(embedded, clip, tmp_path, damage):
    file = tmp_path / "e.npz"
    write_embeddings(file, embedded, clip)
    whole = file.read_bytes()
    middle = whole.index(embedded.embeddings[5].tobytes())
    flipped = bytearray(whole)
    flipped[middle] ^= 1
    contents = {"empty": b"", "cut": whole[: middle + 9], "flipped": flipped, "text": b"paths"}
    if damage == "missing":
        file.unlink()
    elif damage == "other arrays":
        np.savez(file, paths=np.arange(3))
    else:
        file.write_bytes(contents[damage])
    with pytest.raises(StoreError, match="write it again"):
        read_embeddings(file, clip)
