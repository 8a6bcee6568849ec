"""What is fuzzed: for each kind of file that aekit reads, good ones to begin from and what is done with a changed one.

A target's `run` may return or raise an AekitError; it raises Wrong where an answer differs from what a checksum or a
documented rule promises. Anything else that comes out of it is a finding.
"""

import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aekit.codes.archive import Archive, staged_archive
from aekit.codes.entropy import FrequencyTables, decode, encode
from aekit.codes.npy import CodeFile, index_path
from aekit.codes.npy_format import CodeWriter
from aekit.errors import AekitError, ImageError
from aekit.images.arrays import load_images, read_idx
from aekit.images.decode import decode_file, native_form
from aekit.images.records import Record, check_relative
from aekit.images.sources import read_files
from aekit.model.bundle import MANIFEST, Bundle
from aekit.model.codec import Codec
from aekit.model.graph_check import check_self_contained
from aekit.model.sampling import LatentGaussian
from aekit.pca import Pca
from aekit.runs import CONFIG, config_checksum
from aekit.spec import Geometry

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
GEOMETRY = Geometry(16, 24, 3)
CODES = np.random.default_rng(0).normal(128, 30, (50, 4)).clip(0, 255).astype(np.uint8)


class Wrong(Exception):
    """An answer that should have been an error, or another one."""


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    seeds: list[bytes]
    """Good files."""
    run: Callable[[bytes], None]
    """Reads a changed one the way aekit does."""
    repair: Callable[[bytes], bytes] = bytes
    """Makes the checksums of a changed file fit again, so that the change gets past them; every second input has it."""


