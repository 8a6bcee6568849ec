"""The batch jobs: compress a source to a code file, reconstruct a code file to images.

Each works block by block in bounded memory, in the order of the source; its output takes its name when it is whole.
"""

import json
import posixpath
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from aekit._version import __version__
from aekit.codec import BATCH_SIZE, DTYPES, Codec
from aekit.codes import CodeFile, CodeWriter, index_path
from aekit.errors import CodesError, ImageError, OptionError, SourceError
from aekit.images import MAX_PIXELS, Pixels
from aekit.outputs import check_folder_free, check_free, staged_file, staged_folder
from aekit.sources import Record, Source

MARKER = "aekit.json"
"""Lies in a folder of reconstructions and says where they come from; only such a folder is ever replaced."""

Progress = Callable[[int], None]
"""Called with the number of inputs done so far."""


@dataclass(frozen=True)
class Summary:
    """What a job did."""

    out: Path
    images: int
    """Images that made it."""
    skipped: tuple[Record, ...]
    """Inputs left out, with their reasons."""
    bytes: int
    """Size of the output that holds the codes or images, without indexes."""
    seconds: float
    provider: str
    """Where the graph ran, proved."""


def _ignore(_: int) -> None:
    pass


def compress(
    source: Source,
    out: Path,
    codec: Codec,
    *,
    dtype: str = "float32",
    batch_size: int = BATCH_SIZE,
    on_error: str = "skip",
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Encode every image of `source` into `out` (.npy) and its index (.jsonl).

    `on_error` says what an unreadable image does: `skip` leaves it out with a line in the index, `fail` stops the job.

    Raises OutputError if the output is in the way, ImageError on the first unreadable image under `fail`, SourceError
    if no image at all could be read. Nothing is left behind then.
    """
    if out.suffix != ".npy":
        raise OptionError(f"--out {out}", expected="a name that ends in .npy")
    if dtype not in DTYPES:
        raise OptionError("--dtype", expected=" or ".join(DTYPES), found=repr(dtype))
    if on_error not in ("skip", "fail"):
        raise OptionError("--on-error", expected="skip or fail", found=repr(on_error))
    if batch_size < 1:
        raise OptionError("--batch-size", expected="1 or more", found=str(batch_size))
    for path in (out, index_path(out)):
        check_free(path, overwrite=overwrite)
    provider = codec.provider("encoder")
    began, skipped = time.monotonic(), []
    # The index takes its name first: codes without their index would be of no use.
    with staged_file(out) as part, staged_file(index_path(out)) as index_part:
        with part.open("wb") as array, index_part.open("wb") as index:
            writer = CodeWriter(array, index, codec.bundle, dtype, named=source.paths is not None)
            for start in range(0, len(source), batch_size):
                stop = min(start + batch_size, len(source))
                block = source.read(start, stop, codec.spec.geometry)
                failed = [record for record in block.records if record.error]
                if failed and on_error == "fail":
                    raise ImageError(f"{failed[0].path}: {failed[0].error}")
                skipped += failed
                writer.add(codec.encode(block.images, dtype, batch_size), block.records)
                progress(stop)
            if not writer.count:
                reason = f"{skipped[0].path}: {skipped[0].error}" if skipped else "none"
                raise SourceError(source.name, expected="at least one readable image", found=reason)
            writer.finish()
        size = part.stat().st_size
    return Summary(out, writer.count, tuple(skipped), size, time.monotonic() - began, provider)


def reconstruct(
    codes: CodeFile,
    out: Path,
    codec: Codec,
    *,
    original_size: bool = False,
    batch_size: int = BATCH_SIZE,
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Decode every row of `codes`: to one array if `out` ends in .npy, else to PNG files in the source's folder tree.

    `original_size` scales each PNG to the size of the image it was made from.

    Raises ModelMismatch if the codes are another model's, CodesError if they are damaged, OutputError if the output is
    in the way. Nothing is left behind then.
    """
    codes.check_model(codec.bundle)
    if batch_size < 1:
        raise OptionError("--batch-size", expected="1 or more", found=str(batch_size))
    as_array = out.suffix == ".npy"
    named = codes.header is not None and codes.header["named"]
    if original_size and (as_array or not named):
        raise OptionError("--original-size", expected="codes of a folder and a folder as --out")
    provider = codec.provider("decoder")
    began = time.monotonic()
    if as_array:
        check_free(out, overwrite=overwrite)
        with staged_file(out) as part:
            size = _write_array(part, codes, codec, batch_size, progress)
    else:
        check_folder_free(out, MARKER, overwrite=overwrite)
        with staged_folder(out, MARKER, overwrite=overwrite) as folder:
            records = _png_records(codes)
            size = _write_folder(folder, records, codes, codec, batch_size, original_size, progress)
            facts = {"made_by": f"aekit {__version__} reconstruct", "model_id": codec.model_id}
            (folder / MARKER).write_text(json.dumps({**facts, "images": len(codes.codes)}) + "\n", encoding="utf-8")
    return Summary(out, len(codes.codes), (), size, time.monotonic() - began, provider)


def _decoded(codes: CodeFile, codec: Codec, batch_size: int, progress: Progress) -> Iterator[Pixels]:
    """The images, a batch at a time; after the last one the rows' checksum is held against the index."""
    crc = 0
    for start in range(0, len(codes.codes), batch_size):
        rows = np.ascontiguousarray(codes.codes[start : start + batch_size])
        crc = zlib.crc32(rows.data.cast("B"), crc)
        yield codec.decode(rows, batch_size)
        progress(start + len(rows))
    codes.check_rows(crc)


def _write_array(part: Path, codes: CodeFile, codec: Codec, batch_size: int, progress: Progress) -> int:
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False}
    header["shape"] = (len(codes.codes), *codec.spec.geometry.shape)
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for images in _decoded(codes, codec, batch_size, progress):
            file.write(images.data)
        return file.tell()


