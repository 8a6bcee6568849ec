"""The .aek archive: entropy-coded codes and the paths of their images in one file, as aekit/ARCHIVE.md specifies."""

from aekit.archive.reader import Archive, Entry
from aekit.archive.writer import ArchiveWriter, staged_archive

__all__ = ["Archive", "ArchiveWriter", "Entry", "staged_archive"]
