"""Read what an earlier job left in its journal, of which any line may be damaged."""

import json
import os
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from aekit.outputs.marks import Mark

VERSION = 2
"""Format of the journal. A journal of another format can't be resumed."""


@dataclass(frozen=True)
class Left:
    """What an earlier job left in its journal, up to the first line that is not whole."""

    version: int | None = None
    """Format of the journal; None if it is empty."""
    facts: dict[str, Any] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Byte of the journal at which each mark ends."""
    finished: tuple[int, ...] = ()
    """Inodes of the outputs, once they were finished."""
    size: int = 0
    """Bytes of the whole lines."""


def read_left(file: int) -> Left:
    """Read a journal from its start. A line that is not a whole line of this format ends it."""
    left = Left()
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as lines:
        for line in lines:
            if (entry := parse_line(line)) is None:
                break
            if left.version is None:  # the journals of before said no format: theirs is 1
                left = replace(left, version=entry.get("journal", 1))
            if left.version != VERSION:
                break
            try:
                left.facts.update(entry.get("facts", {}))
                finished = tuple(entry.get("finished", left.finished))
                if "mark" in entry:
                    mark = Mark.from_json(entry["mark"])
                    left.marks.append(mark)
                    left.ends.append(left.size + len(line))
            except (TypeError, ValueError):
                break
            left = replace(left, finished=finished, size=left.size + len(line))
    return left


def parse_line(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None if it is not whole."""
    crc, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text[:-1]):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
