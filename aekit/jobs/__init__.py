"""Jobs: compress, reconstruct and denoise whole sources, block by block, in bounded memory."""

from aekit.jobs.job import Summary, compress, denoise, reconstruct

__all__ = ["Summary", "compress", "denoise", "reconstruct"]
