"""A second reader of archives, plain and slow, written from ARCHIVE.md: test_archive holds the first to it."""

import hashlib
import json
import zlib
from typing import Any

from test_entropy import plain_decode


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def planes(data: bytes, count: int, width: int) -> tuple[list[int], bytes]:
    """Numbers from the first count · width bytes, and the bytes after them."""
    numbers = [number(data[i : count * width : count]) for i in range(count)]
    return numbers, data[count * width :]


def read_records(stream: bytes, inputs: int, rows: int) -> list[tuple[bytes, int, int, str]]:
    data = zlib.decompress(stream, -15)
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
    widths, data = planes(data, rows, 4)
    heights, data = planes(data, rows, 4)
    assert data == b""
    records, width, row = [], 0, 0
    for place, path in enumerate(paths[1:]):
        if place in reasons:
            records.append((path, 0, 0, reasons[place]))
            continue
        width = (width + widths[row]) % 2**32
        records.append((path, width, (heights[row] + width) % 2**32, ""))
        row += 1
    return records


def read_archive(data: bytes, tables: dict[str, Any]) -> tuple[dict[str, Any], list[list[int]], list[Any]]:
    """The header's JSON, the rows' codes and the inputs' records, of a whole archive; AssertionError for any other."""
    assert data[:8] == bytes.fromhex("89 41 45 4b 0d 0a 1a 0a")
    assert number(data[8:10]) == 1
    h = number(data[10:14])
    assert number(data[14 + h : 18 + h]) == zlib.crc32(data[: 14 + h])
    header = json.loads(zlib.decompress(data[14 : 14 + h]))
    text = json.dumps(tables, sort_keys=True, separators=(",", ":"))
    assert header["tables"] == hashlib.sha256(text.encode()).hexdigest()[:32]
    codes: list[list[int]] = []
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
        fields = ((0, 2), (2, 4), (4, 6), (6, 8), (8, 12), (12, 16))
        inputs, rows, height, width, channels, c = (number(body[i:j]) for i, j in fields)
        assert (height, width, channels) == (1, 1, header["spec"]["code_dim"])
        codes += plain_decode(body[16 : 16 + c], rows, tables)
        if header["named"]:
            records += read_records(body[16 + c :], inputs, rows)
        else:
            assert len(body) == 16 + c and inputs == rows
        blocks += (n + 9).to_bytes(4, "little") + body[:4]
    assert body == blocks
    assert number(data[at:]) == n + 9
    assert len(data) == at + 4
    return header, codes, records
