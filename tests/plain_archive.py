"""A second reader of archives, plain and slow, written from ARCHIVE.md. Tests compare aekit's reader with it."""

import hashlib
import json
import zlib
from typing import Any

from plain_context import plain_decode as plain_decode_context
from test_entropy import plain_decode


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def planes(data: bytes, count: int, width: int) -> tuple[list[int], bytes]:
    """Numbers from the first count · width bytes, and the bytes after them."""
    numbers = [number(data[i : count * width : count]) for i in range(count)]
    return numbers, data[count * width :]


def read_paths(data: bytes, inputs: int) -> tuple[list[bytes], dict[int, str], bytes]:
    """The paths of all inputs, the reasons of those that failed, and the bytes after these columns."""
    starts, data = planes(data, inputs, 1)
    ends, data = planes(data, inputs, 1)
    lengths, data = planes(data, inputs, 2)
    paths = [b""]
    for start, end, length in zip(starts, ends, lengths, strict=True):
        before, between, data = paths[-1], data[:length], data[length:]
        assert len(between) == length
        paths.append(before[:start] + between + before[len(before) - end :])
    (f,), data = planes(data, 1, 2)
    places, data = planes(data, f, 2)
    sizes, data = planes(data, f, 2)
    reasons = {}
    for place, size in zip(places, sizes, strict=True):
        reasons[place], data = data[:size].decode(), data[size:]
    return paths[1:], reasons, data


def with_sizes(paths: list[bytes], reasons: dict[int, str], sizes: list[tuple[int, int]]) -> list[Any]:
    """(path, width, height, reason) of each input."""
    left = iter(sizes)
    return [
        (path, 0, 0, reasons[place]) if place in reasons else (path, *next(left), "")
        for place, path in enumerate(paths)
    ]


def read_records(stream: bytes, inputs: int, rows: int) -> list[Any]:
    paths, reasons, data = read_paths(zlib.decompress(stream, -15), inputs)
    widths, data = planes(data, rows, 4)
    heights, data = planes(data, rows, 4)
    assert data == b""
    sizes, width = [], 0
    for row in range(rows):
        width = (width + widths[row]) % 2**32
        sizes.append((width, (heights[row] + width) % 2**32))
    return with_sizes(paths, reasons, sizes)


def read_sizes(
    stream: bytes, inputs: int, rows: int, named: bool, has_qualities: bool
) -> tuple[list[tuple[int, int]], list[int], list[Any]]:
    """Versions 2 and 3: (width, height) of each coded picture, its quality, and the records."""
    data = zlib.decompress(stream, -15)
    widths, data = planes(data, rows, 2)
    heights, data = planes(data, rows, 2)
    sizes, width = [], 0
    for row in range(rows):
        width = (width + widths[row]) % 2**16
        sizes.append((width, (heights[row] + width) % 2**16))
    qualities, records = [], []
    if has_qualities:
        qualities, data = planes(data, rows, 1)
    if named:
        paths, reasons, data = read_paths(data, inputs)
        wider, data = planes(data, rows, 4)
        higher, data = planes(data, rows, 4)
        own = [((sizes[row][0] + wider[row]) % 2**32, (sizes[row][1] + higher[row]) % 2**32) for row in range(rows)]
        records = with_sizes(paths, reasons, own)
    assert data == b""
    return sizes, qualities, records


