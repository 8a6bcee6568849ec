"""What image codecs need for the error of a model: each codec at native size, and the best of all codecs and scales.

The search tries few settings. At each factor and resolution of colour it looks for the coarsest quality whose error is
within the limit. A larger factor needs about the same quality or a finer one, so the search starts from the quality
that the factor before needed. It gives up a codec whose files stop getting smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from aekit.evaluation.codecs import ImageCodec, available
from aekit.evaluation.envelope import Scaled, Setting, scaled, scaling_error, tried, usable_factors
from aekit.images.decode import Pixels

PICTURES = 24
"""Largest number of pictures that codecs are tried on. Evaluation should not take longer than a person waits."""
PIXELS = 500_000
"""Largest number of pixels in these pictures."""
SIDE = 320
"""Longest side, in pixels, of a picture that codecs are tried on. Of a larger picture the middle is taken."""
_MISSES = 2
"""A codec is given up after so many factors in a row that made its files no smaller."""
_ORDER = ("WebP", "AVIF", "JPEG XL", "JPEG")
"""Order of the search: codecs that often win at few bytes come first, so that others are given up early."""


@dataclass(frozen=True)
class Sample:
    """Pictures that codecs are tried on."""

    pictures: list[Pixels]
    """Each uint8 [H, W, C]."""
    is_cropped: bool
    """Whether any picture was larger than SIDE, so that only its middle is here."""


@dataclass(frozen=True)
class Peers:
    """What codecs need for an error."""

    most_mse: float
    """The error, pixels in [0, 1]."""
    native: dict[str, Setting | None]
    """For each codec the cheapest setting at native size whose error is at most `most_mse`, or None."""
    coarsest: frozenset[str]
    """Names of codecs whose setting at native size is the coarsest they have. They can't be as coarse as the model."""
    best: Setting | None
    """The smallest files of all codecs and factors whose error is at most `most_mse`."""
    best_payload: Setting | None
    """As `best`, but by the size of the files without their headers."""
    is_spanned: bool
    """Whether coarser settings than the model exist. If not, `best` is the coarsest of all that was tried."""


def sample(images: Pixels | Sequence[Pixels]) -> Sample:
    """Choose evenly spaced pictures within the limits, of larger ones the middle."""
    count = min(PICTURES, len(images))
    chosen = [_middle(images[row]) for row in _spaced(len(images), count)]
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in chosen)
    if pixels > PIXELS:
        chosen = [chosen[row] for row in _spaced(count, max(1, count * PIXELS // pixels))]
    return Sample(chosen, any(max(image.shape[:2]) > SIDE for image in images))


def _spaced(count: int, wanted: int) -> list[int]:
    return [int(row) for row in np.linspace(0, count - 1, wanted)]


def _middle(picture: Pixels) -> Pixels:
    top, left = (max(0, (side - SIDE) // 2) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE])


def find_peers(pictures: Sequence[Pixels], most_mse: float) -> Peers:
    """Find what each codec needs for pictures uint8 [H, W, C] at a mean error of at most `most_mse`."""
    search = _Search(pictures, most_mse)
    native = {codec.name: search.native(codec) for codec in available()}
    for factor in usable_factors(pictures)[1:]:
        given = scaled(pictures, factor)
        if scaling_error(given) > most_mse:
            search.is_spanned = True
            break
        search.shrunk(given)
    best, best_payload = search.best("bytes"), search.best("payload")
    coarser = [setting for setting in search.worse if best is None or setting.bytes <= best.bytes]
    is_spanned = search.is_spanned or bool(coarser)
    return Peers(most_mse, native, frozenset(search.coarsest), best, best_payload, is_spanned)


@dataclass(frozen=True)
class _Trail:
    """How far the search got with a codec and a resolution of colour."""

    index: int
    """Index of the quality that the last factor needed."""
    least: float
    """Bytes of its smallest files so far."""
    misses: int = 0
    """Factors since then."""


class _Search:
    """Settings found so far, those within the limit and the coarser ones that were tried on the way."""

    def __init__(self, pictures: Sequence[Pixels], most_mse: float) -> None:
        self.most_mse = most_mse
        self.coarsest = set[str]()
        self.is_spanned = False
        self.fits, self.worse = list[Setting](), list[Setting]()
        self._whole = scaled(pictures, 1.0)
        self._trails = dict[tuple[str, str], _Trail]()

    def best(self, size: str) -> Setting | None:
        """Return the setting within the limit whose `bytes` or `payload` is least."""
        return min(self.fits, key=lambda setting: float(getattr(setting, size)), default=None)

    def native(self, codec: ImageCodec) -> Setting | None:
        """Find the cheapest setting of a codec at native size."""
        if not codec.qualities:
            self.fits.append(tried(codec, self._whole, None, ""))
            return self.fits[-1]
        found = []
        for chroma in codec.chromas(self._whole.channels):
            setting = self._coarsest(codec, self._whole, chroma, len(codec.qualities) // 4, 8)
            found += [setting] if setting else []
        cheapest = min(found, key=lambda setting: setting.bytes, default=None)
        if cheapest and cheapest.quality == codec.qualities[0]:
            self.coarsest.add(codec.name)
        return cheapest

    def shrunk(self, given: Scaled) -> None:
        """Try the codecs on shrunk pictures."""
        codecs = {codec.name: codec for codec in available()}
        for name in _ORDER:
            for chroma in codecs[name].chromas(given.channels) if name in codecs else ():
                trail = self._trails.get((name, chroma))
                if trail and trail.misses < _MISSES:
                    self._coarsest(codecs[name], given, chroma, trail.index, 2)
                    if self._trails[name, chroma].least >= trail.least:
                        index = self._trails[name, chroma].index
                        self._trails[name, chroma] = _Trail(index, trail.least, trail.misses + 1)

    def _coarsest(self, codec: ImageCodec, given: Scaled, chroma: str, start: int, step: int) -> Setting | None:
        """Find the coarsest quality within the limit, by steps from `start` that grow, then by bisection."""
        qualities = codec.qualities
        at = partial(tried, codec, given)
        fails, fits, fitting = -1, len(qualities), None
        index = start
        while fails + 1 < fits:
            setting = at(qualities[index], chroma)
            if setting.mse <= self.most_mse:
                fits, fitting = index, setting
            else:
                fails = index
                self.worse.append(setting)
                if given.factor > 1 and self._is_beaten(setting):
                    return None
            if fails >= 0 and fitting:
                index = (fails + fits) // 2
            else:
                index = min(max(fits - step, 0) if fitting else fails + step, len(qualities) - 1)
                step *= 2
        if fitting:
            self.fits.append(fitting)
            self._trails[codec.name, chroma] = _Trail(fits, fitting.bytes)
        return fitting

    def _is_beaten(self, setting: Setting) -> bool:
        """Return whether finer qualities of a setting, which are larger, can't be the best any more."""
        smallest, payload = self.best("bytes"), self.best("payload")
        return bool(smallest and payload and setting.bytes >= smallest.bytes and setting.payload >= payload.payload)
