"""The .aek archive: entropy-coded codes and the paths of their images in one file, as ARCHIVE.md specifies."""

from aekit.codes.archive.reader import Archive, Entry
from aekit.codes.archive.writer import ArchiveWriter, staged_archive

__all__ = ["Archive", "ArchiveWriter", "Entry", "staged_archive"]
