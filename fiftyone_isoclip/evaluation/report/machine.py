"""Where and with which versions a result was made, without loading what is named."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "fiftyone-isoclip",
    "torch",
    "open_clip_torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "faiss-cpu",
    "pillow",
)


def describe_machine() -> dict[str, str]:
    """Versions of the packages that results depend on, the system and the processor."""
    return {
        **{name: _version(name) for name in _PACKAGES},
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # another distribution of the same package, such as faiss-gpu
        return "of another distribution"


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
