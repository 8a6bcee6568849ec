"""What the fuzz targets share: the class of a target, the tiny model, and codes to store."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aekit.errors import AekitError
from aekit.spec import Geometry

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
GEOMETRY = Geometry(16, 24, 3)
"""Geometry that images are decoded for."""
CODES = np.random.default_rng(0).normal(128, 30, (50, 4)).clip(0, 255).astype(np.uint8)
"""Codes of 50 images, uint8 [50, 4]."""


class Wrong(Exception):
    """An answer that should have been an error, or another one."""


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    seeds: list[bytes]
    """Good files."""
    run: Callable[[bytes], None]
    """Reads a changed one the way aekit does."""
    repair: Callable[[bytes], bytes] = bytes
    """Makes the checksums of a changed file fit again, so that the change gets past them; every second input has it."""


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def parsed(data: bytes) -> Any:
    """The JSON values in `data`; what is none is refused before aekit sees it."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AekitError("not JSON") from error


def repaired_zip(data: bytes) -> bytes:
    """A zip file whose stored members have the checksums that their bytes want; of one that is none, as it is."""
    out = bytearray(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            directory = archive.start_dir
            for member in archive.infolist():
                start = member.header_offset + 30 + sum(struct.unpack_from("<HH", data, member.header_offset + 26))
                if member.compress_type == zipfile.ZIP_STORED:
                    crc = struct.pack("<I", zlib.crc32(data[start : start + member.file_size]))
                    out[directory + 16 : directory + 20] = out[
                        member.header_offset + 14 : member.header_offset + 18
                    ] = crc
                lengths = struct.unpack_from("<HHH", data, directory + 28)
                directory += 46 + sum(lengths)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError):
        return data
    return bytes(out)
