"""Pictures side by side: the original, ours, and the best of the envelope of codecs at equal bytes."""

from collections.abc import Sequence

from envelope import Picture, Setting, envelope, squared_error, written
from PIL import Image, ImageDraw

import aekit.evaluation.codecs as codecs

SHOWN = 4
"""Pictures in a sheet, evenly spaced over the test pictures."""
SIDE = 320
"""Pixels that the longer side of a picture is enlarged to, by whole factors."""
_CAPTION = 14
"""Pixels below a picture for one line of text."""


def best_at(picture: Picture, size: int, settings: Sequence[Setting]) -> tuple[int, Picture, Setting]:
    """Return the (bytes, picture, setting) of least error among files of at most `size` bytes.

    Only settings on the envelope are tried. If none makes so small a file, the smallest file is returned.
    """
    known = {codec.name: codec for codec in codecs.available()}
    tried = []
    for setting in envelope(settings):
        given = (setting.factor, setting.quality, setting.chroma)
        data, back = written(known[setting.codec], picture, *given)
        excess = max(0, len(data) - size)
        tried.append((excess, squared_error(picture, back), len(data), back, setting))
    _, _, found, back, setting = min(tried, key=lambda entry: entry[:3])
    return found, back, setting


def side_by_side(
    pictures: Sequence[Picture], coded: Sequence[tuple[int, Picture]], settings: Sequence[Setting]
) -> Image.Image:
    """Draw a sheet: a row for each picture shown, with captions of bytes and errors.

    `coded` holds for each picture the bytes of its own message and what was decoded of it.
    """
    rows = []
    for index in range(len(pictures) // (2 * SHOWN), len(pictures), max(1, len(pictures) // SHOWN)):
        picture, (size, ours) = pictures[index], coded[index]
        found, peer, setting = best_at(picture, size, settings)
        quality = f"{setting.codec} /{setting.factor:g} q{setting.quality}"
        rows.append(
            [
                (picture, f"original {picture.shape[1]}x{picture.shape[0]}"),
                (ours, f"ours: {size} bytes, MSE {squared_error(picture, ours):.5f}"),
                (peer, f"{quality}: {found} bytes, MSE {squared_error(picture, peer):.5f}"),
            ]
        )
    cells = [[_cell(*entry) for entry in row] for row in rows]
    width = max(cell.width for row in cells for cell in row)
    heights = [max(cell.height for cell in row) for row in cells]
    sheet = Image.new("RGB", (3 * width, sum(heights)), "white")
    for place, row in enumerate(cells):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * width, sum(heights[:place])))
    return sheet


def _cell(picture: Picture, caption: str) -> Image.Image:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert("RGB")
    image = image.resize([side * max(1, SIDE // max(image.size)) for side in image.size], Image.Resampling.NEAREST)
    cell = Image.new("RGB", (max(image.width, SIDE) + 4, image.height + _CAPTION + 4), "white")
    cell.paste(image, (0, 0))
    ImageDraw.Draw(cell).text((2, image.height + 1), caption, fill="black")
    return cell