def _write_folder(
    folder: Path,
    records: list[Record],
    codes: CodeFile,
    codec: Codec,
    batch_size: int,
    original_size: bool,
    progress: Progress,
) -> int:
    row = size = 0
    for images in _decoded(codes, codec, batch_size, progress):
        for image in images:
            record = records[row]
            target = folder / record.path
            target.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
            if original_size:
                picture = picture.resize((record.width, record.height), Image.Resampling.BICUBIC)
            picture.save(target, "PNG")
            size += target.stat().st_size
            row += 1
    return size


def _png_records(codes: CodeFile) -> list[Record]:
    """A record a row, whose path is that of the PNG to write; raises CodesError if the index names a file twice."""
    records = list(codes.records())
    if not records:
        digits = max(6, len(str(len(codes.codes) - 1)))
        return [Record(f"{row:0{digits}d}.png") for row in range(len(codes.codes))]
    paths = png_paths([str(PurePosixPath(record.path)) for record in records])
    out = []
    index, seen = index_path(codes.path), set[str]()
    for record, path in zip(records, paths, strict=True):
        if record.width <= 0 or not 0 < record.width * record.height <= MAX_PIXELS:
            raise CodesError(f"{index}: {record.path}", expected="a size", found="none that is valid")
        if path in seen:
            raise CodesError(f"{index}: {record.path}", expected="each path once", found="it again")
        seen.add(path)
        out.append(Record(path, record.width, record.height))
    return out


def png_paths(paths: Sequence[str]) -> list[str]:
    """Where the images of `paths` are written: each with .png for its suffix.

    An image keeps its suffix, a.jpg.png, where the plain name is wanted by another image (a.jpg beside a.png), might be
    the kept name of one (a.jpg.webp beside a.jpg), or is a folder's (a.jpg beside a.png/b.jpg). Different paths
    therefore never give one name.
    """
    # Names are compared folded, because some file systems take A.png and a.png for one file.
    stems = Counter(_stem(path) for path in paths)
    inputs = {path.casefold() for path in paths}
    parents = {PurePosixPath(path.rpartition("/")[0].casefold()) for path in paths}
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}

    def target(path: str) -> str:
        stem = _stem(path)
        plain = stems[stem] == 1 and stem not in inputs and f"{stem}.png" not in folders
        return (posixpath.splitext(path)[0] if plain else path) + ".png"

    return [target(path) for path in paths]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0].casefold()
