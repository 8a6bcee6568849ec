"""A model beside image codecs: bytes of both at the same error, on the same pictures."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from aekit.evaluation.archive_size import ArchiveSize, added_bytes
from aekit.evaluation.envelope import Setting
from aekit.evaluation.metrics import mean_mse
from aekit.evaluation.peers import SIDE, Peers, Sample, find_peers, sample
from aekit.images.decode import Pixels
from aekit.model.codec import Codec

HEADER_NOTE = "a file of one gray pixel at the same setting counts as the header"


def compare(
    codec: Codec,
    images: Pixels | list[Pixels],
    archive: ArchiveSize | None,
    say: Callable[[str], None],
    quality: int | None = None,
) -> dict[str, Any]:
    """Compare a model with codecs at the error of its uint8 codes, on some of the images. Returns JSON-ready values.

    `quality` is as in Codec.encode.

    - `images`: number of images that were compared. `middle`: longest side in pixels of the middle part that was
      compared, or null for whole images. `mse`: the model's error on these images, the mean over pictures.
    - `aekit`: the model's bytes an image on them, `bytes` with a share of the headers of an archive of all images and
      `payload` without; null without frequency tables.
    - `best`: the smallest files of all codecs and factors at an error of at most `mse`, as a Setting; `best_payload`:
      the same without headers. `is_spanned` is false if everything that was tried is finer than the model.
    - `native`: for each codec its smallest files at native size, or null if none is as good as the model; `coarsest`:
      names of codecs that have no coarser setting than that.
    - `codecs_win` and `codecs_win_payload`: whether the best takes fewer bytes than the model; null if unknown.
    """
    chosen = sample(images)
    say(f"image codecs on {len(chosen.pictures)} of the images")
    ours, error = _ours(codec, chosen, archive, quality)
    peers = find_peers(chosen.pictures, error)
    return {
        "images": len(chosen.pictures),
        "middle": SIDE if chosen.is_cropped else None,
        "mse": error,
        "aekit": ours,
        **_json_ready(peers),
        "codecs_win": _wins(peers.best, ours, "bytes"),
        "codecs_win_payload": _wins(peers.best_payload, ours, "payload"),
        "header": HEADER_NOTE,
    }


def _ours(
    codec: Codec, chosen: Sample, archive: ArchiveSize | None, quality: int | None
) -> tuple[dict[str, float] | None, float]:
    """Return the model's bytes an image, and the error of its uint8 codes."""
    pictures = chosen.pictures if codec.spec.is_grid else np.stack(chosen.pictures)
    codes = codec.encode(pictures, "uint8", quality=quality)
    error = mean_mse(chosen.pictures, list(codec.decode(codes)))
    if archive is None:
        return None, error
    payload, header = added_bytes(codec.bundle, codes)
    return {"bytes": payload + header / archive.images, "payload": payload}, error


def _wins(best: Setting | None, ours: dict[str, float] | None, size: str) -> bool | None:
    return None if ours is None or best is None else float(getattr(best, size)) < ours[size]


def _json_ready(peers: Peers) -> dict[str, Any]:
    def values(setting: Setting | None) -> dict[str, Any] | None:
        return asdict(setting) if setting else None

    return {
        "best": values(peers.best),
        "best_payload": values(peers.best_payload),
        "is_spanned": peers.is_spanned,
        "native": {name: values(setting) for name, setting in peers.native.items()},
        "coarsest": sorted(peers.coarsest),
    }
