"""Held-out pictures for the training of grid codes: which of them are validated on, in batches, and crops of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aekit.images.decode import Pixels
from aekit.training.crops import CropSampler, padded_side

_SHARE = 0.15
"""Places that are validated on after an epoch, as a share of the places that it trained on. A place takes about a third
of the time then, so that validation takes about 5 % of a run."""
_FEWEST = 4
"""Least number of pictures that are validated on, if there are so many."""
_WINDOW = 1024
"""Longest side in pixels that is validated on. Of a larger picture its middle stands for the whole."""
_BATCH_PLACES = 1152
"""Places of a batch, unless one picture has more. Few, because whole activations are held."""


@dataclass(frozen=True)
class PictureBatch:
    """Pictures of one padded size."""

    pixels: Tensor
    """uint8 [n, C, H, W]; both sides are multiples of the stride. Edges are repeated outside the pictures."""
    inside: Tensor
    """float32 [n, 1, H, W]: 1 where a pixel belongs to its picture, 0 where an edge was repeated."""
    factors: Tensor
    """Places of each whole picture, divided by its places here, float32 [n]."""


class HeldOut:
    """The held-out pictures that are validated on, evenly spaced over all of them; and crops of all of them."""

    def __init__(self, pictures: Sequence[Pixels], stride: int, crop: int, batch: int, steps: int) -> None:
        """Choose the pictures. An epoch has `steps` steps of `batch` places each."""
        self.stride = stride
        self.crops = CropSampler(pictures, crop, stride, by_area=True)
        places = np.array([_places(picture.shape, stride) for picture in pictures])
        self.mean_places = float(places.mean())
        """Mean number of places in the code of a held-out picture."""
        seen = np.minimum(places, _places((_WINDOW, _WINDOW), stride))
        count = len(pictures)
        while count > _FEWEST and seen[_spread(len(pictures), count)].sum() > _SHARE * batch * steps:
            count = max(_FEWEST, count * 3 // 4)
        rows = _spread(len(pictures), count)
        self.count = len(rows)
        """Pictures that are validated on."""
        groups: dict[tuple[int, ...], list[tuple[Pixels, float]]] = {}
        for row in rows:
            picture = _middle(pictures[row], stride)
            size = tuple(padded_side(side, stride) for side in picture.shape[:2])
            groups.setdefault(size, []).append((picture, places[row] / _places(picture.shape, stride)))
        self._groups = groups

    def parts(self) -> Iterator[PictureBatch]:
        """Yield the pictures that are validated on, in batches."""
        for (height, width), group in self._groups.items():
            most = max(1, _BATCH_PLACES // _places((height, width), self.stride))
            for start in range(0, len(group), most):
                yield _batch(group[start : start + most], height, width)


def _batch(group: Sequence[tuple[Pixels, float]], height: int, width: int) -> PictureBatch:
    inside = torch.zeros(len(group), 1, height, width)
    padded = []
    for row, (picture, _) in enumerate(group):
        inside[row, :, : picture.shape[0], : picture.shape[1]] = 1
        missing = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
        padded.append(np.pad(picture, missing, mode="edge"))
    pixels = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2)
    return PictureBatch(pixels, inside, torch.tensor([factor for _, factor in group], dtype=torch.float32))


def _middle(picture: Pixels, stride: int) -> Pixels:
    """Return the middle of a picture, at most _WINDOW pixels a side, cut at whole blocks."""
    starts = [max(side - _WINDOW, 0) // 2 // stride * stride for side in picture.shape[:2]]
    return picture[starts[0] : starts[0] + _WINDOW, starts[1] : starts[1] + _WINDOW]


def _places(shape: Sequence[int], stride: int) -> int:
    return -(-shape[0] // stride) * -(-shape[1] // stride)


def _spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """Return `count` rows, evenly spaced over `length`."""
    return np.linspace(0, length - 1, count).astype(np.int64)
