"""The form in which a job writes pictures, decided from the name of its output. Importing this file loads no numpy."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ARRAY_SUFFIX = ".npy"
"""Suffix of an output that holds all pictures in one array, uint8 [n, H, W, C]."""
MARKER = "aekit.json"
"""Name of the file in a folder of pictures that says what made them. Only a folder with this file is ever replaced."""
OUT_HELP = f"Folder for PNG files, in the folder tree of the source; or a name ending in {ARRAY_SUFFIX}, for one array."
"""Help of the option --out of commands that write pictures."""


@dataclass(frozen=True)
class PictureOutput:
    """Where pictures go, and in which form."""

    out: Path
    is_array: bool
    """Whether all pictures become one array; otherwise each becomes a file in a folder."""

    def check_free(self, *, overwrite: bool, known: Collection[int] = ()) -> None:
        """Raise OutputError or OutputExists if something lies at `out` that may not be replaced."""
        from aekit.outputs.staging import check_folder_free, check_free

        if self.is_array:
            check_free(self.out, overwrite=overwrite, known=known)
        else:
            check_folder_free(self.out, MARKER, overwrite=overwrite)


def picture_output(out: Path) -> PictureOutput:
    """Return the form of pictures written to `out`: an array if the name ends in .npy, else a folder of PNG files."""
    return PictureOutput(out, out.suffix == ARRAY_SUFFIX)
