"""Files to embeddings: order, bounded memory, and failures that stay alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fiftyone_isoclip.encoder import embed_images, load_clip, read_image
from fiftyone_isoclip.errors import IsoClipError
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
    parts = [clip.image_embeddings(clip.preprocess(read_image(p))[None]) for p in paths]
    return np.concatenate(parts)


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


def test_f04_a_bad_file_fails_alone_with_its_reason(clip, paths, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:90])
    mixed = [paths[0], tmp_path / "bad.jpg", paths[1], tmp_path / "gone.png", *paths[2:6]]
    mixed.insert(6, tmp_path / "cut.png")
    rows, embeddings, failures = together(list(embed_images(clip, mixed, batch_size=4)))
    assert rows.tolist() == [0, 2, 4, 5, 7, 8]
    assert failures.keys() == {1, 3, 6}
    assert "known format" in failures[1]
    assert "no such file" in failures[3]
    np.testing.assert_allclose(embeddings, one_by_one(clip, paths[:6]), atol=1e-5)


def test_f09_all_files_bad_is_an_empty_result(clip, tmp_path):
    (batch,) = embed_images(clip, [tmp_path / "a", tmp_path / "b"])
    assert batch.embeddings.shape == (0, clip.dim)
    assert batch.failures.keys() == {0, 1}


def test_boxes_crop_each_path(clip, paths):
    boxes = [None, (0.1, 0.2, 0.5, 0.5), (2, 2, 1, 1)]
    rows, embeddings, failures = together(list(embed_images(clip, [paths[0]] * 3, boxes=boxes)))
    crop = clip.preprocess(read_image(paths[0], boxes[1]))
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


def test_f20_finished_batches_are_kept_when_memory_runs_out_for_good(clip, paths):
    tower = clip._images._encode
    calls = []

    def shrinking(inputs, normalize):
        calls.append(len(inputs))
        if len(calls) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tower(inputs, normalize=normalize)

    clip._images._encode = shrinking
    kept = []
    with pytest.raises(IsoClipError, match="does not fit"):
        kept.extend(batch.rows.tolist() for batch in embed_images(clip, paths, batch_size=4))
    assert calls == [4, 4, 4, 2, 1]


def test_decoding_runs_ahead_but_not_far(clip, paths):
    preprocess, decoded = clip.preprocess, []
    clip.preprocess = lambda image: decoded.append(1) or preprocess(image)
    batches = embed_images(clip, paths, batch_size=3, workers=4)
    next(batches)
    assert len(decoded) <= 3 * (1 + 2)
    batches.close()
    assert len(decoded) <= 3 * (1 + 2)
    assert not [t for t in threading.enumerate() if t.name.startswith("isoclip-decode")]


def test_decoding_overlaps_the_forward_pass(clip, paths):
    """While the tower works on the first batch, pictures of the second are decoded."""
    preprocess, tower, second = clip.preprocess, clip._images._encode, threading.Event()
    decoded = []

    def counting(image):
        decoded.append(1)
        if len(decoded) > 4:
            second.set()
        return preprocess(image)

    def waiting(inputs, normalize):
        assert second.wait(20), "nothing was decoded while the tower was busy"
        return tower(inputs, normalize=normalize)

    clip.preprocess, clip._images._encode = counting, waiting
    assert len(next(embed_images(clip, paths, batch_size=4, workers=2)).rows) == 4


def test_a_folded_model_embeds_files_too(clip, paths):
    folded = clip.folded()
    _, embeddings, _ = together(list(embed_images(folded, paths)))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = clip.isoclip()(one_by_one(clip, paths))
    assert np.abs(embeddings - expected).max() < 1e-5
