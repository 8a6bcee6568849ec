"""Pixel layouts that Pillow opens but would misread, and files made to take long: named by format, from the header.

Each check takes an opened image whose pixels are not decoded yet, and raises ImageError for what must not be decoded.
"""

from typing import TYPE_CHECKING, Any

from aekit.errors import ImageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_SCANS = 1000
"""Most scans of a JPEG. Usual progressive files have about 10; a hostile one may have 20,000, each decoded in full."""
MAX_SCANNED_PIXELS = 2**31
"""Most scans × pixels of a JPEG: 14 seconds of decoding, measured. A picture of the largest size may have 23 scans."""
_FIX = "save it as 8-bit gray or RGB"
_START_OF_SCAN = b"\xff\xda"
_PIECE = 2**20
"""Bytes of a JPEG searched at a time."""
_SAMPLE_DEPTHS = {"1": 1, "L;2": 2, "L;4": 4}
"""Bits a sample of gray PNG files, by Pillow's name of the packed pixels."""

_BITS, _PHOTOMETRIC, _PLANAR, _INKS = 258, 262, 284, 332
_EXTRA, _SAMPLE_FORMAT, _SUBSAMPLING, _BLACK_WHITE = 338, 339, 530, 532
"""Numbers of TIFF tags (TIFF 6.0, Adobe 1992)."""
_WHITE_IS_ZERO, _CMYK, _YCBCR, _CIELAB = 0, 5, 6, 8
"""Values of the tag PhotometricInterpretation."""


def check_jpeg(image: "ImageFile") -> None:
    """Raise ImageError for a JPEG of so many scans that decoding would take minutes."""
    file = image.fp
    assert file is not None
    place, scans, last = file.tell(), 0, b""
    file.seek(0)
    while piece := file.read(_PIECE):
        # Within pixels a byte 0xFF is followed by 0, so that the marker stands for nothing else there.
        scans += (last + piece).count(_START_OF_SCAN)
        last = piece[-1:] if piece[-1:] == _START_OF_SCAN[:1] else b""
    file.seek(place)
    if scans > MAX_SCANS or scans * image.size[0] * image.size[1] > MAX_SCANNED_PIXELS:
        raise ImageError(f"a JPEG of {scans:,} scans, which take too long; at most {MAX_SCANS:,} are decoded")


def check_png(image: "ImageFile") -> None:
    """Raise ImageError for 16-bit colour with a transparent colour, and correct the level of transparent gray.

    The level is a sample of the file's own depth; Pillow stretches samples of 2 and 4 bits to 8, but not the level.
    """
    clear = image.info.get("transparency")
    if clear is None or isinstance(clear, bytes) or not image.tile:
        return
    layout = image.tile[0][3]
    layout = layout[0] if isinstance(layout, tuple) else layout
    if layout == "RGB;16B":
        raise ImageError(f"16-bit colour with a transparent colour; {_FIX}")
    depth = _SAMPLE_DEPTHS.get(str(layout), 8)
    if depth in (2, 4):
        image.info["transparency"] = (clear & 2**depth - 1) * (255 // (2**depth - 1))


def check_tiff(image: "ImageFile") -> None:
    """Raise ImageError for a TIFF whose samples Pillow would take for something else."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    photometric = tags.get(_PHOTOMETRIC, 0)
    formats = _numbers(tags.get(_SAMPLE_FORMAT, 1))
    if max(_numbers(tags.get(_BITS, 1))) > 16:
        raise ImageError("32-bit pixels; save it as 8 or 16 bits")
    if any(number != 1 for number in formats):
        raise ImageError(f"signed or floating-point samples; {_FIX}")
    if 0 in _numbers(tags.get(_EXTRA, ())):
        raise ImageError(f"channels beyond gray or colour, of unknown meaning; {_FIX}")
    if photometric == _CIELAB:
        raise ImageError(f"LAB colour; {_FIX}")
    if photometric == _CMYK and tags.get(_INKS, 1) != 1:
        raise ImageError(f"inks other than cyan, magenta, yellow and black; {_FIX}")
    if photometric == _YCBCR and image.info.get("compression") == "raw":
        sampling = _numbers(tags.get(_SUBSAMPLING, (2, 2)))
        if any(number != 1 for number in sampling) or _BLACK_WHITE in tags:
            raise ImageError(f"YCbCr colour that is subsampled or not of full range; {_FIX}")


def gray_scale(image: object) -> tuple[int, bool]:
    """The level of white of a 16-bit gray image, and whether its levels are inverted, 0 being white."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 65535, False
    bits = max(_numbers(tags.get(_BITS, 16)))
    return 2**bits - 1, tags.get(_PHOTOMETRIC, 0) == _WHITE_IS_ZERO


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)  # type: ignore[return-value]
