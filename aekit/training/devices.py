"""Choose the device to train on, and the precision."""

import re

import torch

from aekit.errors import OptionError, nearest

KINDS = ("auto", "cpu", "cuda", "mps")
"""Names of devices; a number may follow cuda."""
DEVICES = "auto, cpu, cuda, cuda:N or mps"
"""What --device takes, in words."""


def choose_device(name: str) -> str:
    """Return the torch device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises OptionError if this machine lacks it, or `name` is another text.
    """
    kind, _, number = name.partition(":")
    if kind not in KINDS or (number and (kind != "cuda" or not re.fullmatch(r"\d{1,3}", number))):
        raise OptionError(f"--device {name}"[:80], expected=DEVICES, fix=nearest(kind, KINDS))
    if number and int(number) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices on this machine"
        raise OptionError(f"--device {name}", expected="the number of a CUDA device, from 0", found=found)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"  # mps only on request: it is untested
    if not there[kind]:
        found = ", ".join(device for device, is_there in there.items() if is_there)
        raise OptionError(f"--device {name}", expected=DEVICES, found=f"{found} on this machine")
    return name


def choose_precision(device: str) -> str:
    """Return `bf16` if the device multiplies bfloat16 matrices faster than float32 ones, else `fp32`."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # A processor without the bfloat16 instruction converts each operand, which takes longer.
    return "bf16" if device == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"
