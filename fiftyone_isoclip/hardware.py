"""What this machine computes fast, asked of torch."""

from __future__ import annotations

_FAST_BF16 = ("avx512_bf16", "amx_bf16")
"""Instructions without which bf16 on a processor is emulated, and slower than float32."""


def processor_has_bf16() -> bool:
    """Whether products in bf16 are faster than in float32 on the processor."""
    import torch

    # Older releases of torch do not say what the processor can do; then float32 is the safe choice.
    ask = getattr(torch.cpu, "get_capabilities", None)
    able = ask() if ask is not None else {}
    return any(able.get(name, False) for name in _FAST_BF16)


def cuda_is_there() -> bool:
    """Whether torch can use a CUDA device."""
    import torch

    return bool(torch.cuda.is_available())
