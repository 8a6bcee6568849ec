"""aekit: small autoencoders, trained with torch, shipped as two ONNX graphs, run with onnxruntime.

The public names load on first use, so that `import aekit` costs nothing and needs no torch:

    from aekit import Codec
    codec = Codec.load("model")
    codes = codec.encode(images)          # uint8 [n, H, W, C] -> float32 [n, D]
    images = codec.decode(codes)          # [n, D] -> uint8 [n, H, W, C]
    codes = Archive.open("codes.aek").codes()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aekit._version import __version__

if TYPE_CHECKING:
    from aekit.codes.archive import Archive
    from aekit.codes.npy import CodeFile
    from aekit.errors import AekitError
    from aekit.model.bundle import Bundle
    from aekit.model.codec import Codec
    from aekit.spec import Geometry, ModelSpec

__all__ = ["AekitError", "Archive", "Bundle", "CodeFile", "Codec", "Geometry", "ModelSpec", "__version__"]

_HOMES = {
    "AekitError": "aekit.errors",
    "Archive": "aekit.codes.archive",
    "Bundle": "aekit.model.bundle",
    "CodeFile": "aekit.codes.npy",
    "Codec": "aekit.model.codec",
    "Geometry": "aekit.spec",
    "ModelSpec": "aekit.spec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aekit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
