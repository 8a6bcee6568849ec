"""The frequency tables of a model, as model.json keeps them: what an archive's codes are entropy-coded with."""

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass

from aekit.codes.entropy import FrequencyTables
from aekit.errors import BundleError, TablesError, reason
from aekit.model.bundle import MANIFEST, Bundle

MAX_TABLES_DIM = 8192
"""Longest code whose frequency tables a model keeps: at most 4 MB of them, as they are packed."""
_MAX_TABLES_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ModelTables:
    """A model's frequency tables and what identifies them."""

    tables: FrequencyTables
    digest: str
    """SHA-256 of the tables' JSON, keys sorted and without spaces, the first 32 hexadecimal digits."""


def read_tables(bundle: Bundle) -> ModelTables:
    """Unpack and check the frequency tables in a bundle's model.json.

    Raises BundleError if there are none, or none that fit the model.
    """
    where = f"{bundle.path / MANIFEST}: tables"
    if "tables" not in bundle.manifest:
        fix = "export the run again with this version of aekit"
        if bundle.spec.code_dim > MAX_TABLES_DIM:
            fix = f"codes of over {MAX_TABLES_DIM:,} numbers can be kept as .npy alone"
        raise BundleError(where, expected="frequency tables, which an archive needs", found="none", fix=fix)
    text = bundle.manifest["tables"]
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), _MAX_TABLES_BYTES)
        if not stream.eof:
            raise ValueError("a stream that is cut short or too long")
        tables = FrequencyTables.from_dict(json.loads(data))
    except (TypeError, ValueError, binascii.Error, zlib.error, RecursionError, TablesError) as error:
        raise BundleError(where, expected="packed frequency tables", found=reason(error)) from error
    if len(tables.frequencies) != bundle.spec.code_dim:
        found = f"{len(tables.frequencies)}"
        raise BundleError(where, expected=f"tables of {bundle.spec.code_dim} dimensions", found=found)
    return ModelTables(tables, hashlib.sha256(data).hexdigest()[:32])


def pack_tables(tables: FrequencyTables) -> str:
    """Frequency tables as model.json keeps them: their JSON, keys sorted and without spaces, in zlib, in base64."""
    data = json.dumps(tables.to_dict(), sort_keys=True, separators=(",", ":")).encode("ascii")
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
