"""The lines of a journal: write one, read them all from a file that may be damaged, and say what they add up to."""

import json
import os
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

from aekit.outputs.contents import Content
from aekit.outputs.marks import Mark

VERSION = 3
"""Format of the journal. A journal of another format can't be resumed."""
_TORN = re.compile(rb"\0*|[0-9a-f]{0,8}|[0-9a-f]{8} (\{[^\n]*)?")
"""Content of a journal whose first line was not wholly written: the start of a line, or zeros after a power cut."""


@dataclass
class Log:
    """What the lines of a journal say, up to the first one that is not whole."""

    version: int | None = None
    """Format of the journal; None if it is empty."""
    is_foreign: bool = False
    """Whether the file is not a journal of aekit's."""
    inodes: set[int] = field(default_factory=set)
    """Inode numbers of the journal when jobs opened it. Another number than now tells that it was moved or copied."""
    facts: dict[str, Any] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    making: set[str] = field(default_factory=set)
    """Names of parts that were about to be made."""
    parts: dict[str, int] = field(default_factory=dict)
    """Inode number of each part that was made, by name."""
    finished: tuple[int, ...] = ()
    """Inode numbers of the outputs, once they were finished."""
    over: tuple[int, ...] = ()
    """Inode numbers of the files that the outputs were to replace."""
    contents: tuple[Content, ...] = ()
    """Content of each finished output; empty if the journal does not tell it."""
    replaced: tuple[Content | None, ...] = ()
    """Content of what each output was to replace."""
    size: int = 0
    """Bytes of the whole lines."""

    def take(self, entry: dict[str, Any], size: int) -> None:
        """Take over a line of `size` bytes. Raises a builtin error, such as ValueError, if it is malformed."""
        if "pid" in entry:
            self.inodes.add(int(entry["inode"]))
        if "anew" in entry:
            self.facts, self.marks, self.finished, self.over = {}, [], (), ()
            self.contents, self.replaced = (), ()
        if "making" in entry:
            self.making.add(_part_name(entry["making"]))
        if "part" in entry:
            name, inode = entry["part"]
            self.parts[_part_name(name)] = int(inode)
        self.facts.update(entry.get("facts", {}))
        if "finished" in entry:
            contents = tuple(map(Content.from_json, entry.get("contents", ())))
            if len(contents) not in (0, len(entry["finished"])):
                raise ValueError("contents of other outputs")
            replaced = tuple(old if old is None else Content.from_json(old) for old in entry.get("replaced", ()))
            self.finished, self.over = tuple(entry["finished"]), tuple(entry.get("over", ()))
            self.contents, self.replaced = contents, replaced
        if "mark" in entry:
            self.marks.append(Mark.from_json(entry["mark"]))
        if "rewind" in entry:
            del self.marks[int(entry["rewind"]) :]
        self.size += size


def read_log(file: int) -> Log:
    """Read a journal from its start. A line that is not a whole line of this format ends it."""
    log = Log()
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as lines:
        for line in lines:
            if (entry := parse_line(line)) is None:
                log.is_foreign = log.version is None and not _TORN.fullmatch(line)
                break
            if log.version is None:
                if "journal" not in entry and "pid" not in entry:
                    log.is_foreign = True
                    break
                log.version = entry.get("journal", 1)  # the first format did not say its number
            if log.version != VERSION:
                break
            try:
                log.take(entry, len(line))
            except (TypeError, ValueError, KeyError, OverflowError):  # the last one for infinity as an integer
                break
    return log


def _part_name(name: Any) -> str:
    """Return a part's name as a journal has it: in its own folder, or a whole path. Raises ValueError for another."""
    if not isinstance(name, str) or "\0" in name or not name.endswith(".part"):
        raise ValueError("a name that no part has")
    if os.path.basename(name) != name and not os.path.isabs(name):
        raise ValueError("a part in another folder")
    return name


def to_line(entry: dict[str, Any]) -> bytes:
    """Return the line that says `entry`."""
    text = json.dumps(entry).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return what a line says, or None if it is not whole."""
    crc, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text[:-1]):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
