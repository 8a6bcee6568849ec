"""Encoding at a quality, or at the best quality of each picture that fits in some bytes."""

from collections.abc import Sequence
from typing import Any

from aekit.codes.messages import Messages
from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.model.codec import Codec, Codes
from aekit.model.grids import GridCodes


class Encoding:
    """Encodes the images of a job, block by block."""

    def __init__(
        self, codec: Codec, dtype: str, batch_size: int, quality: int | None = None, most_bytes: int | None = None
    ) -> None:
        """Choose the quality of a model that has several: `quality`, or the best one of each picture that fits.

        A picture fits if its whole message (aekit.codes.messages) has at most `most_bytes` bytes. In an archive it
        takes a few bytes less. Without both, pictures are encoded at the model's default quality.

        Raises OptionError if both are given, the model has one quality, or it lacks the quality; BundleError if it has
        no entropy models.
        """
        spec = codec.spec
        given = {"--quality": quality, "--bytes": most_bytes}
        asked = [name for name, value in given.items() if value is not None]
        if asked and not spec.has_qualities:
            fix = "train a model with `aekit train --qualities`, or leave the option out"
            raise OptionError(
                " and ".join(asked), expected="a model of several qualities", found="one quality", fix=fix
            )
        if len(asked) > 1:
            raise OptionError("--quality and --bytes", expected="one of them", found="both")
        if quality is not None and not 1 <= quality <= spec.qualities:
            raise OptionError("--quality", expected=f"1 to {spec.qualities}", found=str(quality)[:80])
        if most_bytes is not None and most_bytes < 1:
            raise OptionError("--bytes", expected="1 or more", found=str(most_bytes)[:80])
        self._codec, self._dtype, self._batch_size = codec, dtype, batch_size
        self._quality, self._most_bytes = quality or (spec.default_quality if spec.has_qualities else None), most_bytes
        self._messages = None if most_bytes is None else Messages(codec)
        self.oversized = 0
        """Pictures so far that do not fit at any quality. They are encoded at quality 1."""

    @property
    def facts(self) -> dict[str, object]:
        """What the codes depend on: nothing for a model of one quality."""
        if self._quality is None:
            return {}
        return {"--bytes": self._most_bytes} if self._most_bytes else {"--quality": self._quality}

    def __call__(self, images: Pixels | list[Pixels]) -> Codes | GridCodes:
        """Return the codes of a block of images."""
        if self._messages is None or not isinstance(images, list):
            return self._encode(images, self._quality)
        return self._within(images, self._messages, self._most_bytes or 0)

    def _encode(self, images: Any, quality: int | Sequence[int] | None) -> Any:
        return self._codec.encode(images, self._dtype, self._batch_size, quality=quality)

    def _within(self, pictures: list[Pixels], messages: Messages, most: int) -> GridCodes:
        """Return the codes of pictures at the best qualities whose messages fit. Uses binary search."""
        low, high = [1] * len(pictures), [self._codec.spec.qualities] * len(pictures)
        best: list[GridCodes | None] = [None] * len(pictures)
        open_rows = list(range(len(pictures)))
        while open_rows:
            tried = [(low[row] + high[row] + 1) // 2 for row in open_rows]
            codes: GridCodes = self._encode([pictures[row] for row in open_rows], tried)
            for place, (row, quality) in enumerate(zip(open_rows, tried, strict=True)):
                one = codes[place : place + 1]
                if messages.size(one) <= most:
                    best[row], low[row] = one, quality + 1
                else:
                    high[row] = quality - 1
                    if quality == 1:
                        best[row] = one
                        self.oversized += 1
            open_rows = [row for row in open_rows if low[row] <= high[row]]
        return GridCodes.joined(each for each in best if each is not None)
