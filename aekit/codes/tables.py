"""The frequency tables that model.json keeps: the entropy coder of archives uses them."""

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass

from aekit.codes.entropy import FrequencyTables
from aekit.errors import BundleError, TablesError, reason
from aekit.json_files import parse_json
from aekit.model.bundle import MANIFEST, Bundle

MAX_TABLES_DIM = 8192
"""Longest code whose frequency tables are kept in model.json; at this length they take at most 4 MB there."""
_DIMENSION_BYTES = 64 + 5 * 257
"""Most bytes of JSON that one dimension takes: its keys, and 256 frequencies and an escape of up to four digits."""
_DIMENSION_VALUES = 262
"""Most commas and brackets in the JSON of one dimension."""


@dataclass(frozen=True)
class ModelTables:
    """A model's frequency tables and their digest."""

    tables: FrequencyTables
    digest: str
    """Identity of the tables: the first 32 hexadecimal digits of the SHA-256 of their JSON, with sorted keys and no
    spaces."""


def read_tables(bundle: Bundle) -> ModelTables:
    """Unpack and check the frequency tables in a bundle's model.json.

    Raises BundleError if there are none, if they are damaged, or if they do not fit the model.
    """
    where = f"{bundle.path / MANIFEST}: tables"
    if "tables" not in bundle.manifest:
        fix = "export the run again with this version of aekit"
        if bundle.spec.code_dim > MAX_TABLES_DIM:
            fix = f"codes of over {MAX_TABLES_DIM:,} numbers can only be kept as .npy"
        raise BundleError(where, expected="frequency tables, which an archive needs", found="none", fix=fix)
    code_dim = bundle.spec.code_dim
    try:
        packed = base64.b64decode(bundle.manifest["tables"], validate=True)
        stream = zlib.decompressobj()
        # A few KB can unpack to gigabytes, so the model's own code size bounds what is unpacked and parsed.
        data = stream.decompress(packed, 256 + code_dim * _DIMENSION_BYTES)
        if not stream.eof:
            raise ValueError("a stream that is cut short or too long")
        values = parse_json(data, TablesError, "the tables", most_values=16 + code_dim * _DIMENSION_VALUES)
        count = len(values["dimensions"])
        if count != code_dim:
            raise BundleError(where, expected=f"tables of {code_dim} dimensions", found=f"{count}")
        tables = FrequencyTables.from_dict(values)
    except BundleError:
        raise
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, TablesError) as error:
        raise BundleError(where, expected="packed frequency tables", found=reason(error)) from error
    return ModelTables(tables, hashlib.sha256(data).hexdigest()[:32])


def pack_tables(tables: FrequencyTables) -> str:
    """Return tables as model.json keeps them: JSON with sorted keys and no spaces, compressed by zlib, in base64."""
    data = json.dumps(tables.to_dict(), sort_keys=True, separators=(",", ":")).encode("ascii")
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
