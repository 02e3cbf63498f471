"""What the towers are given, against open_clip's own transform of what Pillow reads."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageOps

from fiftyone_isoclip.encoder import load_clip, read_image
from fiftyone_isoclip.encoder.pixels import ROOM
from fiftyone_isoclip.errors import IsoClipError

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "clothing_cc0"
BOXES = [None, (0.1, 0.2, 0.5, 0.5), (0.3, 0.0, 0.7, 1.0), (0.4, 0.4, 0.4, 0.4)]


@pytest.fixture(scope="module")
def clip():
    """The demo's weights: small, and trained, so that they know what matters in a picture."""
    return load_clip("isoclip-demo", device="cpu", precision="float32")


def photograph(width, height, seed=0):
    """Noise with the spectrum of photographs, amplitude ~ 1/f: RGB."""
    draws = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = 1
    phases = np.exp(2j * np.pi * draws.random(frequencies.shape))
    grey = np.fft.irfft2(phases / frequencies, s=(height, width))
    grey *= 45 / grey.std()
    channels = [np.roll(grey, 40 * channel, axis=1) * (1 - 0.2 * channel) for channel in range(3)]
    return Image.fromarray((np.stack(channels, axis=2) + 120).clip(0, 255).astype(np.uint8))


def theirs(clip, path, box=None):
    """open_clip's own pixels of what Pillow shows: float, normalised."""
    with Image.open(path) as image:
        picture = ImageOps.exif_transpose(image).convert("RGB")
    if box is not None:
        left, top, width, height = box
        right, bottom = (
            round((left + width) * picture.width),
            round((top + height) * picture.height),
        )
        picture = picture.crop(
            (int(left * picture.width), int(top * picture.height), right, bottom)
        )
    return clip.preprocess(picture)


def disagreement(clip, found, expected):
    """The largest 1 - cosine of two embeddings of the same pictures."""
    left, right = (clip.image_embeddings(torch.stack(p)).astype(float) for p in (found, expected))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (1 - (left * right).sum(axis=1) / norms).max()


def read(clip, *paths):
    return [clip.reader.read(path)[0] for path in paths]


WAYS = {
    "baseline": ("a.jpg", {}),
    "progressive": ("a.jpg", {"progressive": True}),
    "4:4:4": ("a.jpg", {"subsampling": 0}),
    "coarse": ("a.jpg", {"quality": 20}),
    "multi-picture": ("a.mpo", {"save_all": True}),
    "png": ("a.png", {}),
    "webp": ("a.webp", {}),
    "tiff": ("a.tif", {}),
    "bmp": ("a.bmp", {}),
    "gif": ("a.gif", {}),
    "jpeg 2000": ("a.jp2", {}),
    "avif": ("a.avif", {}),
}


@pytest.mark.parametrize("decoding", ["exact", "fast"])
@pytest.mark.parametrize("way", WAYS)
def test_every_format_agrees_with_open_clips_own_pixels(way, decoding, clip, tmp_path):
    name, options = WAYS[way]
    photograph(310, 203).save(tmp_path / name, **options)
    found = read(clip.with_decoding(decoding), tmp_path / name)
    assert found[0].dtype == torch.uint8
    assert disagreement(clip, found, [theirs(clip, tmp_path / name)]) < 1e-6


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_agree(mode, clip, tmp_path):
    photograph(310, 203).convert(mode).save(tmp_path / "a.jpg")
    found = read(clip, tmp_path / "a.jpg")
    assert disagreement(clip, found, [theirs(clip, tmp_path / "a.jpg")]) < 1e-6


