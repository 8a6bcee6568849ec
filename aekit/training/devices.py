"""Choose the device to train on, and the precision."""

import torch

from aekit.errors import OptionError


def choose_device(name: str) -> str:
    """Return the torch device for `auto`, `cpu`, `cuda` or `mps`. Raises OptionError if this machine lacks it."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"  # mps only on request: it is untested
    if not there.get(name):
        found = ", ".join(device for device, is_there in there.items() if is_there)
        raise OptionError(f"--device {name}", expected="auto, cpu, cuda or mps", found=f"{found} on this machine")
    return name


def choose_precision(device: str) -> str:
    """Return `bf16` if the device multiplies bfloat16 matrices faster than float32 ones, else `fp32`."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # A processor without the bfloat16 instruction converts each operand, which takes longer.
    return "bf16" if device == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"
