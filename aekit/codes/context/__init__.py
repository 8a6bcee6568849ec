"""Context model of grid codes: fewer bits than static tables, and the same symbols on every machine.

The public names load on first use:

    ContextModel  order of channels, networks and tables; to_dict and from_dict
    encode        codes of several pictures to bytes
    decode        the bytes back to codes
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.codes.context.coder import decode, encode
    from aekit.codes.context.model import ContextModel

__all__ = ["ContextModel", "decode", "encode"]

_HOMES = {
    "ContextModel": "aekit.codes.context.model",
    "decode": "aekit.codes.context.coder",
    "encode": "aekit.codes.context.coder",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
