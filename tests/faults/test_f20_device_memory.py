"""When a device's memory runs out the batch is halved; if nothing helps, finished batches stay."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from fiftyone_isoclip.dataset import embed, load_model
from fiftyone_isoclip.encoder import embed_images, load_clip
from fiftyone_isoclip.errors import IsoClipError
from tests.pictures import draw_many

LOGGER = "fiftyone_isoclip.encoder"
SIGNS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    "processor": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
}


class Cramped:
    """A real tower on a device whose memory holds so many inputs at once."""

    def __init__(self, encode, most, sign="cuda"):
        self.encode, self.most, self.sign, self.sizes = encode, most, sign, []

    def __call__(self, inputs, normalize):
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise SIGNS[self.sign]
        return self.encode(inputs, normalize=normalize)


class Filling(Cramped):
    """A device that takes so many batches, and from then on nothing."""

    def __call__(self, inputs, normalize):
        done = sum(size == self.sizes[0] for size in self.sizes)
        self.sizes.append(len(inputs))
        if done >= self.most:
            raise SIGNS["cuda"]
        return self.encode(inputs, normalize=normalize)


@pytest.fixture
def clip(checkpoint):
    return load_clip(checkpoint, device="cpu", precision="float32")


@pytest.fixture
def paths(pictures):
    return draw_many(pictures, 23)


@pytest.fixture
def right(clip, paths):
    """The embeddings of a device with room enough."""
    return np.concatenate([batch.embeddings for batch in embed_images(clip, paths)])


def close(found, right):
    return np.abs(np.asarray(found) - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("sign", SIGNS)
def test_f20_the_batch_is_halved_and_that_is_said_once(sign, clip, paths, right, caplog):
    clip._images._encode = cramped = Cramped(clip._images._encode, 3, sign)
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        found = [batch.embeddings for batch in embed_images(clip, paths, batch_size=11)]
    assert close(np.concatenate(found), right)
    # What was learnt is kept for later batches.
    assert cramped.sizes == [11, 5, *[2] * 5, 1, *[2] * 5, 1, 1]
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "cpu ran out of memory at 11 inputs; going on with 5 at a time",
        "cpu ran out of memory at 5 inputs; going on with 2 at a time",
    ]


def test_f20_one_image_that_does_not_fit_is_a_clear_stop(clip, paths):
    clip._images._encode = cramped = Cramped(clip._images._encode, 0)
    with pytest.raises(IsoClipError, match=r"one input alone does not fit .* device='cpu'"):
        list(embed_images(clip, paths, batch_size=8))
    assert cramped.sizes == [8, 4, 2, 1]


def test_f20_another_error_of_the_device_is_not_taken_for_want_of_memory(clip, paths):
    def failing(inputs, normalize):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    clip._images._encode = failing
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(embed_images(clip, paths))


def test_f20_finished_batches_stay_in_the_dataset_and_the_rest_is_made_later(
    clip, paths, right, dataset, fill
):
    fill(paths)
    whole = clip._images._encode
    clip._images._encode = Filling(whole, 2)
    with pytest.raises(IsoClipError, match="does not fit"):
        embed(dataset, clip, batch_size=5, progress=False)
    dataset.reload()
    kept = dataset.exists("clip_embedding")
    assert kept.values("filepath") == paths[:10]
    assert close(kept.values("clip_embedding"), right[:10])
    assert dataset.exists("clip_embedding_source").values("filepath") == paths[:10]
    assert dataset.count("clip_embedding_error") == 0

    clip._images._portions.rows_at_once = None
    clip._images._encode = again = Cramped(whole, 99)
    report = embed(dataset, clip, batch_size=5, progress=False)
    assert (report.computed, report.kept, report.failed) == (13, 10, {})
    assert sum(again.sizes) == 13
    assert close(dataset.values("clip_embedding"), right)


def test_f20_fiftyones_own_way_of_embedding_halves_as_well(checkpoint, paths, dataset, fill):
    fill(paths)
    model = load_model(checkpoint, device="cpu", precision="float32")
    right = dataset.compute_embeddings(model, batch_size=8, num_workers=0)
    tower = model._image_clip._images
    tower._encode = cramped = Cramped(tower._encode, 3)
    found = dataset.compute_embeddings(model, batch_size=8, num_workers=0)
    assert np.abs(found - right).max() < 1e-5
    assert cramped.sizes[:3] == [8, 4, 2]


def test_f20_prompts_are_halved_as_well(clip):
    prompts = [f"a photo of {n} dogs" for n in range(9)]
    right = clip.text_embeddings(prompts)
    clip._texts._encode = Cramped(clip._texts._encode, 4)
    assert close(clip.text_embeddings(prompts), right)


@pytest.mark.parametrize("sign", SIGNS)
def test_f20_a_model_that_does_not_fit_is_a_clear_stop(sign, checkpoint, monkeypatch):
    def full(module, *args, **kwargs):
        if kwargs.get("dtype") == torch.bfloat16:
            raise SIGNS[sign]
        return moved(module, *args, **kwargs)

    moved = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(IsoClipError, match=r"does not fit into the memory of cpu.*device='cpu'"):
        load_clip(checkpoint, device="cpu", precision="bf16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_f20_on_a_gpu_whose_memory_is_taken(checkpoint, paths):
    """A real device that runs out: all but some of its memory is held by somebody else."""
    clip = load_clip(checkpoint, device="cuda", precision="float32")
    right = clip.image_embeddings(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    pixels = torch.zeros(200_000, 3, 32, 32, dtype=torch.uint8)
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - 2**30, dtype=torch.uint8, device="cuda")
    try:
        found = clip.image_embeddings(pixels)
    finally:
        del held
        torch.cuda.empty_cache()
    assert close(found, np.repeat(right, len(pixels), axis=0))
    assert clip._images._portions.rows_at_once < len(pixels)
