"""Every way of storing a picture has one defined conversion, the same at every door."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fiftyone.core.media import get_media_type
from PIL import Image

from fiftyone_isoclip.dataset import embed, load_model
from fiftyone_isoclip.dataset.loading import PixelTransform
from fiftyone_isoclip.encoder import embed_images, load_clip, read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files import rank_keepers
from tests import corpus
from tests.terminal import isoclip

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The corpus: kind -> what it shows."""
    return corpus.make_pictures(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def plain(odd, clip, tmp_path_factory):
    """The embeddings of what is shown, by open_clip's own transform: path -> unit vector."""
    pixels = torch.stack([clip.preprocess(shown.picture) for shown in odd.values()])
    paths = [str(shown.path) for shown in odd.values()]
    return dict(zip(paths, _unit(clip.image_embeddings(pixels)), strict=True))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _least_cosine(plain, paths, vectors):
    """The lowest cosine to the plain version; there must be one for every path."""
    found = _unit(np.stack(list(vectors)))
    return min(plain[path] @ row for path, row in zip(paths, found, strict=True))


@pytest.mark.parametrize("kind", corpus.PICTURES)
def test_f06_each_kind_is_what_it_shows(kind, odd):
    shown = odd[kind]
    found = read_image(shown.path)
    assert (found.mode, found.size) == ("RGB", shown.picture.size)
    levels = np.abs(np.asarray(found, float) - np.asarray(shown.picture, float))
    assert levels.mean() <= shown.levels


def test_f06_the_corpus_would_show_a_mistake(odd):
    """A turn, a flip, channels in another order, a negative: all are far from the picture."""
    right = np.asarray(corpus.photograph(), float)
    wrongs = [right[::-1], right[:, ::-1], right[::-1, ::-1], right[..., ::-1], 255 - right]
    assert min(np.abs(wrong - right).mean() for wrong in wrongs) > 5 * max(
        shown.levels for shown in odd.values()
    )


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_f06_embeddings_are_those_of_the_plain_pictures(decoding, odd, plain, clip):
    paths = list(plain)
    (*batches,) = embed_images(clip.with_decoding(decoding), paths, batch_size=32)
    assert all(batch.failures == {} for batch in batches)
    vectors = np.concatenate([batch.embeddings for batch in batches])
    assert _least_cosine(plain, paths, vectors) >= 0.99


def test_f06_embeddings_on_samples_are_those_of_the_plain_pictures(odd, plain, clip, dataset, fill):
    paths = [path for path in plain if get_media_type(path) == "image"]
    fill(paths)
    assert embed(dataset, clip, progress=False).failed == {}
    vectors = dataset.values("clip_embedding")
    assert _least_cosine(plain, paths, vectors) >= 0.99
    model = load_model("isoclip-demo", device="cpu", precision="float32").as_plain()
    vectors = dataset.compute_embeddings(model, num_workers=0)
    assert _least_cosine(plain, paths, vectors) >= 0.99


def test_f06_a_command_embeds_the_plain_pictures(odd, plain, tmp_path):
    (tmp_path / "list").write_bytes("\0".join(plain).encode())
    done = isoclip("embed", tmp_path / "list", "--out", tmp_path / "e.npz")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        assert stored["failed_paths"].tolist() == []
        # A symlink gives way to the file it points to.
        paths = stored["paths"].tolist()
        assert len(paths) >= len(plain) - 1
        cosines = _least_cosine(plain, paths, stored["embeddings"])
    assert cosines >= 0.99


def test_f06_a_picture_that_comes_decoded_is_converted_like_a_file(odd, clip):
    """What FiftyOne has opened itself: its uploads, and models that load without our loader."""
    transform = PixelTransform(clip.reader)
    for kind in (
        "alpha png",
        "grey with alpha",
        "see-through palette",
        "16-bit grey png",
        "cmyk tiff",
    ):
        with Image.open(odd[kind].path) as image:
            image.load()
        (found,) = clip.reader.read(odd[kind].path)
        assert torch.equal(transform(image), found), kind
    with pytest.raises(ImageError, match="NaN"):
        transform(torch.full((3, 8, 8), float("nan")))


def test_f06_the_size_of_every_kind_is_known_to_the_rules_for_keepers(odd):
    paths = [str(shown.path) for shown in odd.values()]
    ranking = rank_keepers(paths, "largest")
    for kind, reason in zip(odd, ranking.reasons, strict=True):
        width, height = odd[kind].picture.size
        # As it is stored: a picture that lies on its side is as large.
        assert f"{width}x{height}," in reason or f"{height}x{width}," in reason, kind


def test_f06_what_is_deeper_than_8_bits_is_narrowed_strip_by_strip(tmp_path, monkeypatch):
    """The same values as all at once, and to the nearest level."""
    wide = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    Image.fromarray(wide).save(tmp_path / "a.png")
    monkeypatch.setattr("fiftyone_isoclip.encoder.images._STRIP", 1001)
    found = np.asarray(read_image(tmp_path / "a.png"))[..., 1]
    assert np.array_equal(found, np.rint(wide / 257))
