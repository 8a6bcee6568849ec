"""Codes: the files that hold them, and the entropy coder behind the archive.

The public names load on first use, so that importing this package imports nothing else:

    open_codes       a code file of any format, opened for reading
    StoredCodes      what every open code file offers
    CodeFile         an .npy file of codes with its index
    Archive          an .aek file, opened for reading
    FrequencyTables  the tables of the entropy coder
    encode, decode   codes to bytes and back, with such tables
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.codes.archive import Archive
    from aekit.codes.entropy import FrequencyTables, decode, encode
    from aekit.codes.files import StoredCodes, open_codes
    from aekit.codes.npy import CodeFile

__all__ = ["Archive", "CodeFile", "FrequencyTables", "StoredCodes", "decode", "encode", "open_codes"]

_HOMES = {
    "Archive": "aekit.codes.archive",
    "CodeFile": "aekit.codes.npy",
    "FrequencyTables": "aekit.codes.entropy",
    "StoredCodes": "aekit.codes.files",
    "decode": "aekit.codes.entropy",
    "encode": "aekit.codes.entropy",
    "open_codes": "aekit.codes.files",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
