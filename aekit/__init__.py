"""aekit: small autoencoders, trained with torch, shipped as two ONNX graphs, run with onnxruntime.

The public names load on first use, so that `import aekit` costs nothing and needs no torch:

    from aekit import Codec
    codec = Codec.load("model")
    codes = codec.encode(images)          # uint8 [n, H, W, C] -> float32 [n, D]
    images = codec.decode(codes)          # [n, D] -> uint8 [n, H, W, C]
    codes = Archive.open("codes.aek").codes()

Training and export need the extra `train`:

    result = aekit.train("my-images/", code_dim=32, budget="2m")
    aekit.export(result.run, "model")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aekit._version import __version__

if TYPE_CHECKING:
    from aekit.codes.archive import Archive
    from aekit.codes.messages import Messages
    from aekit.codes.npy import CodeFile
    from aekit.errors import AekitError
    from aekit.exporting.command import export
    from aekit.model.bundle import Bundle
    from aekit.model.codec import Codec
    from aekit.spec import Geometry, ModelSpec
    from aekit.training.session import resume as resume_training
    from aekit.training.session import start as train

__all__ = [
    "AekitError",
    "Archive",
    "Bundle",
    "CodeFile",
    "Codec",
    "Geometry",
    "Messages",
    "ModelSpec",
    "__version__",
    "export",
    "resume_training",
    "train",
]

_HOMES = {
    "AekitError": ("aekit.errors", "AekitError"),
    "Archive": ("aekit.codes.archive", "Archive"),
    "Bundle": ("aekit.model.bundle", "Bundle"),
    "CodeFile": ("aekit.codes.npy", "CodeFile"),
    "Codec": ("aekit.model.codec", "Codec"),
    "Geometry": ("aekit.spec", "Geometry"),
    "Messages": ("aekit.codes.messages", "Messages"),
    "ModelSpec": ("aekit.spec", "ModelSpec"),
    "export": ("aekit.exporting.command", "export"),
    "resume_training": ("aekit.training.session", "resume"),
    "train": ("aekit.training.session", "start"),
}
"""Module and name of each public part; loaded when it is first asked for."""
_TRAINING = {"torch", "onnx", "onnxscript", "safetensors", "sklearn"}
"""Modules of the extra `train`."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aekit' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in _TRAINING:
            raise
        from aekit.errors import MissingExtra

        raise MissingExtra(f"aekit.{name}", "train", str(error.name)) from error


def __dir__() -> list[str]:
    return __all__
