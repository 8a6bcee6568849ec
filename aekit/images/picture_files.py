"""Write pictures as PNG files below a folder: what a process does with a piece of them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from aekit.images.decode import Pixels
from aekit.images.folder_writer import FilesWritten, Piece, write_each
from aekit.images.png import encode, encode_alike
from aekit.images.records import Record


def write_pictures(original_size: bool, folder: Path, piece: Piece) -> FilesWritten:
    """Write PNG files below `folder`. This is what a process does with one piece; a piece already written is returned.

    `original_size` scales each image to the size in its record.
    """
    if isinstance(piece, FilesWritten):
        return piece
    images, records = piece
    files: Iterable[bytes]
    if original_size:
        files = (_scaled(*pair) for pair in zip(images, records, strict=True))
    elif isinstance(images, np.ndarray):
        files = encode_alike(images)
    else:
        files = (encode(_as_image(picture)) for picture in images)
    return write_each(folder, files, records)


def _scaled(image: Pixels, record: Record) -> bytes:
    return encode(_as_image(image).resize((record.width, record.height), Image.Resampling.BICUBIC))


def _as_image(image: Pixels) -> Image.Image:
    return Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
