"""What archives are held against: codecs and the KLT over a range of settings, and how two curves are compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from aekit.evaluation.envelope import Setting
from aekit.evaluation.envelope import bytes_at as lowest_bytes
from aekit.evaluation.metrics import mse, psnr
from aekit.images.decode import Pixels
from aekit.pca import Pca

COMPONENTS = (8, 16, 24, 32, 48, 64, 96, 128, 256, 384)


@dataclass(frozen=True)
class Point:
    """A coder at one setting."""

    bytes: float
    """An image, with everything that is in the file."""
    mse: float
    """Pixels in [0, 1]."""
    setting: str = ""


Curve = list[Point]


def frontier(points: Sequence[Point]) -> Curve:
    """The points that no other one beats in both, in ascending order of bytes."""
    best: Curve = []
    for point in sorted(points, key=lambda point: (point.bytes, point.mse)):
        if not best or point.mse < best[-1].mse:
            best.append(point)
    return best


def curve_of(settings: Sequence[Setting], size: str = "bytes") -> Curve:
    """The lowest curve of settings; `size` is the size that counts, `bytes` or `payload`. A payload of 0 counts as 1.

    At the error of each setting it has the fewest bytes that aekit.evaluation.envelope.bytes_at finds for that error.
    """
    lossless = [Point(getattr(each, size), 0.0, str(each)) for each in settings if each.mse == 0]
    points = [(lowest_bytes(settings, each.mse, size), each) for each in settings if each.mse > 0]
    return frontier([*lossless, *(Point(found, each.mse, str(each)) for found, each in points if found is not None)])


def klt_curve(train: Pixels, test: Pixels, steps: int = 24) -> Curve:
    """The Karhunen-Loève transform with ideal entropy coding: PCA of the training images, the test images' leading
    coefficients divided by a step and rounded, each at the entropy of its own histogram over the test images.

    No header, no tables and no rounding up to bytes are counted: a bound on such coders, not one of them. For each step
    and number of components one point.
    """
    pca = Pca.fit(train, min(COMPONENTS[-1], train[0].size))
    flat = test.reshape(len(test), -1).astype(np.float32) / np.float32(255)
    coefficients = (flat - pca.mean) @ pca.components.T
    counts = [count for count in COMPONENTS if count <= len(pca.components)]
    points = []
    for step in np.geomspace(0.1, 4, steps):
        levels = np.rint(coefficients / step)
        bits = np.array([_entropy(column) for column in levels.T])
        images, done = np.tile(pca.mean, (len(test), 1)), 0
        for count in counts:
            images += (levels[:, done:count] * np.float32(step)) @ pca.components[done:count]
            done = count
            pixels = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).reshape(test.shape)
            setting = f"{count} coefficients, step {step:.2f}"
            points.append(Point(float(bits[:count].sum()) / 8, mse(test, pixels), setting))
    return frontier(points)


def _entropy(values: npt.NDArray[np.float32]) -> float:
    """Bits a value, of the values' own histogram."""
    levels = values.astype(np.int64)
    counts = np.bincount(levels - levels.min())
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log2(shares)).sum())


def bytes_at(curve: Curve, mse: float) -> float | None:
    """Bytes an image at an MSE, between the measured points, along log bytes against PSNR.

    None if no setting is so good, or if every setting is better: then nobody knows how few bytes would do. A lossless
    curve has its bytes at every error.
    """
    curve = frontier(curve)
    if not curve or curve[-1].mse > mse:
        return None
    if curve[0].mse < mse:
        return curve[0].bytes if curve[0].mse == 0 else None
    return math.exp(float(_log_bytes(curve)(psnr(mse))))


def bd_rate(curve: Curve, reference: Curve) -> float | None:
    """Bjøntegaard's delta rate: how many per cent more bytes `curve` takes than `reference` for the same PSNR, on
    average over the PSNRs that both have; None where they share none, or one of them has fewer than two settings.

    The mean difference of log bytes as a function of PSNR, between piecewise cubic Hermite polynomials. G. Bjøntegaard,
    "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, with the interpolation of the HM
    reference software's later sheets, which does not swing between uneven points as a single cubic does.
    """
    curves = [[point for point in frontier(points) if point.mse > 0] for points in (curve, reference)]
    if min(map(len, curves)) < 2:
        return None
    low = max(psnr(points[0].mse) for points in curves)
    high = min(psnr(points[-1].mse) for points in curves)
    if high <= low:
        return None
    ours, theirs = (float(_log_bytes(points).integrate(low, high)) / (high - low) for points in curves)
    return (math.exp(ours - theirs) - 1) * 100


def _log_bytes(curve: Curve) -> PchipInterpolator:
    points = [point for point in curve if point.mse > 0]
    if len(points) == 1:  # a line through one point is the point
        points = [points[0], Point(points[0].bytes * (1 + 1e-9), points[0].mse * (1 - 1e-9))]
    return PchipInterpolator([psnr(point.mse) for point in points], [math.log(point.bytes) for point in points])
