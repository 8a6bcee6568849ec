"""Jobs: compress, reconstruct and denoise whole sources, and make messages of them, batch by batch, in bounded memory.

The public names load on first use, so that importing this package is cheap.
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.jobs.compression import compress
    from aekit.jobs.denoising import denoise
    from aekit.jobs.job import Summary
    from aekit.jobs.messages import compress_to_messages, reconstruct_messages
    from aekit.jobs.options import JobOptions
    from aekit.jobs.reconstruction import reconstruct

__all__ = [
    "JobOptions",
    "Summary",
    "compress",
    "compress_to_messages",
    "denoise",
    "reconstruct",
    "reconstruct_messages",
]

_HOMES = {
    "JobOptions": "aekit.jobs.options",
    "Summary": "aekit.jobs.job",
    "compress": "aekit.jobs.compression",
    "compress_to_messages": "aekit.jobs.messages",
    "denoise": "aekit.jobs.denoising",
    "reconstruct": "aekit.jobs.reconstruction",
    "reconstruct_messages": "aekit.jobs.messages",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
