"""What `isoclip doctor` looks at before a user has to wonder."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.installation import (
    app_address,
    bundled_mongod,
    database_uri,
    is_recent,
    mongod_version,
    open_doors,
    plugins_dir,
)

PACKAGE = "fiftyone-isoclip"
TOLD = ("fiftyone", "torch", "torchvision", "open_clip_torch", "faiss-cpu")
PYTHONS = ((3, 10), (3, 12))
PATIENCE = 3.0
"""Seconds for an address that may not answer."""

_DATABASE_REMEDY = (
    "start MongoDB 6.0 or newer and set FIFTYONE_DATABASE_URI to its address; in a checkout, "
    "`make mongod` provides one"
)
_TORCH_REMEDY = "install torch and torchvision together, from one place and of one release"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at.

    Attributes:
        name: What was looked at.
        state: "fail" is what keeps this package from working, "warn" is what one should know.
        found: What is there.
        advice: What to do about it; empty when there is nothing to do.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def diagnose() -> list[Finding]:
    """Look at everything this package needs on a machine; no finding raises."""
    return [
        _python(),
        *(_package(name) for name in TOLD),
        _torch(),
        _device(),
        _database(),
        _hub(),
        _plugin(),
        _app(),
        _own_files(),
    ]


def _python() -> Finding:
    found = platform.python_version()
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", "ok", found)
    return Finding("Python", "fail", found, "use Python 3.10, 3.11 or 3.12")


def _package(name: str) -> Finding:
    bounds = _bounds(name)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", f"run `pip install '{name}{bounds}'`")
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(bounds).contains(found, prereleases=True):
        return Finding(name, "ok", found)
    return Finding(name, "fail", f"{found} is not {bounds}", f"run `pip install '{name}{bounds}'`")


def _bounds(name: str) -> str:
    """What this package asks of another, such as ">=3.3,<4"; empty in a copied plugin folder."""
    try:
        asked = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return ""
    found = (re.fullmatch(rf"{re.escape(name)}\s*([<>=!~][^;]*)", one) for one in asked)
    return next((match.group(1).strip() for match in found if match), "")


def _torch() -> Finding:
    try:
        import torch
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("torch with torchvision", "fail", _first_line(error), _TORCH_REMEDY)
    pair = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return Finding("torch with torchvision", "ok", f"{pair} fit together")


def _device() -> Finding:
    try:
        import torch

        from fiftyone_isoclip.encoder.devices import choose_device, choose_precision
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("device", "fail", _first_line(error), _TORCH_REMEDY)
    device = choose_device()
    precision = choose_precision("auto", device)
    if device.type == "cuda":
        return Finding("device", "ok", f"{torch.cuda.get_device_name(device)}, {precision}")
    if shutil.which("nvidia-smi"):
        advice = "install a torch that is built for the GPU driver's CUDA version"
        found = f"{device.type}, {precision}; an NVIDIA driver is here, but torch sees no GPU"
        return Finding("device", "warn", found, advice)
    return Finding("device", "ok", f"{device.type}, {precision}, {torch.get_num_threads()} threads")


def _database() -> Finding:
    try:
        uri, binary = database_uri(), bundled_mongod()
    except IsoClipError as error:
        return Finding("database", "fail", str(error), _DATABASE_REMEDY)
    if uri:
        return _server(uri)
    version = mongod_version(binary)
    if version is None:
        return Finding("database", "fail", f"no mongod runs at {binary}", _DATABASE_REMEDY)
    return Finding("database", "ok", f"mongod {version}, started by FiftyOne")


def _server(uri: str) -> Finding:
    import pymongo
    from pymongo.errors import PyMongoError

    wait = int(PATIENCE * 1000)
    try:
        with pymongo.MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=wait) as client:
            version = str(client.server_info()["version"])
    except PyMongoError as error:
        found = f"the MongoDB at {_without_password(uri)} does not answer: {_first_line(error)}"
        return Finding("database", "fail", found, _DATABASE_REMEDY)
    found = f"MongoDB {version} at {_without_password(uri)}"
    if is_recent(version):
        return Finding("database", "ok", found)
    return Finding("database", "fail", found, _DATABASE_REMEDY)


def _hub() -> Finding:
    from huggingface_hub import constants

    advice = (
        "the checkpoint `isoclip-demo` comes with the package and works without; for any other, "
        "name a file: `ViT-B-32//path/to/weights.safetensors`"
    )
    if constants.HF_HUB_OFFLINE:
        return Finding("model hub", "warn", "switched off by HF_HUB_OFFLINE", advice)
    # The address is the user's own setting.
    asking = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
    try:
        urllib.request.urlopen(asking, timeout=PATIENCE).close()  # noqa: S310
    except urllib.error.HTTPError:
        pass  # it answered, and that is what was asked
    except (OSError, ValueError) as error:
        found = f"{constants.ENDPOINT} does not answer: {_first_line(error)}"
        return Finding("model hub", "warn", found, advice)
    return Finding("model hub", "ok", f"{constants.ENDPOINT} answers")


def _plugin() -> Finding:
    from fiftyone_isoclip.install import plugin_status

    try:
        status = plugin_status(plugins_dir())
    except IsoClipError as error:
        return Finding("App plugin", "fail", str(error))
    found = f"{status.version} in {status.path}" if status.path else "not installed"
    return Finding("App plugin", "warn" if status.problem else "ok", found, status.problem or "")


def _app() -> Finding:
    try:
        address, doors = app_address(), open_doors(app_address())
    except IsoClipError as error:
        return Finding("App server", "fail", str(error))
    if doors:
        return Finding("App server", "warn", f"listens at {address}", "; ".join(doors))
    return Finding("App server", "ok", f"listens at {address}, to this machine only")


def _own_files() -> Finding:
    from fiftyone_isoclip.dataset.places import side_folder

    try:
        return Finding("own files", "ok", f"go to {side_folder()}")
    except IsoClipError as error:
        return Finding("own files", "fail", str(error))


def _without_password(uri: str) -> str:
    return re.sub(r"//[^@/]*@", "//", uri)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
