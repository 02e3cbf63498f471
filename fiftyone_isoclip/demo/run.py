"""The demonstration: a dataset with planted copies, everything done to it, and the App on it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset import (
    build_similarity,
    embed,
    find_clusters,
    find_duplicates,
    load_model,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, read_origin
from fiftyone_isoclip.dataset.groups import DEFAULT_KEY
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.thresholds import room_below
from fiftyone_isoclip.demo.pictures import ORIGINAL, Picture, make_pictures
from fiftyone_isoclip.demo.summary import DemoSummary, Score, score_duplicates
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files import list_images
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.install import install_plugin, plugin_status
from fiftyone_isoclip.installation import LOOPBACK, open_doors

DATASET_NAME = "isoclip-demo"
BRAIN_KEY = "isoclip_search"

_MADE_BY = "isoclip_demo"


def run_demo(
    folder: Path | None = None,
    *,
    name: str | None = None,
    model: str = DEMO_NAME,
    similarity: float = DEFAULT_SIMILARITY,
) -> DemoSummary:
    """Make a dataset, embed it, find duplicates and clusters, and build a similarity index.

    The dataset persists, and running again reuses whatever is still current. Without a folder it
    holds photographs that come with installed packages, planted copies of them, and rendered
    scenes; the fields ``source_group``, ``copy_kind`` and ``caption`` tell the truth about each.

    Args:
        folder: pictures of your own, which are read where they are and not copied.
        name: of the dataset; None names it after the folder.
        model: a checkpoint name.
        similarity: the cosine from which two images are duplicates.

    Raises:
        DatasetError: a dataset of that name exists and is none of the demonstration's.
        IsoClipError: the folder holds no images, or the checkpoint cannot be loaded.
    """
    watch = _Watch()
    with watch("pictures"):
        pictures, unnameable = _pictures(folder)
    name = name or _default_name(folder)
    with watch("dataset"):
        dataset = _open_dataset(name, str(folder or _own_folder()), pictures)
    with watch("model"):
        clip = load_model(model).clip
    with watch("embeddings"):
        made = read_origin(dataset, DEFAULT_FIELD)
        other = made is not None and made.fingerprint != clip.fingerprint
        embedded = embed(dataset, model, overwrite=other)
    with watch("duplicates"):
        found = find_duplicates(dataset, similarity=similarity, least=room_below(similarity))
    with watch("clusters"):
        clusters = find_clusters(dataset)
    with watch("index"):
        if dataset.has_brain_run(BRAIN_KEY):
            dataset.delete_brain_run(BRAIN_KEY)
        build_similarity(dataset, model, brain_key=BRAIN_KEY)
    planted = sum(picture.copy_kind != ORIGINAL for picture in pictures)
    score = score_duplicates(found, pictures) if planted else Score(None, None, {})
    paths = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
    return DemoSummary(
        dataset=name,
        folder=str(folder or _own_folder()),
        images=len(pictures) + len(unnameable),
        planted=planted,
        failed={paths[id_]: why for id_, why in embedded.failed.items()} | unnameable,
        groups=len(found.groups),
        duplicates=found.n_duplicates,
        precision=score.precision,
        recall=score.recall,
        recall_by_kind=score.recall_by_kind,
        clusters=len(clusters.clusters),
        similarity=similarity,
        band=found.band,
        model=model,
        device=embedded.device,
        brain_key=BRAIN_KEY,
        seconds=watch.seconds,
    )


def open_app(
    name: str,
    *,
    key: str = DEFAULT_KEY,
    address: str = LOOPBACK,
    port: int | None = None,
    wait: bool = True,
) -> Any:
    """Show the groups of duplicates of a dataset in the App; -> its session.

    Installs the App's plugin if it is missing or of another version, and tells who else can reach
    the App, which by default only this machine can, whatever FiftyOne is configured to.

    Args:
        name: of the dataset.
        key: the saved view of its duplicates.
        address: at which the App's server listens.
        port: of the App's server; None for FiftyOne's configured one.
        wait: whether to return only once the App is closed, or Ctrl-C is pressed.

    Raises:
        DatasetError: there is no such dataset or view.
        IsoClipError: the plugin cannot be installed.
    """
    if not fo.dataset_exists(name):
        raise DatasetError(f"there is no dataset {name!r}; run `isoclip demo` first")
    dataset = fo.load_dataset(name)
    if not dataset.has_saved_view(key):
        raise DatasetError(f"dataset {name!r} has no duplicates {key!r}; find them first")
    if plugin_status(fo.config.plugins_dir).problem:
        print(f"the App's plugin is now in {install_plugin(fo.config.plugins_dir)}")
    for door in open_doors(address):
        print(f"Beware: {door}.")
    # Where there is no screen, FiftyOne tells how to reach the App from another machine.
    remote, view = not _has_screen(), dataset.load_saved_view(key)
    session = fo.launch_app(view=view, address=address, port=port, remote=remote)
    print(f"The App is at http://{address}:{session.server_port}/datasets/{name}")
    if wait:
        _wait(session)
    return session


def _has_screen() -> bool:
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _wait(session: Any) -> None:
    print("Press Ctrl-C to end it.")
    try:
        session.wait(-1)
    except KeyboardInterrupt:
        session.close()


def _own_folder() -> Path:
    return side_folder() / "demo"


def _default_name(folder: Path | None) -> str:
    return DATASET_NAME if folder is None else f"{DATASET_NAME}-{folder.resolve().stem}"


def _pictures(folder: Path | None) -> tuple[list[Picture], dict[str, str]]:
    """The pictures, and those that no database can hold, with the reason."""
    if folder is None:
        return make_pictures(_own_folder()), {}
    paths = [str(Path(path).absolute()) for path in list_images(folder)]
    fine = [path for path in paths if _is_utf8(path)]
    if not fine:
        raise DatasetError(f"{folder} holds no images; give a folder with images in it")
    reason = "its name is not UTF-8, which the database needs; rename the file"
    return [Picture(path) for path in fine], dict.fromkeys(set(paths) - set(fine), reason)


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _open_dataset(name: str, source: str, pictures: Sequence[Picture]) -> fo.Dataset:
    """The dataset of exactly these pictures; those that were there already stay as they are."""
    wanted = {picture.path: picture for picture in pictures}
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        if _MADE_BY not in dataset.info:
            raise DatasetError(
                f"a dataset {name!r} exists and the demonstration did not make it; "
                "choose another name, or delete it first"
            )
        if dataset.info[_MADE_BY] != source:
            raise DatasetError(
                f"the dataset {name!r} holds the pictures of {dataset.info[_MADE_BY]}; "
                "choose another name, or delete it first"
            )
    else:
        dataset = fo.Dataset(name, persistent=True)
        dataset.info = {_MADE_BY: source}
        dataset.save()
    held = dict(zip(*dataset.values(["filepath", "id"]), strict=True))
    dataset.delete_samples([id_ for path, id_ in held.items() if path not in wanted])
    new = [_sample(picture) for path, picture in wanted.items() if path not in held]
    if new:
        dataset.add_samples(new, progress=False)
    return dataset


def _sample(picture: Picture) -> fo.Sample:
    truth = {"source_group": picture.source_group, "caption": picture.caption}
    if picture.source_group:
        truth["copy_kind"] = picture.copy_kind
    known = {name: value for name, value in truth.items() if value}
    return fo.Sample(filepath=picture.path, **known)


class _Watch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - started