@pytest.mark.parametrize("decoding", ["exact", "fast"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_f06_every_orientation_agrees(suffix, orientation, decoding, clip, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    photograph(310, 203).save(path, exif=exif, quality=95)
    for box, found in zip(
        BOXES, clip.with_decoding(decoding).reader.read(path, BOXES), strict=True
    ):
        assert disagreement(clip, [found], [theirs(clip, path, box)]) < 1e-6


@pytest.mark.parametrize("size", [(3000, 31), (31, 3000), (5, 4), (64, 64), (65, 64), (640, 480)])
@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_long_small_and_fitting_pictures_agree(size, decoding, clip, tmp_path):
    photograph(*size).save(tmp_path / "a.jpg")
    found = read(clip.with_decoding(decoding), tmp_path / "a.jpg")
    assert disagreement(clip, found, [theirs(clip, tmp_path / "a.jpg")]) < 2e-6


class Decoded:
    """Keeps the sizes to which JPEGs are decoded."""

    def __init__(self, monkeypatch):
        from fiftyone_isoclip.encoder import jpeg

        original, self.sizes = jpeg.simplejpeg.decode_jpeg, []

        def decode(*args, **kwargs):
            pixels = original(*args, **kwargs)
            self.sizes.append(pixels.shape[1::-1])
            return pixels

        monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", decode)


@pytest.mark.parametrize(
    ("size", "orientation", "decoded"),
    [
        ((1600, 1200), 1, (800, 600)),  # the demo takes 64 pixels
        ((3200, 1600), 6, (800, 400)),
        ((1200, 1600), 8, (600, 800)),
        ((1601, 1200), 1, (1601, 1200)),  # half a column would be left over
        ((5000, 760), 1, (5000, 760)),  # the shorter side decides
        ((767, 767), 1, (767, 767)),
        ((768, 768), 1, (384, 384)),
    ],
)
def test_fast_decoding_is_of_the_least_size_with_room(
    size, orientation, decoded, clip, tmp_path, monkeypatch
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, "teal").save(tmp_path / "a.jpg", exif=exif)
    watched = Decoded(monkeypatch)
    read(clip.with_decoding("fast"), tmp_path / "a.jpg")
    read(clip, tmp_path / "a.jpg")
    assert watched.sizes == [decoded, size]
    assert min(decoded) >= ROOM * 64


def test_a_crop_is_taken_from_all_pixels(clip, tmp_path, monkeypatch):
    Image.new("RGB", (1600, 1200), "teal").save(tmp_path / "a.jpg")
    watched = Decoded(monkeypatch)
    clip.with_decoding("fast").reader.read(tmp_path / "a.jpg", BOXES)
    assert watched.sizes == [(1600, 1200)]


@pytest.fixture(scope="module")
def vit_b_32():
    """A tower of the usual size with random weights, as a function of normalised pixels."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False).eval()

    class Model:
        preprocess = staticmethod(open_clip.image_transform(224, is_train=False))
        own = open_clip.get_model_preprocess_cfg(model)

        def image_embeddings(self, pixels):
            mean, std = (torch.tensor(self.own[name]).view(3, 1, 1) for name in ("mean", "std"))
            if pixels.dtype == torch.uint8:
                pixels = (pixels / 255 - mean) / std
            with torch.inference_mode():
                return model.encode_image(pixels).numpy()

    return Model()


@pytest.mark.parametrize(("orientation", "progressive"), [(1, False), (6, True)])
def test_a_large_photograph_decoded_at_half_its_size_agrees(
    orientation, progressive, clip, vit_b_32, tmp_path, monkeypatch
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photograph(2800, 2688).save(path, quality=92, exif=exif, progressive=progressive)
    fit = replace(clip.reader.fit, height=224, width=224)
    reader = replace(clip.reader, fit=fit)
    watched = Decoded(monkeypatch)
    expected = [theirs(vit_b_32, path)]
    exact = disagreement(vit_b_32, reader.read(path), expected)
    fast = disagreement(vit_b_32, replace(reader, decoding="fast").read(path), expected)
    assert watched.sizes == [(2800, 2688), (1400, 1344)]
    assert exact < 1e-6
    assert fast < 1e-5


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_real_photographs_agree(decoding, clip, vit_b_32):
    paths = sorted(PHOTOGRAPHS.rglob("*.jpg"))[::120]
    if not paths:
        pytest.skip("the photographs are not beside this checkout")
    found = read(clip.with_decoding(decoding), *paths)
    assert disagreement(clip, found, [theirs(clip, path) for path in paths]) < 1e-6
    reader = replace(clip.reader, fit=replace(clip.reader.fit, height=224, width=224))
    found = [replace(reader, decoding=decoding).read(path)[0] for path in paths]
    assert disagreement(vit_b_32, found, [theirs(vit_b_32, path) for path in paths]) < 1e-6


def test_a_jpeg_that_only_pillow_can_read_is_read(clip, tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    photograph(310, 203).save(path)
    found = read(clip, path)
    from fiftyone_isoclip.encoder import jpeg

    def fails(*args, **kwargs):
        raise ValueError("unsupported")

    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", fails)
    assert torch.equal(read(clip, path)[0], found[0])


def test_a_model_that_does_more_than_resize_gets_open_clips_own_pixels(clip, tmp_path):
    path = tmp_path / "a.jpg"
    photograph(310, 203).save(path)
    reader = replace(clip.reader, fit=None, decoding="fast")
    (found,) = reader.read(path)
    assert torch.equal(found, clip.preprocess(read_image(path)))


def test_one_bad_box_and_a_bad_file(clip, tmp_path):
    photograph(60, 40).save(tmp_path / "a.jpg")
    good, bad = clip.reader.read(tmp_path / "a.jpg", [None, (2, 2, 1, 1)])
    assert isinstance(good, torch.Tensor)
    assert "outside the picture" in bad
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    assert all("truncated" in why for why in clip.reader.read(tmp_path / "b.jpg", [None, None]))


def test_a_reader_can_be_sent_to_another_process(clip, tmp_path):
    photograph(60, 40).save(tmp_path / "a.jpg")
    reader = pickle.loads(pickle.dumps(clip.reader))
    assert torch.equal(reader.read(tmp_path / "a.jpg")[0], read(clip, tmp_path / "a.jpg")[0])


def test_an_unknown_decoding_is_refused():
    with pytest.raises(IsoClipError, match="'quick' was asked for; choose exact or fast"):
        load_clip("isoclip-demo", device="cpu", decoding="quick")
