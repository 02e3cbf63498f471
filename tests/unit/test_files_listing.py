"""A listing names every image once, whatever it is called and however it is reached."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files import content_hash, find_exact_copies, list_files, list_images


def _touch(path: Path, content: bytes = b"x") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_a_folder_is_read_recursively_and_sorted_by_path(tmp_path: Path) -> None:
    images = [_touch(tmp_path / name) for name in ("b.JPG", "a/z.png", "a.webp", "c/d/e.tiff")]
    for other in ("notes.txt", ".hidden.jpg", ".git/x.jpg", "jpg"):
        _touch(tmp_path / other)
    assert list_images(tmp_path) == sorted(images)


def test_a_real_file_is_listed_once_and_its_other_names_are_aliases(tmp_path: Path) -> None:
    first = _touch(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "c.jpg").hardlink_to(first)
    _touch(tmp_path / "d.jpg")  # a copy by content is another file
    listing = list_files(tmp_path)
    assert listing.paths == (first, str(tmp_path / "d.jpg"))
    assert listing.aliases == (str(tmp_path / "b.jpg"), str(tmp_path / "c.jpg"))


def test_the_same_line_twice_is_an_alias(tmp_path: Path) -> None:
    image = _touch(tmp_path / "a.jpg")
    listed = tmp_path / "list.txt"
    listed.write_text(f"a.jpg\n\n{image}\nmissing.jpg\n")
    listing = list_files(listed)
    assert listing.paths == (image, str(tmp_path / "missing.jpg"))
    assert listing.aliases == (image,)


def test_folders_reached_twice_or_in_a_circle_are_entered_once(tmp_path: Path) -> None:
    elsewhere = _touch(tmp_path / "elsewhere" / "a.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(Path(elsewhere).parent)
    (root / "link2").symlink_to(Path(elsewhere).parent)
    (root / "up").symlink_to(root)
    assert list_images(root) == [str(root / "link" / "a.jpg")]


def test_f04_a_dangling_link_and_a_loop_stay_to_fail_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert [Path(path).name for path in list_images(tmp_path)] == ["gone.jpg", "loop.jpg"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down to another user")
def test_a_folder_that_cannot_be_entered_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    _touch(closed / "a.jpg")
    image = _touch(tmp_path / "b.jpg")
    tmp_path.chmod(0o755)
    closed.chmod(0o700)
    reachable = {parent: parent.stat().st_mode for parent in tmp_path.parents[:2]}
    for parent in reachable:
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        listing = list_files(tmp_path)
    finally:
        os.seteuid(0)
        for parent, mode in reachable.items():
            parent.chmod(mode)
    assert listing.paths == (image,)
    assert listing.unreadable == {str(closed): "the folder cannot be read: Permission denied"}


@pytest.mark.parametrize(
    "name",
    [
        "søster.jpg",
        "two words.jpg",
        "new\nline.jpg",
        "quo\"te'.jpg",
        "[bold]x.jpg",
        "a" * 251 + ".jpg",
    ],
)
def test_f07_odd_names_survive_a_folder_and_json(tmp_path: Path, name: str) -> None:
    image = _touch(tmp_path / name)
    assert json.loads(json.dumps(list_images(tmp_path))) == [image]


def test_f07_names_that_are_not_utf8_and_hold_newlines_go_through_a_null_list(
    tmp_path: Path,
) -> None:
    names = [b"b\xff.jpg", b"two\nlines.jpg", b" spaced .jpg"]
    images = [_touch(tmp_path / os.fsdecode(name)) for name in names]
    listed = tmp_path / "list"
    listed.write_bytes(b"\0".join(names) + b"\0")
    assert list_images(listed) == images
    assert json.loads(json.dumps(images)) == images


def test_a_list_may_come_from_windows(tmp_path: Path) -> None:
    images = [_touch(tmp_path / name) for name in ("b.jpg", "sub/a.jpg")]
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfb.jpg\r\nsub/a.jpg\r\n")
    assert list_images(listed) == images


def test_a_single_image_is_a_listing_of_one(tmp_path: Path) -> None:
    image = _touch(tmp_path / "a.png")
    assert list_images(image) == [image]


def test_an_empty_folder_and_an_empty_list_are_empty(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("\n")
    assert list_images(listed) == list_images(tmp_path) == []


def test_what_cannot_be_listed_is_explained(tmp_path: Path) -> None:
    with pytest.raises(IsoClipError, match="does not exist"):
        list_files(tmp_path / "nowhere")
    garbage = tmp_path / "weights.bin"
    garbage.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(IsoClipError, match=r"none of its .* names an"):
        list_files(garbage)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(IsoClipError, match="neither a folder nor a file"):
        list_files(pipe)


def test_exact_copies_share_all_their_bytes(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"one", b"", b"", b"a longer one", b"two"]
    paths = [_touch(tmp_path / f"{place}.jpg", data) for place, data in enumerate(contents)]
    paths += [str(tmp_path / "missing.jpg"), str(tmp_path)]
    assert find_exact_copies(paths) == [[0, 2], [1, 6], [3, 4]]
    assert content_hash(paths[0]) == content_hash(paths[2]) != content_hash(paths[1])


def test_f04_pipes_are_never_opened_to_look_for_copies(tmp_path: Path) -> None:
    pipes = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for pipe in pipes:
        os.mkfifo(pipe)
    assert find_exact_copies([str(pipe) for pipe in pipes]) == []


def test_the_name_of_a_file_is_preferred_to_a_link_that_sorts_before_it(tmp_path: Path) -> None:
    image = _touch(tmp_path / "b.jpg")
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    listing = list_files(tmp_path)
    assert (listing.paths, listing.aliases) == ((image,), (str(tmp_path / "a.jpg"),))
