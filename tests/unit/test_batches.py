"""Files to embeddings: order, bounded memory, and failures that stay alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fiftyone_isoclip.encoder import PixelReader, embed_images, load_clip
from tests import small_models


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    architecture = small_models.register("vit", folder)
    save_file(small_models.build(architecture).state_dict(), folder / "model.safetensors")
    return f"{architecture}/{folder / 'model.safetensors'}"


@pytest.fixture
def clip(name):
    return load_clip(name, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for row in range(23):
        noise = draws.integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((50, 40)).save(folder / f"{row:02}.png")
    return sorted(folder.glob("*.png"))


def one_by_one(clip, paths):
    return np.concatenate([clip.image_embeddings(clip.reader.read(p)[0][None]) for p in paths])


def together(batches):
    rows = np.concatenate([batch.rows for batch in batches])
    embeddings = np.concatenate([batch.embeddings for batch in batches])
    failures = {row: reason for batch in batches for row, reason in batch.failures.items()}
    return rows, embeddings, failures


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64, None])
@pytest.mark.parametrize("workers", [1, 3, None])
def test_every_file_in_order_whatever_the_batches(clip, paths, batch_size, workers):
    found = embed_images(clip, paths, batch_size=batch_size, workers=workers)
    rows, embeddings, failures = together(list(found))
    assert np.array_equal(rows, np.arange(23))
    expected = one_by_one(clip, paths)
    assert np.abs(embeddings - expected).max() <= 1e-5 * np.abs(expected).max()
    assert failures == {}
    assert (rows.dtype, embeddings.dtype) == (np.int64, np.float32)


def test_no_files_no_batches(clip):
    assert list(embed_images(clip, [])) == []


def test_f09_all_files_bad_is_an_empty_result(clip, tmp_path):
    (batch,) = embed_images(clip, [tmp_path / "a", tmp_path / "b"])
    assert batch.embeddings.shape == (0, clip.dim)
    assert batch.failures.keys() == {0, 1}


def test_boxes_crop_each_path(clip, paths):
    boxes = [None, (0.1, 0.2, 0.5, 0.5), (2, 2, 1, 1)]
    rows, embeddings, failures = together(list(embed_images(clip, [paths[0]] * 3, boxes=boxes)))
    (crop,) = clip.reader.read(paths[0], [boxes[1]])
    np.testing.assert_allclose(
        embeddings,
        np.concatenate([one_by_one(clip, paths[:1]), clip.image_embeddings(crop[None])]),
        atol=1e-5,
    )
    assert rows.tolist() == [0, 1]
    assert "outside" in failures[2]
    with pytest.raises(ValueError, match="shorter"):
        list(embed_images(clip, paths, boxes=boxes))


def test_f08_embeddings_that_are_no_direction_fail_alone(clip, paths):
    tower = clip._images._encode

    def broken(inputs, normalize):
        features = tower(inputs, normalize=normalize).clone()
        features[1] = float("nan")
        features[2] = 0
        features[3] = float("inf")
        return features

    clip._images._encode = broken
    (batch,) = embed_images(clip, paths[:6])
    assert batch.rows.tolist() == [0, 4, 5]
    assert np.isfinite(batch.embeddings).all()
    assert batch.failures == {
        1: "the model gave an embedding with NaN or infinity",
        2: "the model gave a zero embedding",
        3: "the model gave an embedding with NaN or infinity",
    }


@dataclass(frozen=True)
class WatchedReader(PixelReader):
    """Tells of every file before it is read."""

    tell: Callable[[object], None] = lambda path: None

    def read(self, path, boxes=(None,)):
        self.tell(path)
        return super().read(path, boxes)


def watch(clip, tell):
    clip.reader = WatchedReader(clip.reader.fit, clip.reader.own, tell=tell)


def test_an_image_with_several_boxes_is_decoded_once(clip, paths):
    boxes = [(0.1 * part, 0.1, 0.5, 0.5) for part in range(5)]
    files = [paths[0]] * 5 + [paths[1]] + [paths[2]] * 5
    crops = [*boxes, None, *boxes]
    decoded = []
    watch(clip, decoded.append)
    rows, embeddings, _ = together(list(embed_images(clip, files, boxes=crops, batch_size=6)))
    assert sorted(decoded) == sorted({paths[0], paths[1], paths[2]})
    assert rows.tolist() == list(range(11))
    alone = [clip.reader.read(file, [box])[0] for file, box in zip(files, crops, strict=True)]
    np.testing.assert_allclose(embeddings, clip.image_embeddings(torch.stack(alone)), atol=1e-5)


def test_the_crops_of_one_image_do_not_all_wait_for_the_tower(clip, paths):
    decoded = []
    watch(clip, decoded.append)
    files = [paths[0]] * 100
    batches = embed_images(clip, files, boxes=[(0, 0, 0.5, 0.5)] * 100, batch_size=4, workers=1)
    next(batches)
    assert len(decoded) <= 1 + 2
    batches.close()


def test_decoding_runs_ahead_but_not_far(clip, paths):
    decoded = []
    watch(clip, decoded.append)
    batches = embed_images(clip, paths, batch_size=3, workers=4)
    next(batches)
    assert len(decoded) <= 3 * (1 + 2)
    batches.close()
    assert len(decoded) <= 3 * (1 + 2)
    assert not [t for t in threading.enumerate() if t.name.startswith("isoclip-")]


def test_decoding_overlaps_the_forward_pass(clip, paths):
    """While the tower works on the first batch, pictures of the second are decoded."""
    tower, second, decoded = clip._images._encode, threading.Event(), []

    def counting(path):
        decoded.append(path)
        if len(decoded) > 4:
            second.set()

    def waiting(inputs, normalize):
        assert second.wait(20), "nothing was decoded while the tower was busy"
        return tower(inputs, normalize=normalize)

    watch(clip, counting)
    clip._images._encode = waiting
    assert len(next(embed_images(clip, paths, batch_size=4, workers=2)).rows) == 4


def test_a_folded_model_embeds_files_too(clip, paths):
    folded = clip.folded()
    _, embeddings, _ = together(list(embed_images(folded, paths)))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = clip.isoclip()(one_by_one(clip, paths))
    assert np.abs(embeddings - expected).max() < 1e-5
