"""The entropy models that model.json keeps: frequency tables, and sometimes a context model. Archives use them."""

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aekit.codes.entropy import FrequencyTables
from aekit.errors import BundleError, TablesError, reason
from aekit.json_files import parse_json
from aekit.model.bundle import MANIFEST, Bundle

if TYPE_CHECKING:
    from aekit.codes.context.model import ContextModel

MAX_TABLES_DIM = 8192
"""Longest code whose frequency tables are kept in model.json; at this length they take at most 4 MB there."""
CONTEXT = "context"
"""Name of the context model in model.json."""
_DIMENSION_BYTES = 64 + 5 * 257
"""Most bytes of JSON that one dimension takes: its keys, and 256 frequencies and an escape of up to four digits."""
_DIMENSION_VALUES = 262
"""Most commas and brackets in the JSON of one dimension."""
_CONTEXT_BYTES, _CONTEXT_VALUES = 2**24, 2**22
"""Largest JSON of a context model, in bytes, and most commas and brackets in it."""


@dataclass(frozen=True)
class ModelTables:
    """A model's frequency tables, its context model if it has one, and the digest of both."""

    tables: FrequencyTables
    digest: str
    """Identity of the entropy models: the first 32 hexadecimal digits of the SHA-256 of their JSON, with sorted keys
    and no spaces. The JSON of the tables comes first; the JSON of the context model follows if there is one."""
    context: "ContextModel | None" = None


def read_tables(bundle: Bundle) -> ModelTables:
    """Unpack and check the entropy models in a bundle's model.json.

    Raises BundleError if there are no tables, or if an entropy model is damaged or does not fit the model.
    """
    where = f"{bundle.path / MANIFEST}: tables"
    code_dim = bundle.spec.code_dim
    if "tables" not in bundle.manifest:
        fix = "export the run again with this version of aekit"
        if code_dim > MAX_TABLES_DIM:
            fix = f"codes of over {MAX_TABLES_DIM:,} numbers can only be kept as .npy"
        raise BundleError(where, expected="frequency tables, which an archive needs", found="none", fix=fix)
    try:
        # A few KB can unpack to gigabytes, so the model's own code size bounds what is unpacked and parsed.
        most = code_dim * bundle.spec.qualities
        data = _unpacked(bundle.manifest["tables"], 256 + most * _DIMENSION_BYTES)
        values = parse_json(data, TablesError, "the tables", most_values=16 + most * _DIMENSION_VALUES)
        count = len(values["dimensions"])
        if count != most:
            raise BundleError(where, expected=f"tables of {most} dimensions", found=f"{count}")
        tables = FrequencyTables.from_dict(values, bundle.spec.qualities)
    except BundleError:
        raise
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, TablesError) as error:
        raise BundleError(where, expected="packed frequency tables", found=reason(error)) from error
    digest = hashlib.sha256(data)
    context = _read_context(bundle, digest) if CONTEXT in bundle.manifest else None
    return ModelTables(tables, digest.hexdigest()[:32], context)


def pack_tables(tables: "FrequencyTables | ContextModel") -> str:
    """Return an entropy model as model.json keeps it: JSON with sorted keys and no spaces, zlib, base64."""
    data = json.dumps(tables.to_dict(), sort_keys=True, separators=(",", ":")).encode("ascii")
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _read_context(bundle: Bundle, digest: Any) -> "ContextModel":
    """Unpack and check the context model, and add its JSON to the digest."""
    from aekit.codes.context.model import ContextModel

    where = f"{bundle.path / MANIFEST}: {CONTEXT}"
    try:
        data = _unpacked(bundle.manifest[CONTEXT], _CONTEXT_BYTES)
        values = parse_json(data, TablesError, "the context model", most_values=_CONTEXT_VALUES)
        if not isinstance(values, dict):
            raise TablesError("a context model must be a JSON object")
        model = ContextModel.from_dict(values, bundle.spec.qualities)
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, TablesError) as error:
        raise BundleError(where, expected="a packed context model", found=reason(error)) from error
    if model.channels != bundle.spec.code_dim:
        raise BundleError(where, expected=f"a model of {bundle.spec.code_dim} channels", found=str(model.channels))
    if not bundle.spec.is_grid and model.margin:
        raise BundleError(where, expected="a model that looks at one place, for vector codes", found="neighbours")
    digest.update(data)
    return model


def _unpacked(text: Any, most: int) -> bytes:
    """Return the bytes that base64 and zlib hold. Raises ValueError or zlib.error for damage and over `most` bytes."""
    stream = zlib.decompressobj()
    data = stream.decompress(base64.b64decode(text, validate=True), most)
    if not stream.eof:
        raise ValueError("a stream that is cut short or too long")
    return data
