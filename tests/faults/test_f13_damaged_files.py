"""Whatever became of a file of ours: it is noticed, named, and said how to make it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.files.embeddings import read_embeddings
from fiftyone_isoclip.index.pair_files import read_pairs
from fiftyone_isoclip.index.sealed import read_sealed, write_sealed
from fiftyone_isoclip.index.search_files import read_inverted
from tests.writers import EMBEDDINGS, INVERTED, NEW, OLD, OTHER_CLIP, PAIRS

READ = (INVERTED, PAIRS, EMBEDDINGS)
REMEDIES = {
    INVERTED.name: "cells are chosen anew",
    PAIRS.name: r"searches anew.*find_duplicates\(",
    EMBEDDINGS.name: "write it again with `isoclip embed`",
}
of_each_kind = pytest.mark.parametrize("writer", READ, ids=lambda writer: writer.name)


def refusal(writer, path):
    """The error that reading gives, which names the file and the remedy; None if it reads well.

    What is read must be what was written, to the last bit.
    """
    try:
        assert writer.holds(path) == OLD
    except StoreError as error:
        told = str(error)
        with pytest.raises(StoreError, match=REMEDIES[writer.name]):
            raise error
        assert str(path) in told
        return told
    return None


def flipped(sound, place, mask):
    return sound[:place] + bytes([sound[place] ^ mask]) + sound[place + 1 :]


def header_of(writer, sound):
    """The bytes that say what the others are."""
    if writer is EMBEDDINGS:  # of the zip: what stands before the first array, and the directory
        return [*range(200), *range(sound.index(b"PK\x01\x02"), len(sound))]
    return list(range(sound.index(b"\n") + 1))


def check_flips(writer, folder, places, masks):
    path = folder / writer.name
    writer.write(path, OLD)
    sound = path.read_bytes()
    refused = 0
    for place in places(sound):
        for mask in masks:
            path.write_bytes(flipped(sound, place, mask))
            refused += refusal(writer, path) is not None
    path.write_bytes(sound)
    assert refusal(writer, path) is None
    return refused


@of_each_kind
def test_f13_no_changed_byte_is_read_as_something_else(writer, tmp_path, seed):
    """All of the header, some of the rest; where JSON and zip ignore a byte, nothing changes."""
    draw = np.random.default_rng(seed)

    def places(sound):
        return [*header_of(writer, sound), *draw.integers(0, len(sound), 60).tolist()]

    mask = int(draw.integers(1, 256))
    assert check_flips(writer, tmp_path, places, [mask]) > 60


@pytest.mark.long
@of_each_kind
def test_f13_no_changed_bit_at_all_is_read_as_something_else(writer, tmp_path, seed):
    mask = 1 << seed % 8
    assert check_flips(writer, tmp_path, lambda sound: range(len(sound)), [mask, 0xFF]) > 1000


@of_each_kind
def test_f13_whatever_is_missing_is_noticed(writer, tmp_path, seed):
    path = tmp_path / writer.name
    writer.write(path, OLD)
    sound = path.read_bytes()
    lengths = {0, 1, len(sound) // 2, len(sound) - 1}
    lengths |= set(np.random.default_rng(seed).integers(0, len(sound), 40).tolist())
    for length in lengths:
        path.write_bytes(sound[:length])
        assert refusal(writer, path), length
    path.write_bytes(sound + b"\0")
    assert refusal(writer, path) or writer is EMBEDDINGS  # behind a zip there may be anything


@of_each_kind
def test_f13_what_is_something_else_is_refused(writer, tmp_path, seed):
    path = tmp_path / writer.name
    draw = np.random.default_rng(seed)
    others = [other for other in READ if other is not writer]
    contents = [b"\n", b"[]\n", b"null\n", b"{}\n", b'{"sha256": 1}\n', b"<html>", draw.bytes(5000)]
    for other in others:
        other.write(tmp_path / other.name, OLD)
        contents.append((tmp_path / other.name).read_bytes())
    for content in contents:
        path.write_bytes(content)
        assert refusal(writer, path), content[:20]
    path.unlink()
    path.mkdir()
    assert refusal(writer, path)


def test_f13_other_weights_and_another_band_are_named(tmp_path):
    inverted, embeddings = tmp_path / INVERTED.name, tmp_path / EMBEDDINGS.name
    INVERTED.write(inverted, OLD)
    with pytest.raises(StoreError, match="is of fingerprint weights, not of others"):
        read_inverted(inverted, fingerprint="others", band="3/7")
    with pytest.raises(StoreError, match="is of band 3/7, not of 3/8"):
        read_inverted(inverted, fingerprint="weights", band="3/8")
    EMBEDDINGS.write(embeddings, OLD)
    with pytest.raises(StoreError, match=r"embedded by made-up .*another .*embed again"):
        read_embeddings(embeddings, OTHER_CLIP)


def test_f13_pairs_of_another_dataset_or_another_search_are_refused(tmp_path):
    path = tmp_path / PAIRS.name
    PAIRS.write(path, OLD)
    with pytest.raises(StoreError, match="is of dataset dataset, not of another"):
        read_pairs(path, "another")
    shutil.copy(path, tmp_path / "renamed.pairs")
    with pytest.raises(StoreError, match="is of name kept, not of renamed"):
        read_pairs(tmp_path / "renamed.pairs", "dataset")


@pytest.mark.parametrize("writer", [INVERTED, PAIRS], ids=lambda writer: writer.name)
@pytest.mark.parametrize("lie", [-1, 1, 10**9, None, "many", 0.5])
def test_f13_counts_that_lie_are_refused(writer, tmp_path, lie):
    """Also where somebody has made the checksum fit."""
    path = tmp_path / writer.name
    writer.write(path, OLD)
    (kind, version), payload = _kind_of(path)
    header, _ = read_sealed(path, kind, version, {}, remedy="")
    counts = {"search.inverted": ["places"], "kept.pairs": ["rows", "pairs"]}[writer.name]
    for name in counts:
        told = header[name] + lie if isinstance(lie, int) else lie
        write_sealed(path, kind, version, {**header, name: told}, [payload])
        assert refusal(writer, path), name


@pytest.mark.parametrize("writer", [INVERTED, PAIRS], ids=lambda writer: writer.name)
def test_f13_another_format_is_named(writer, tmp_path):
    path = tmp_path / writer.name
    writer.write(path, OLD)
    (kind, version), payload = _kind_of(path)
    write_sealed(path, kind, version + 1, {}, [payload])
    assert f"has format {version + 1} of {kind}, and format {version}" in refusal(writer, path)


def test_f13_embeddings_of_another_format_and_lying_ones_are_refused(tmp_path):
    path = tmp_path / EMBEDDINGS.name
    EMBEDDINGS.write(path, OLD)
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **arrays | {"format": np.array(7)})
    assert "it has format 7" in refusal(EMBEDDINGS, path)
    np.savez(path, **arrays | {"model": np.array("others")})
    assert "not as it was written" in refusal(EMBEDDINGS, path)
    made = EMBEDDINGS.make(NEW)
    EMBEDDINGS.put(path, replace(made, rows=made.rows[:-1]))
    with pytest.raises(StoreError, match="159 paths but embeddings of shape"):
        EMBEDDINGS.get(path)


def test_f13_nothing_is_ever_unpickled(tmp_path):
    path = tmp_path / EMBEDDINGS.name
    with path.open("wb") as file:
        np.savez(file, paths=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "allow_pickle=False" in refusal(EMBEDDINGS, path)


def _kind_of(path):
    first, _, payload = path.read_bytes().partition(b"\n")
    header = json.loads(first)
    return (header["kind"], header["format"]), payload
