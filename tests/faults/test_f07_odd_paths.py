"""A path may hold whatever the file system allows, at every door."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fiftyone.core.media import get_media_type

from fiftyone_isoclip.dataset import embed
from fiftyone_isoclip.encoder import embed_images, load_clip, read_image
from fiftyone_isoclip.errors import ImageError
from fiftyone_isoclip.files import list_images, rank_keepers
from tests.galleries import paint_picture
from tests.terminal import isoclip, sentence

pytestmark = pytest.mark.timeout(120)

NAMES = {
    "unicode": "søster 姉 🎞.png",
    "composed": unicodedata.normalize("NFC", "Å é.png"),
    "decomposed": unicodedata.normalize("NFD", "Å é.png"),
    "right to left": "\u202e\u05ea\u05de.png",
    "spaces": "  two  words .png",
    "newline": "new\nline.png",
    "carriage return": "a\r\nb.png",
    "tab and bell": "a\tb\a.png",
    "quotes": "quo\"te' `x`.png",
    "percent": "100%20%s%.png",
    "leading dash": "--model=x.png",
    "255 bytes": "x" * 251 + ".png",
    "255 bytes of unicode": "ø" * 125 + "x.png",
    "markup": "[red]a[/red] [link=file:x].png",
    "variable": "$HOME ${PATH} ~.png",
    "glob": "*?[a-z]{b,c}.png",
    "backslash": "a\\b\\n.png",
    "colon and bars": "C:|a|b<c>&;.png",
    "trailing dot": "a.png./a.png",
    "trailing space": "folder /b.png",
    "not utf-8": os.fsdecode(b"b\xff\xfe.png"),
    "deep": "/".join(["d" * 200] * 17) + "/deep.png",
    "many suffixes": "a.tar.gz.PNG",
    "control characters": "a\x01\x7f\x1b[31m.png",
    "line separators": "a\u2028b\x85c\x0cd.png",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Each name with a picture of its own: kind -> path."""
    folder = tmp_path_factory.mktemp("odd")
    found = {kind: folder / name for kind, name in NAMES.items()}
    for seed, path in enumerate(found.values()):
        path.parent.mkdir(parents=True, exist_ok=True)
        paint_picture(seed).save(path)
    return {kind: str(path) for kind, path in found.items()}


@pytest.fixture(scope="module")
def root(odd):
    return Path(odd["unicode"]).parent


@pytest.fixture(scope="module")
def clip():
    return load_clip("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def expected(odd, clip):
    """The embeddings of the pictures from where their names are plain: (n, dim)."""
    pictures = [np.array(paint_picture(seed)) for seed in range(len(odd))]
    return np.concatenate([clip.image_embeddings(clip.reader(p)[None]) for p in pictures])


def _same(found, wanted):
    return np.abs(np.asarray(found) - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", NAMES)
def test_f07_the_picture_is_read(kind, odd):
    right = np.asarray(paint_picture(list(NAMES).index(kind)))
    for path in (odd[kind], Path(odd[kind])):
        assert np.array_equal(np.asarray(read_image(path)), right)


def test_f07_a_folder_lists_every_name_as_it_is(odd, root):
    assert sorted(list_images(root)) == sorted(odd.values())


def test_f07_a_list_file_may_hold_every_name(odd, root, tmp_path):
    listed = tmp_path / "list"
    listed.write_bytes(b"\0".join(os.fsencode(path) for path in odd.values()) + b"\0")
    assert list_images(listed) == list(odd.values())
    relative = [os.path.relpath(path, tmp_path) for path in odd.values() if "\n" not in path]
    listed.write_bytes(b"\n".join(os.fsencode(path) for path in relative))
    assert [os.path.realpath(path) for path in list_images(listed)] == [
        path for path in odd.values() if "\n" not in path
    ]


def test_f07_each_is_embedded_and_named_in_the_stored_file(odd, root, expected, tmp_path):
    done = isoclip("embed", root, "--out", tmp_path / "e.npz", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "r.json").read_text())["embedded"] == len(odd)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        found = dict(zip(stored["paths"].tolist(), stored["embeddings"], strict=True))
    rows = np.stack([found[path] for path in odd.values()])
    # A command may run in half precision.
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((rows * expected).sum(axis=1) / lengths).min() > 0.999


def test_f07_reports_name_each_exactly_and_the_screen_stays_in_its_lines(odd, root, tmp_path):
    copies = tmp_path / "copies"
    for kind, path in odd.items():
        (copies / kind).mkdir(parents=True)
        (copies / kind / "plain.png").write_bytes(Path(path).read_bytes())
    listed = tmp_path / "list"
    every = [*odd.values(), *(str(copies / kind / "plain.png") for kind in odd)]
    listed.write_bytes(b"\0".join(map(os.fsencode, every)))
    done = isoclip("duplicates", listed, "--similarity", "1", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    groups = json.loads((tmp_path / "r.json").read_text())["groups"]
    pairs = {
        frozenset([group["keeper"], *(member["path"] for member in group["members"])])
        for group in groups
    }
    assert pairs == {frozenset((odd[k], str(copies / k / "plain.png"))) for k in odd}
    assert not set(done.output) & set("\x07\x1b\x01\x7f\r\u2028\x85\x0c\u202e")


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind != "deep"])
def test_f07_a_command_takes_the_name(kind, odd, tmp_path, monkeypatch):
    path = Path(odd[kind])
    monkeypatch.chdir(path.parent)
    done = isoclip("embed", "--out", tmp_path / "e.npz", "--", path.name)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        assert stored["paths"].tolist() == [path.name]


def test_f07_samples_may_have_every_name_that_mongodb_can_hold(odd, expected, clip, dataset, fill):
    kinds = [kind for kind in odd if kind != "not utf-8"]  # BSON strings are UTF-8
    paths = [odd[kind] for kind in kinds]
    assert {get_media_type(path) for path in paths} == {"image"}
    fill(paths)
    assert dataset.values("filepath") == paths
    assert embed(dataset, clip, progress=False).failed == {}
    rows = [list(odd).index(kind) for kind in kinds]
    assert _same(dataset.values("clip_embedding"), expected[rows])


def test_f07_keepers_of_twins_in_unicode_are_told_apart(odd):
    twins = [odd["composed"], odd["decomposed"]]
    assert twins[0] != twins[1]
    assert unicodedata.normalize("NFC", twins[1]) == twins[0]
    assert sorted(rank_keepers(twins, "largest").prefer) == [0, 1]


def test_f07_crops_and_batches_name_nothing_wrong(odd, clip, expected):
    paths = list(odd.values())
    (*batches,) = embed_images(clip, paths, batch_size=4)
    assert all(batch.failures == {} for batch in batches)
    assert _same(np.concatenate([batch.embeddings for batch in batches]), expected)


def test_f07_a_path_longer_than_the_system_takes_has_a_reason(tmp_path):
    with pytest.raises(ImageError, match="file name too long"):
        read_image(tmp_path / ("x" * 300))
    with pytest.raises(ImageError, match="file name too long"):
        read_image("/".join([str(tmp_path), *["x" * 200] * 30]))
    assert "too long" in sentence(isoclip("embed", "x" * 300, "--out", tmp_path / "e.npz")).lower()
