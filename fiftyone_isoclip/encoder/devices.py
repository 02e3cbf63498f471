"""Where a tower runs and in which precision."""

from __future__ import annotations

import torch

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.hardware import processor_has_bf16

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(asked: str = "auto") -> torch.device:
    """Resolve ``auto`` to CUDA, else MPS, else the processor; check any other name.

    Raises:
        IsoClipError: the device does not exist on this machine.
    """
    if asked != "auto":
        return _checked(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> str:
    """Resolve ``auto`` to what the device is fast in; the final map stays float32 in any case.

    bf16 on CUDA that has it, fp16 on older CUDA, bf16 on processors with BF16 instructions,
    float32 elsewhere.

    Raises:
        IsoClipError: the precision is none of auto, float32, bf16, fp16.
    """
    if asked in DTYPES:
        return asked
    if asked != "auto":
        raise IsoClipError(f"precision {asked!r} was asked for; choose auto, {', '.join(DTYPES)}")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and processor_has_bf16() else "float32"


def _checked(asked: str) -> torch.device:
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise IsoClipError(
            f"device {asked!r} was asked for, but torch cannot use it here; "
            f"choose auto, which is {choose_device()}"
        ) from error
    return device
