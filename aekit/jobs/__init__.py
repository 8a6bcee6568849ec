"""Jobs: compress, reconstruct and denoise whole sources, batch by batch, in bounded memory.

The public names load on first use, so that importing this package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aekit.jobs.compression import compress
    from aekit.jobs.denoising import denoise
    from aekit.jobs.job import Summary
    from aekit.jobs.options import JobOptions
    from aekit.jobs.reconstruction import reconstruct

__all__ = ["JobOptions", "Summary", "compress", "denoise", "reconstruct"]

_HOMES = {
    "JobOptions": "aekit.jobs.options",
    "Summary": "aekit.jobs.job",
    "compress": "aekit.jobs.compression",
    "denoise": "aekit.jobs.denoising",
    "reconstruct": "aekit.jobs.reconstruction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aekit.jobs' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