def read_parts(
    data: bytes,
    shapes: list[tuple[int, int]],
    qualities: list[int],
    models: dict[str, Any],
    coder: int,
    part_numbers: int,
) -> list[Any]:
    """Versions 2 and 3: the codes of a block, each h · w lists of K numbers."""
    channels, held = models["channels"], 0
    parts: list[list[tuple[int, int]]] = []  # a part: the shapes of its codes, or of its band
    chosen: list[list[int]] = []  # and their qualities
    for (h, w), quality in zip(shapes, qualities or [0] * len(shapes), strict=True):
        if h * w * channels > part_numbers:
            lines = max(part_numbers // (w * channels), 1)
            bands = [[(min(lines, h - top), w)] for top in range(0, h, lines)]
            parts, chosen = parts + bands, chosen + [[quality]] * len(bands)
            held = part_numbers
        elif held and held + h * w * channels <= part_numbers:
            parts[-1].append((h, w))
            chosen[-1].append(quality)
            held += h * w * channels
        else:
            parts.append([(h, w)])
            chosen.append([quality])
            held = h * w * channels
    places: list[list[int]] = []
    for part, own in zip(parts, chosen, strict=True):
        crc, p = number(data[:4]), number(data[4:8])
        if coder == 0:
            sets = [quality - 1 for (h, w), quality in zip(part, own, strict=True) for _ in range(h * w)]
            given = {"sets": sets, "dimensions": channels} if qualities else {}
            codes = plain_decode(data[8 : 8 + p], sum(h * w for h, w in part), models["tables"], **given)
        else:
            own = own if qualities else []
            grids = plain_decode_context(data[8 : 8 + p], part, models["context"], check=2, qualities=own)
            codes = [place for grid in grids for line in grid for place in line]
        assert crc == zlib.crc32(b"".join(map(bytes, codes)))
        places += codes
        data = data[8 + p :]
    assert data == b""
    found = []
    for h, w in shapes:
        found.append(places[: h * w])
        places = places[h * w :]
    assert places == []
    return found


def read_archive(
    data: bytes, tables: dict[str, Any], part_numbers: int = 2**20, context: dict[str, Any] | None = None
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """The header's JSON, the rows' codes and the inputs' records, of a whole archive; AssertionError for any other.

    The code of a row is a list of numbers, or for version 2 ((width, height), lists of the numbers of each place). For
    version 3 the quality comes after the size.
    """
    assert data[:8] == bytes.fromhex("89 41 45 4b 0d 0a 1a 0a")
    version = number(data[8:10])
    h = number(data[10:14])
    assert number(data[14 + h : 18 + h]) == zlib.crc32(data[: 14 + h])
    header = json.loads(zlib.decompress(data[14 : 14 + h]))
    spec = header["spec"]
    of_grids = 3 if "qualities" in spec else 2
    assert version == (of_grids if "stride" in spec["geometry"] else 4 if context else 1)
    models = [tables, *([context] if context else [])]
    text = "".join(json.dumps(model, sort_keys=True, separators=(",", ":")) for model in models)
    assert header["tables"] == hashlib.sha256(text.encode()).hexdigest()[:32]
    codes: list[Any] = []
    records: list[Any] = []
    blocks, at = b"", 18 + h
    while True:
        n = number(data[at + 1 : at + 5])
        body = data[at + 5 : at + 5 + n]
        assert number(data[at + 5 + n : at + 9 + n]) == zlib.crc32(data[at : at + 5 + n])
        kind, at = data[at : at + 1], at + 9 + n
        if kind == b"F":
            break
        assert kind == b"B"
        inputs, rows = number(body[:2]), number(body[2:4])
        if version == 1:
            height, width, channels, c = (number(body[i:j]) for i, j in ((4, 6), (6, 8), (8, 12), (12, 16)))
            assert (height, width, channels) == (1, 1, header["spec"]["code_dim"])
            codes += plain_decode(body[16 : 16 + c], rows, tables)
            if header["named"]:
                records += read_records(body[16 + c :], inputs, rows)
            else:
                assert len(body) == 16 + c and inputs == rows
        elif version == 4:
            coder, crc, c = body[4], number(body[5:9]), number(body[9:13])
            assert coder in (0, 1)
            found = body[13 : 13 + c]
            if coder == 0:
                rows_found = plain_decode(found, rows, tables)
            else:
                rows_found = (
                    [line[0] for line in plain_decode_context(found, [(rows, 1)], context, 2)[0]] if rows else []
                )
            assert c == 0 or rows
            assert crc == zlib.crc32(b"".join(map(bytes, rows_found)))
            codes += rows_found
            if header["named"]:
                records += read_records(body[13 + c :], inputs, rows)
            else:
                assert len(body) == 13 + c and inputs == rows
        else:
            coder = body[4]
            assert coder in ((0, 1) if context else (0,))
            r, stride = number(body[5:9]), header["spec"]["geometry"]["stride"]
            sizes, qualities, found = read_sizes(body[9 : 9 + r], inputs, rows, header["named"], version == 3)
            shapes = [(-(-height // stride), -(-width // stride)) for width, height in sizes]
            given = {"tables": tables, "context": context, "channels": spec["code_dim"]}
            grids = read_parts(body[9 + r :], shapes, qualities, given, coder, part_numbers)
            codes += zip(sizes, *([qualities] if version == 3 else []), grids, strict=True)
            records += found
            assert header["named"] or inputs == rows
        blocks += (n + 9).to_bytes(4, "little") + body[:4]
    assert body == blocks
    assert number(data[at:]) == n + 9
    assert len(data) == at + 4
    return header, codes, records
