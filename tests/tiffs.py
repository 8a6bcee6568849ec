"""TIFF files by hand, of every layout that a tag can ask for (TIFF 6.0, Adobe 1992)."""

import struct
from collections.abc import Sequence

SHORT, LONG = 3, 4


def tiff(
    pixels: bytes | Sequence[bytes],
    size: tuple[int, int],
    *,
    photometric: int,
    bits: Sequence[int],
    order: str = "<",
    **tags: int | Sequence[int],
) -> bytes:
    """A TIFF of one strip (or one a plane) of uncompressed `pixels`, `size` wide and high; `tags` by their numbers,
    as t338=0."""
    planes = [pixels] if isinstance(pixels, bytes) else list(pixels)
    entries: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [size[0]]),
        257: (LONG, [size[1]]),
        258: (SHORT, bits),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        277: (SHORT, [len(bits)]),
        278: (LONG, [size[1]]),
        279: (LONG, [len(plane) for plane in planes]),
        284: (SHORT, [1 if len(planes) == 1 else 2]),
    }
    for name, value in tags.items():
        entries[int(name[1:])] = (SHORT, [value] if isinstance(value, int) else value)
    starts = [8 + sum(map(len, planes[:number])) for number in range(len(planes))]
    entries[273] = (LONG, starts)
    data = b"".join(planes)
    data += b"\0" * (len(data) % 2)
    directory = 8 + len(data)
    more_at, more, rows = directory + 2 + 12 * len(entries) + 4, b"", b""
    for number, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack(f"{order}I", more_at + len(more))
            more += packed + b"\0" * (len(packed) % 2)
        rows += struct.pack(f"{order}HHI", number, kind, len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", directory)
    return head + data + struct.pack(f"{order}H", len(entries)) + rows + bytes(4) + more
