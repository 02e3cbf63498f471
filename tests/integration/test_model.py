from __future__ import annotations

import pickle
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_isoclip.dataset import model as model_module
from fiftyone_isoclip.dataset.model import IsoClipModel, load_model
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.encoder import Clip, load_clip, read_image
from fiftyone_isoclip.errors import BandError, ImageError
from fiftyone_isoclip.projector import Band
from tests.checkpoints import write_checkpoint
from tests.galleries import add_pictures, paint_gallery, paint_picture

NAME = "isoclip-demo"
EXACT = {"precision": "float32"}  # processors with bf16 would use it, and 1e-5 would not hold


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(NAME, **EXACT)


@pytest.fixture
def model() -> IsoClipModel:
    register()
    found = foz.load_zoo_model(NAME, **EXACT)
    assert isinstance(found, IsoClipModel)
    return found


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return paint_gallery(tmp_path / "gallery", 9)


def plain(clip: Clip, images: list[Image.Image]) -> np.ndarray:
    return clip.image_embeddings(torch.stack([clip.reader(np.array(image)) for image in images]))


def expected(clip: Clip, images: list[Image.Image]) -> np.ndarray:
    """The two-step way: plain embeddings, then the map."""
    return clip.isoclip()(plain(clip, images))


@pytest.mark.parametrize("batch_size", [None, 4])
def test_samples_get_the_mapped_plain_embedding(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path], batch_size: int | None
) -> None:
    add_pictures(dataset, paths)

    found = dataset.compute_embeddings(model, batch_size=batch_size, num_workers=0)

    assert found.dtype == np.float32
    assert found.shape == (9, clip.isoclip().dim)
    np.testing.assert_allclose(found, expected(clip, [read_image(p) for p in paths]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_embeddings_are_stored_in_a_field(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    add_pictures(dataset, paths)

    dataset.compute_embeddings(model, embeddings_field="isoclip", batch_size=4, num_workers=0)

    stored = np.stack(dataset.values("isoclip"))
    assert isinstance(dataset.get_field("isoclip"), fo.VectorField)
    np.testing.assert_allclose(stored, expected(clip, [read_image(p) for p in paths]), atol=1e-5)


def test_the_camera_s_rotation_is_applied(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, tmp_path: Path
) -> None:
    upright = paint_picture(1)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    lying.save(tmp_path / "lying.png", exif=exif)
    add_pictures(dataset, [tmp_path / "lying.png"])

    found = dataset.compute_embeddings(model)

    np.testing.assert_allclose(found, expected(clip, [upright]), atol=1e-5)


def test_patches_get_the_embedding_of_the_crop(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.25, 0.5, 0.5]]
    add_pictures(dataset, paths[:2])
    first = dataset.first()
    first["parts"] = fo.Detections(detections=[fo.Detection(bounding_box=box) for box in boxes])
    first.save()

    found = dataset.compute_patch_embeddings(model, "parts", batch_size=2, num_workers=0)

    picture = read_image(paths[0])
    crops = []
    for x, y, w, h in boxes:
        left, top = int(x * picture.width), int(y * picture.height)
        crops.append(
            picture.crop((left, top, left + int(w * picture.width), top + int(h * picture.height)))
        )
    np.testing.assert_allclose(found[first.id], expected(clip, crops), atol=1e-5)
    assert found[dataset.last().id] is None


def test_one_bad_image_costs_its_batch_nothing(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    paths[2].write_bytes(b"not a picture")
    paths[5].unlink()
    add_pictures(dataset, paths)
    good = [row for row in range(9) if row not in (2, 5)]
    right = expected(clip, [read_image(paths[row]) for row in good])

    found = dataset.compute_embeddings(model, batch_size=4, num_workers=0)
    dataset.compute_embeddings(model, embeddings_field="isoclip", batch_size=4, num_workers=0)

    for embeddings in (found, dataset.values("isoclip")):
        assert [row for row in range(9) if embeddings[row] is None] == [2, 5]
        np.testing.assert_allclose(np.stack([embeddings[r] for r in good]), right, atol=1e-5)


def test_a_batch_of_bad_images_is_counted_as_failed(
    dataset: fo.Dataset, model: IsoClipModel, paths: list[Path]
) -> None:
    for path in paths[:4]:
        path.write_bytes(b"")
    add_pictures(dataset, paths)

    found = dataset.compute_embeddings(model, batch_size=4, num_workers=0)

    assert [embedding is None for embedding in found] == [True] * 4 + [False] * 5


def test_failures_are_raised_if_that_is_asked_for(dataset: fo.Dataset, paths: list[Path]) -> None:
    register()
    strict = foz.load_zoo_model(NAME, keep_batch=False, **EXACT)
    paths[2].write_bytes(b"not a picture")
    add_pictures(dataset, paths)

    with pytest.raises(ImageError, match="not a picture"):
        dataset.compute_embeddings(strict, batch_size=4, num_workers=0, skip_failures=False)


def test_files_are_read_as_asked_for(
    dataset: fo.Dataset, model: IsoClipModel, tmp_path: Path
) -> None:
    register()
    fast = foz.load_zoo_model(NAME, decoding="fast", **EXACT)
    with Image.effect_mandelbrot((1600, 1200), (-2, -1, 1, 1), 90) as picture:
        picture.convert("RGB").save(tmp_path / "large.jpg")
    add_pictures(dataset, [tmp_path / "large.jpg"])

    exact, scaled = (dataset.compute_embeddings(each)[0] for each in (model, fast))

    # FiftyOne may have kept `model` from before; one that is loaded now shares its weights.
    assert fast.clip._images is load_model(NAME, **EXACT).clip._images
    assert 1e-9 < 1 - exact @ scaled < 1e-3


def test_what_the_loader_sends_to_its_workers_can_be_pickled(model: IsoClipModel) -> None:
    picture = paint_picture(3)
    loader = pickle.loads(pickle.dumps(model.build_get_item()))
    torch.testing.assert_close(loader.transform(picture), model.transforms(picture))


def test_workers_give_the_same_embeddings(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    paths[1].write_bytes(b"not a picture")
    add_pictures(dataset, paths[:3])

    found = dataset.compute_embeddings(model, batch_size=3, num_workers=1)

    assert found[1] is None
    right = expected(clip, [read_image(paths[0]), read_image(paths[2])])
    np.testing.assert_allclose([found[0], found[2]], right, atol=1e-5)


def test_an_uploaded_image_is_embedded_outside_of_any_context(
    model: IsoClipModel, clip: Clip
) -> None:
    picture = paint_picture(4)
    pixels = np.asarray(picture)  # what the App's upload search hands over
    right = expected(clip, [picture])[0]
    np.testing.assert_allclose(model.embed(pixels), right, atol=1e-5)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    np.testing.assert_allclose(model.embed(opaque), right, atol=1e-5)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    np.testing.assert_allclose(model.embed(tensor), right, atol=1e-5)
    np.testing.assert_allclose(model.embed(tensor / 255), right, atol=1e-5)
    np.testing.assert_allclose(model.embed_all([picture, pixels]), [right, right], atol=1e-5)


def test_prompts_rank_compressed_images_as_the_paper_s_projector_does(
    model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    pictures = [read_image(path) for path in paths]
    images = plain(clip, pictures)
    text = clip.text_embeddings(["red circle", "blue square"])
    rewritten = images @ clip.isoclip().oblique.T
    rewritten /= np.linalg.norm(rewritten, axis=1, keepdims=True)
    unit_text = text / np.linalg.norm(text, axis=1, keepdims=True)

    prompts = model.embed_prompts(["red circle", "blue square"])
    found = prompts @ np.asarray(model.embed_all(pictures)).T

    # Equal but for the length that Q^T takes off each prompt, which ranks nothing.
    right = unit_text @ rewritten.T
    scale = np.linalg.norm(unit_text @ clip.isoclip().basis, axis=1, keepdims=True)
    np.testing.assert_allclose(found * scale, right, atol=1e-5)
    np.testing.assert_allclose(model.embed_prompt("red circle"), prompts[0], atol=1e-6)


def test_plain_prompts_are_clip_s_own(model: IsoClipModel, clip: Clip) -> None:
    text = clip.text_embeddings(["red circle"])
    np.testing.assert_allclose(
        model.plain_prompts(["red circle"]), text / np.linalg.norm(text), atol=1e-6
    )


def test_words_the_checkpoint_does_not_know_are_told(
    model: IsoClipModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.embed_prompt("red zeppelin")
    assert "zeppelin" in caplog.text
    assert "red" not in caplog.messages[-1].split("words", 1)[1].split(";")[0].split()


def test_the_plain_model_gives_clip_s_own_embeddings(model: IsoClipModel, clip: Clip) -> None:
    picture = paint_picture(5)
    own = clip.image_embeddings(clip.preprocess(picture)[None])[0]
    found = model.as_plain().embed(np.asarray(picture))
    assert found @ own / np.linalg.norm(own) > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(found), 1, atol=1e-6)


def test_a_band_of_ones_own(clip: Clip) -> None:
    band = Band(2, 5)
    picture = paint_picture(6)
    right = clip.isoclip(band)(plain(clip, [picture]))[0]

    found = load_model(NAME, band=band, **EXACT)

    assert found.zoo_name == NAME
    assert found.zoo_kwargs == {"band": "2/5"}
    np.testing.assert_allclose(found.embed(picture), right, atol=1e-5)
    again = foz.load_zoo_model(found.zoo_name, **found.zoo_kwargs, **EXACT)
    np.testing.assert_allclose(again.embed(picture), found.embed(picture), atol=1e-6)


def test_a_band_that_keeps_nothing_is_refused_at_once() -> None:
    with pytest.raises(BandError, match="keeps none"):
        load_model(NAME, band="900/900")


def test_any_other_checkpoint_goes_by_the_general_name(tmp_path: Path) -> None:
    register()
    name = write_checkpoint(tmp_path)
    picture = paint_picture(7)
    clip = load_clip(name, **EXACT)
    (right,) = expected(clip, [picture])

    found = load_model(name, **EXACT)
    again = foz.load_zoo_model(found.zoo_name, **found.zoo_kwargs, **EXACT)

    assert found.zoo_kwargs == {"checkpoint": name}
    for loaded in (found, again):
        np.testing.assert_allclose(loaded.embed(picture), right, atol=1e-5)


def test_a_checkpoint_stays_loaded_and_few_of_them_do(tmp_path: Path) -> None:
    names = [write_checkpoint(tmp_path, seed=seed) for seed in range(3)]
    first = load_model(names[0]).clip
    assert load_model(names[0], band="1/1").clip is first
    for name in names[1:]:
        load_model(name)
    assert model_module._loaded_clip.cache_info().currsize == model_module.LOADED_CLIPS
    assert load_model(names[0]).clip is not first


def test_near_duplicates_are_found_by_brain(
    dataset: fo.Dataset, model: IsoClipModel, paths: list[Path], tmp_path: Path
) -> None:
    copies = []
    for row in (0, 4):
        copies.append(tmp_path / f"copy-{row}.png")
        Image.open(paths[row]).save(copies[-1])
    ids = add_pictures(dataset, [*paths, *copies])

    index = fob.compute_near_duplicates(dataset, model=NAME, threshold=1e-4, num_workers=0)

    assert set(index.duplicate_ids) == {ids[9], ids[10]}
    assert {k: [d for d, _ in v] for k, v in index.neighbors_map.items()} == {
        ids[0]: [ids[9]],
        ids[4]: [ids[10]],
    }


def test_a_map_of_the_embeddings_is_made_by_brain(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    add_pictures(dataset, paths)

    fob.compute_visualization(
        dataset, model=NAME, model_kwargs=EXACT, method="pca", brain_key="map", num_workers=0
    )

    points = dataset.load_brain_results("map").points
    right = expected(clip, [read_image(path) for path in paths])
    centred = right - right.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left * scale)[:, :2], atol=1e-4)


def test_any_backend_searches_with_text_and_images(
    dataset: fo.Dataset, model: IsoClipModel, clip: Clip, paths: list[Path]
) -> None:
    ids = add_pictures(dataset, paths)
    fob.compute_similarity(
        dataset, model=NAME, model_kwargs=EXACT, brain_key="sk", backend="sklearn", num_workers=0
    )
    images = expected(clip, [read_image(path) for path in paths])

    by_text = dataset.sort_by_similarity("red circle", brain_key="sk").values("id")
    by_image = dataset.sort_by_similarity(ids[3], brain_key="sk").values("id")

    text = clip.isoclip().query(clip.text_embeddings(["red circle"]))[0]
    assert by_text == [ids[row] for row in np.argsort(-(images @ text), kind="stable")]
    # That backend centres for queries by id; ours, in test_similarity.py, does not.
    centred = images - images.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert by_image == [ids[row] for row in np.argsort(-(centred @ centred[3]), kind="stable")]