def image(folder: Path) -> Target:
    """PNG, JPEG, WebP, BMP and TIFF files, by the decoder of training and device."""
    y, x = np.mgrid[:20, :30]
    rgb = Image.fromarray(np.stack([8 * x, 12 * y, (x * y) % 256], -1).astype(np.uint8))
    gray16 = Image.fromarray((y * 3000 + x).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, dict[str, Any]]] = [
        (rgb, {"format": "PNG"}),
        (
            rgb.resize((GEOMETRY.width, GEOMETRY.height)).convert("L" if GEOMETRY.channels == 1 else "RGB"),
            {"format": "PNG"},
        ),
        (rgb, {"format": "PNG", "exif": exif}),
        (rgb.quantize(16), {"format": "PNG", "transparency": 3}),
        (gray16, {"format": "PNG", "transparency": 900}),
        (rgb, {"format": "PNG", "save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, {"format": "JPEG", "exif": exif}),
        (rgb, {"format": "JPEG", "progressive": True, "icc_profile": b"profile"}),
        (rgb.convert("CMYK"), {"format": "JPEG"}),
        (rgb, {"format": "WEBP"}),
        (rgb.convert("RGBA"), {"format": "WEBP", "lossless": True, "exif": exif}),
        (rgb, {"format": "BMP"}),
        (rgb.convert("1"), {"format": "BMP"}),
        (rgb, {"format": "TIFF", "compression": "tiff_lzw"}),
        (gray16, {"format": "TIFF"}),
        (rgb.convert("1"), {"format": "TIFF", "compression": "group4"}),
        (rgb, {"format": "TIFF", "compression": "jpeg"}),
    ]
    seeds = [saved(lambda stream, image=image, how=how: image.save(stream, **how)) for image, how in kinds]
    file = folder / "x.png"

    def run(data: bytes) -> None:
        file.write_bytes(data)
        block = read_files(folder, (file.name,), GEOMETRY)  # as jobs do, which unpack small PNG files together
        try:
            pixels, (width, height) = decode_file(file, GEOMETRY)
        except ImageError:
            if not block.records[0].error:
                raise Wrong("read among others and refused alone") from None
            raise
        if not np.array_equal(block.images, pixels[None]):
            raise Wrong("other pixels among others than alone")
        if pixels.shape != GEOMETRY.shape or pixels.dtype != np.uint8 or width < 1 or height < 1:
            raise Wrong(f"{pixels.dtype} {pixels.shape} of {width}x{height}")
        if native_form(file)[0] != (width, height):
            raise Wrong(f"{width}x{height} when read, {native_form(file)[0]} by its header")

    return Target(seeds, run, repaired_png)


def npy(folder: Path) -> Target:
    """Images in .npy files."""
    arrays = [np.arange(480, dtype=np.uint8).reshape(5, 8, 12), np.ones((2, 8, 8, 3)), np.zeros((2, 8, 8), np.uint16)]
    arrays += [np.asfortranarray(arrays[0]), np.array([object()], object)]
    return Target([saved(lambda stream, a=a: np.save(stream, a)) for a in arrays], images_in(folder / "x.npy"))


def npz(folder: Path) -> Target:
    """Images in .npz files."""
    array = np.arange(480, dtype=np.uint8).reshape(5, 8, 12)
    seeds = [
        saved(lambda stream: np.savez(stream, images=array, labels=np.arange(5))),
        saved(lambda stream: np.savez_compressed(stream, array)),
    ]
    return Target(seeds, images_in(folder / "x.npz"), repaired_zip)


def idx(folder: Path) -> Target:
    """Images in idx files, plain and gzip."""
    plain = b"\0\0\x08\x03" + struct.pack(">3I", 5, 8, 12) + bytes(480)
    return Target([plain, saved(lambda stream: stream.write(gzipped(plain)))], images_in(folder / "x.idx", read_idx))


def index(folder: Path) -> Target:
    """The index of a code file, codes.jsonl."""
    path = code_file(folder)

    def run(data: bytes) -> None:
        index_path(path).write_bytes(data)
        for record in CodeFile.open(path).records():
            check_relative(record.path, "here")

    return Target([index_path(path).read_bytes()], run)


def codes(folder: Path) -> Target:
    """The rows of a code file, codes.npy, whose index has their checksum."""
    path = code_file(folder)

    def run(data: bytes) -> None:
        path.write_bytes(data)
        opened = CodeFile.open(path)
        rows = list(opened.batches(7))
        if not np.array_equal(np.concatenate(rows), CODES):
            raise Wrong("other codes with the same checksum")

    return Target([path.read_bytes()], run)


def archive(folder: Path) -> Target:
    """An archive, codes.aek: what is read is what was written, and what is salvaged a part of it."""
    path, bundle = folder / "codes.aek", Bundle.read(TINY)
    records = tuple(Record(f"a/{row}.png", 16, 16) for row in range(len(CODES)))
    with staged_archive(path, bundle, named=True) as writer:
        writer.add(CODES, (*records, Record("bad.png", error="empty file")))

    def run(data: bytes) -> None:
        path.write_bytes(data)
        for salvage in (True, False):
            with Archive.open(path, bundle, salvage=salvage) as opened:
                opened.check_model(bundle)
                found = list(opened.records())
                if not set(found) <= set(records) or (not salvage and tuple(found) != records):
                    raise Wrong("other records with the same checksums")
                if len(opened) and not np.array_equal(opened.codes(), CODES):
                    raise Wrong("other codes with the same checksums")

    return Target([path.read_bytes()], run)


def manifest(folder: Path) -> Target:
    """model.json of a model folder: what is loaded computes what it did, or is refused."""
    model = Path(shutil.copytree(TINY, folder / "model"))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    wanted = Codec.load(model, "cpu", 1).reconstruct(images)

    def run(data: bytes) -> None:
        (model / MANIFEST).write_bytes(data)
        codec = Codec.load(model, "cpu", 1)
        latents = LatentGaussian.of_model(codec.bundle)
        if not all(np.isfinite(batch).all() for batch in latents.draw(3, 0)):
            raise Wrong("latents that are no numbers")
        if not np.array_equal(codec.reconstruct(images), wanted):
            raise Wrong("other images from the same graphs")

    return Target([(TINY / MANIFEST).read_bytes()], run)


def graph(folder: Path) -> Target:
    """The encoder's ONNX graph, before onnxruntime sees it."""
    return Target([Bundle.read(TINY).graph("encoder")], lambda data: check_self_contained(data, "x.onnx"))


def entropy(folder: Path) -> Target:
    """Entropy-coded blocks of 50 codes."""
    tables = FrequencyTables.fit(CODES)

    def run(data: bytes) -> None:
        out = decode(data, len(CODES), tables)
        if out.shape != CODES.shape or out.dtype != np.uint8:
            raise Wrong(f"{out.dtype} {out.shape}")

    return Target([encode(CODES, tables), encode(CODES[::-1].copy(), tables)], run)


def tables(folder: Path) -> Target:
    """Frequency tables as JSON: those that are accepted code and decode."""
    seed = json.dumps(FrequencyTables.fit(CODES).to_dict()).encode()

    def run(data: bytes) -> None:
        read = FrequencyTables.from_dict(parsed(data))
        some = CODES[:, : min(len(read.frequencies), 4)]
        if some.shape[1] == len(read.frequencies) and not np.array_equal(decode(encode(some, read), 50, read), some):
            raise Wrong("codes that do not come back")

    return Target([seed], run)


def components(folder: Path) -> Target:
    """pca.npz of a run."""
    mean, rows, scales = np.zeros(64, np.float32), np.eye(4, 64, dtype=np.float32), np.ones(4, np.float32)
    seed = saved(lambda stream: np.savez(stream, mean=mean, components=rows, scales=scales))
    file, images = folder / "pca.npz", np.zeros((2, 8, 8, 1), np.uint8)

    def run(data: bytes) -> None:
        file.write_bytes(data)
        pca = Pca.load(file)
        if pca.mean.size == 64:
            pca.mse(images)

    return Target([seed], run, repaired_zip)


def config(folder: Path) -> Target:
    """config.json of a run."""
    from aekit.training.checkpoint import Run
    from aekit.training.config import make_config

    run = Run.create(folder / "run", make_config("default"), Geometry(8, 8, 1), {"train_images": 1})
    file = run.path / CONFIG

    def read(data: bytes) -> None:
        file.write_bytes(data)
        opened = Run.read(run.path)
        opened.config.spec(opened.geometry)

    def repaired(data: bytes) -> bytes:
        try:
            values = json.loads(data)
            return json.dumps({**values, "sha256": config_checksum(values)}).encode()
        except (ValueError, TypeError, RecursionError):
            return data

    return Target([file.read_bytes()], read, repaired)


def checkpoint(folder: Path) -> Target:
    """A run's safetensors files: what is read is what was written."""
    import torch

    from aekit.training.checkpoint import CHECKPOINT, Run
    from aekit.training.config import make_config

    run = Run.create(folder / "run", make_config("default"), Geometry(8, 8, 1), {"train_images": 1})
    tensors = {"network.weight": torch.arange(12.0).reshape(3, 4), "optimizer.0.step": torch.tensor(3.0)}
    run.save_tensors(CHECKPOINT, tensors, {"step": 3})
    file = run.path / CHECKPOINT
    seed = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        found, state = run.load_tensors(CHECKPOINT)
        same = found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
        if not same or state["step"] != 3:
            raise Wrong("other tensors with the same checksum")

    return Target([seed, b"\x80\x04\x95pickle"], read)


def resume(folder: Path) -> Target:
    """The state in a run's checkpoint, as one that has the right checksum may hold it."""
    from aekit.training.checkpoint import CHECKPOINT, Run
    from aekit.training.config import make_config
    from aekit.training.data import load_training_data
    from aekit.training.loop import TrainLoop
    from aekit.training.session import fit_principal
    from aekit.training.trainer import Epoch, _Recorder, train

    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    settings: dict[str, Any] = {"hidden": (2,), "code_dim": 2, "epochs": 3, "batch_size": 16, "precision": "fp32"}
    config = make_config("default", data=str(folder / "images.npy"), **settings)
    data = load_training_data(config.data)
    run = Run.create(folder / "run", config, data.geometry, data.facts())
    train(run, data, principal=fit_principal(config, data))
    tensors, state = run.load_tensors(CHECKPOINT)
    loop = TrainLoop(config, data, "cpu", Pca.fit(data.train, 2))

    def read(data: bytes) -> None:
        changed = parsed(data)
        if not isinstance(changed, dict):
            raise AekitError("no state")
        run.save_tensors(CHECKPOINT, tensors, changed)
        recorder = _Recorder(run, loop)
        recorder.restore()
        recorder.is_exhausted()
        if not 0 <= loop.step <= loop.total:
            raise Wrong(f"step {loop.step} of {loop.total}")
        if recorder.epochs:
            Epoch(**recorder.epochs[recorder.best_epoch - 1])

    return Target([json.dumps(state).encode()], read)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "image": image,
    "npy": npy,
    "npz": npz,
    "idx": idx,
    "index": index,
    "codes": codes,
    "archive": archive,
    "manifest": manifest,
    "graph": graph,
    "entropy": entropy,
    "tables": tables,
    "components": components,
    "config": config,
    "checkpoint": checkpoint,
    "resume": resume,
}
"""Targets by name; each is made in a folder of its own."""


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def parsed(data: bytes) -> Any:
    """The JSON values in `data`; what is none is refused before aekit sees it."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AekitError("not JSON") from error


def images_in(file: Path, read: Callable[[Path], Any] = load_images) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        file.write_bytes(data)
        images = read(file)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            raise Wrong(f"{images.dtype} {images.shape}")
        images[-1].sum()

    return run


def code_file(folder: Path) -> Path:
    path = folder / "codes.npy"
    with path.open("wb") as array, index_path(path).open("wb") as lines:
        writer = CodeWriter(array, lines, Bundle.read(TINY), "uint8", named=True)
        writer.add(CODES, tuple(Record(f"a/{row}.png", 16, 16) for row in range(len(CODES))))
        writer.add(CODES[:0], (Record("bad.png", error="empty file"),))
        writer.finish()
    return path


def repaired_png(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that their bytes want."""
    out, place = bytearray(data), 8
    while data[:4] == b"\x89PNG" and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(out)


def repaired_zip(data: bytes) -> bytes:
    """A zip file whose stored members have the checksums that their bytes want; of one that is none, as it is."""
    out = bytearray(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            directory = archive.start_dir
            for member in archive.infolist():
                start = member.header_offset + 30 + sum(struct.unpack_from("<HH", data, member.header_offset + 26))
                if member.compress_type == zipfile.ZIP_STORED:
                    crc = struct.pack("<I", zlib.crc32(data[start : start + member.file_size]))
                    out[directory + 16 : directory + 20] = out[
                        member.header_offset + 14 : member.header_offset + 18
                    ] = crc
                lengths = struct.unpack_from("<HHH", data, directory + 28)
                directory += 46 + sum(lengths)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError):
        return data
    return bytes(out)
