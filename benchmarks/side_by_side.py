"""Pictures side by side at equal bytes: the original, ours, and codecs at their best scale and quality."""

from collections.abc import Sequence
from dataclasses import dataclass

from picture_sets import Picture, spread
from PIL import Image, ImageDraw

from aekit.evaluation.codecs import as_image
from aekit.evaluation.envelope import Setting, codec_of, coded, envelope
from aekit.evaluation.metrics import mse

SHOWN = 4
"""Pictures in a sheet, evenly spaced over the test pictures."""
PART = 160
"""Longest side of the part that is shown, in pixels: the middle of the picture."""
SIDE = 320
"""Pixels that the longer side is enlarged to, by whole factors."""
_CAPTION = 28
"""Pixels below a picture for two lines of text."""


@dataclass(frozen=True)
class Coded:
    """One picture as ours has it."""

    payload: float
    """Bytes without headers."""
    picture: Picture


def best_at(picture: Picture, size: float, settings: Sequence[Setting]) -> tuple[bytes, float, Picture, Setting]:
    """Return the (file, bytes without header, picture, setting) of least error with at most `size` bytes.

    Headers are left out, which favours codecs: a file of so few bytes has to hold its header too. If nothing is so
    small, the smallest is returned.
    """
    found = []
    for setting in envelope(settings, "payload"):
        data, back = coded(codec_of(setting), picture, setting)
        payload = max(len(data) - (setting.bytes - setting.payload), 0.0)
        found.append((max(payload - size, 0.0), mse(picture, back), payload, data, back, setting))
    _, _, payload, data, back, setting = min(found, key=lambda entry: entry[:3])
    return data, payload, back, setting


def sheet(pictures: Sequence[Picture], ours: Sequence[Coded], peers: dict[str, Sequence[Setting]]) -> Image.Image:
    """Draw a row for each picture shown: the original, ours, and each of the peers by its settings."""
    rows = []
    for picture, own in spread(list(zip(pictures, ours, strict=True)), SHOWN):
        height, width = picture.shape[:2]
        row = [
            (picture, f"original {width}x{height}", ""),
            (own.picture, f"aekit: {own.payload:.0f} bytes without header", f"MSE {mse(picture, own.picture):.5f}"),
        ]
        for settings in peers.values():
            data, payload, back, setting = best_at(picture, own.payload, settings)
            scale = f"1/{setting.factor:g}, " if setting.factor > 1 else ""
            sizes = f"{setting.codec}: {payload:.0f}, as a file {len(data)}"
            row.append((back, sizes, f"{scale}quality {setting.quality}, MSE {mse(picture, back):.5f}"))
        rows.append(row)
    cells = [[_cell(*entry) for entry in row] for row in rows]
    width = max(cell.width for row in cells for cell in row)
    heights = [max(cell.height for cell in row) for row in cells]
    whole = Image.new("RGB", (len(cells[0]) * width, sum(heights)), "white")
    for place, row in enumerate(cells):
        for column, cell in enumerate(row):
            whole.paste(cell, (column * width, sum(heights[:place])))
    return whole


def _cell(picture: Picture, *captions: str) -> Image.Image:
    top, left = (max(0, (side - PART) // 2) for side in picture.shape[:2])
    image = as_image(picture[top : top + PART, left : left + PART]).convert("RGB")
    factor = max(1, SIDE // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (max(image.width, SIDE) + 4, image.height + _CAPTION + 4), "white")
    cell.paste(image, (0, 0))
    for line, caption in enumerate(captions):
        ImageDraw.Draw(cell).text((2, image.height + 1 + 13 * line), caption, fill="black")
    return cell
