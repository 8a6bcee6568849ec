"""How small archives of grid codes are: exported models beside codecs at all scales, on pictures they never saw.

    AEKIT_DATA_DIR=data python benchmarks/compression.py --set blood-cells --unpack blood
    aekit train blood/train --out runs/b1 …; aekit export runs/b1 --out b1     # once for each size
    AEKIT_DATA_DIR=data python benchmarks/compression.py --set blood-cells --models b1 b2 b3
    python benchmarks/compression.py --folder my-images --models m1 m2

Bytes are those of an archive of all test pictures, without names, divided by the pictures. `payload` leaves out the
archive's header, and of a codec's file the size of a file of one gray pixel. Errors are of stored codes through both
graphs: the mean over pictures of the mean squared error, pixels in [0, 1]. Codecs are tried on some of the pictures,
and models are compared with them on just those. A set brings its split. Of a folder those pictures are taken that
training held out. --unpack writes a set's pictures as PNG files, or halved copies of a folder of JPEG files, and does
nothing else. Results are written to benchmarks/results: compression-NAME.json and .md, curves, pictures side by side.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from common import RESULTS, machine, save, table
from common import load as load_results
from envelope import QUALITIES, kept, load, measure, of_codec
from picture_sets import AIM, MARKS, REACH, SETS, Picture, halved, spread
from PIL import Image, ImageOps
from rate_distortion import Curve, Point, bd_rate, bytes_at, curve_of, frontier
from side_by_side import Coded, sheet

from aekit.evaluation.archive_size import added_bytes, archive_size
from aekit.evaluation.codecs import as_image, as_pixels
from aekit.evaluation.envelope import Setting
from aekit.evaluation.metrics import mse, psnr
from aekit.evaluation.opening import open_test_images
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec

matplotlib.use("Agg")

Rows = list[dict[str, Any]]
SIZES = {"bytes": "files", "payload": "without headers"}


class Measured:
    """A model on test pictures."""

    def __init__(self, folder: Path, test: Sequence[Picture], shared: Sequence[int]) -> None:
        codec = Codec.load(folder, "cpu")
        self.name, self.spec = folder.name, codec.spec
        codes = codec.encode(list(test), "uint8")
        self.back = codec.decode(codes)
        self.archive = archive_size(codec.bundle, codes)
        errors = np.array([mse(picture, back) for picture, back in zip(test, self.back, strict=True)])
        areas = np.array([picture.shape[0] * picture.shape[1] for picture in test])
        chosen = codes if len(shared) == len(test) else codec.encode([test[row] for row in shared], "uint8")
        payload, header = added_bytes(codec.bundle, chosen)
        size, error = payload + header / len(test), float(errors[shared].mean())
        self.shared = Setting("aekit", 1.0, "", None, "", size, payload, error)
        self.row = {
            "model": self.name,
            "stride": self.spec.grid.stride,
            "numbers a place": self.spec.code_dim,
            "preset": self.spec.preset,
            "encoder bytes": len(codec.bundle.graph("encoder")),
            "decoder bytes": len(codec.bundle.graph("decoder")),
            "pictures": len(test),
            "bytes": self.archive.bytes_per_image,
            "payload": added_bytes(codec.bundle, codes)[0],
            "bits a pixel": 8 * self.archive.file / int(areas.sum()),
            "MSE": float(errors.mean()),
            "PSNR": psnr(float(errors.mean())),
            "MSE over all pixels": float(np.average(errors, weights=areas)),
        }
        self.of_one = [added_bytes(codec.bundle, codes[row : row + 1])[0] for row in spread(range(len(test)), 4)]


def compared(models: Sequence[Measured], settings: Sequence[Setting]) -> Rows:
    """Our bytes beside those of the envelope and of each codec at native size, at our errors, on the same pictures."""
    rows: Rows = []
    for model in models:
        ours, row = model.shared, {"model": model.name, "MSE": model.shared.mse}
        for size, words in SIZES.items():
            peer, own = bytes_at(curve_of(settings, size), ours.mse), float(getattr(ours, size))
            row |= {f"aekit, {words}": own, f"envelope, {words}": peer, f"ratio, {words}": peer and own / peer}
        best = [each for each in settings if each.mse <= ours.mse]
        row["best setting"] = str(min(best, key=lambda each: each.bytes)) if best else None
        for codec in QUALITIES:
            row[f"{codec}, native"] = bytes_at(curve_of(of_codec(settings, codec, native=True)), ours.mse)
        rows.append({**row, "who wins": _winner(row)})
    return rows


def _winner(row: dict[str, Any]) -> str:
    ratios = [row[f"ratio, {words}"] for words in SIZES.values()]
    if None in ratios:
        return "unknown: the codecs have no such error"
    if ratios[0] > 1:
        return "codecs do better here"
    return "aekit; codecs without headers" if ratios[1] > 1 else "aekit"


def at_marks(name: str, ours: Curve, settings: Sequence[Setting]) -> Rows:
    """The targets: the envelope and ours at the errors that they stand at."""
    rows: Rows = []
    for mark in MARKS.get(name, ()):
        peer, own = bytes_at(curve_of(settings), mark), bytes_at(ours, mark)
        share = own / peer if own and peer else None
        rows.append(
            {"MSE": mark, "envelope": peer, "aekit": own, "ratio": share, "reach": REACH[name], "aim": AIM[name]}
        )
    return rows


def curves(models: Sequence[Measured], settings: Sequence[Setting], size: str) -> dict[str, Curve]:
    """The curves of ours, of the envelope and of each codec, at all scales and at native size."""
    found = {"aekit": frontier([Point(getattr(m.shared, size), m.shared.mse, m.name) for m in models])}
    found["envelope"] = curve_of(settings, size)
    for codec in QUALITIES:
        found[f"{codec}, all scales"] = curve_of(of_codec(settings, codec), size)
        found[f"{codec}, native"] = curve_of(of_codec(settings, codec, native=True), size)
    return {name: curve for name, curve in found.items() if curve}


def bd_rates(by_size: dict[str, dict[str, Curve]]) -> Rows:
    """BD-rates of ours against each curve, in per cent of its bytes."""
    peers = [name for name in by_size["bytes"] if name != "aekit"]
    ours = {size: found["aekit"] for size, found in by_size.items()}
    return [
        {"against": peer, **{SIZES[size]: bd_rate(ours[size], by_size[size][peer]) for size in SIZES}} for peer in peers
    ]


def draw(file: Path, name: str, by_size: dict[str, dict[str, Curve]], models: Sequence[Measured]) -> None:
    """The curves as a picture: bytes a picture against PSNR, as files and without headers."""
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(14, 6), sharey=True)
    errors = [model.shared.mse for model in models]
    for axes, (size, found) in zip(both, by_size.items(), strict=True):
        for peer, curve in found.items():
            points = [p for p in curve if min(errors) / 4 < p.mse < 4 * max(errors)]
            style = {"aekit": "k-o", "envelope": "k--"}.get(peer, ":" if peer.endswith("native") else "-")
            axes.plot([p.bytes for p in points], [psnr(p.mse) for p in points], style, label=peer, markersize=4)
        axes.set(xscale="log", xlabel=f"bytes a picture, {SIZES[size]}", ylabel="PSNR, dB", title=name)
        axes.grid(alpha=0.3)
    both[0].legend(fontsize=8)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(file, dpi=90, bbox_inches="tight")
    pyplot.close(figure)


def side_by_side(file: Path, model: Measured, test: Sequence[Picture], settings: Sequence[Setting]) -> None:
    """Pictures of one model beside AVIF and WebP at equal bytes without headers."""
    rows = spread(range(len(test)), 4)
    ours = [Coded(size, model.back[row]) for size, row in zip(model.of_one, rows, strict=True)]
    peers = {codec: found for codec in ("AVIF", "WebP") if (found := of_codec(settings, codec))}
    sheet([test[row] for row in rows], ours, peers).save(file, optimize=True)


def run(name: str, test: list[Picture], folders: Sequence[Path], images: int, stored: list[Setting]) -> None:
    """Measure models and codecs, and write the results."""
    shared = spread(range(len(test)), images)
    models = [Measured(folder, test, shared) for folder in folders]
    settings = stored or kept(measure([test[row] for row in shared]))
    by_size = {size: curves(models, settings, size) for size in SIZES}
    picture, sheet_file = f"compression-{name}.png", f"compression-{name}-pictures.png"
    draw(RESULTS / picture, name, by_size, models)
    side_by_side(RESULTS / sheet_file, models[len(models) // 2], test, settings)
    marks = at_marks(name, by_size["bytes"]["aekit"], settings)
    rows, rates = compared(models, settings), bd_rates(by_size)
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    parts = [
        f"# Compression of {name}\n\nMade by `python benchmarks/compression.py` on: {where}.",
        f"Models on all {len(test)} test pictures, without names in the archive:",
        table(model.row for model in models),
        f"Beside codecs, on the {len(shared)} test pictures that codecs were tried on. `–`: no setting of a codec has "
        "such an error, or every setting has a smaller one.",
        table(rows),
        *(("At the errors of the targets, between our models:", table(marks)) if marks else ()),
        "BD-rate of aekit against each, in per cent of its bytes; less than 0 is fewer bytes:",
        table(rates),
        f"![curves]({picture})",
        f"The middle of some pictures at equal bytes without headers:\n\n![pictures]({sheet_file})",
    ]
    facts = {
        "models": [model.row for model in models],
        "compared": rows,
        "marks": marks,
        "BD-rate": rates,
        "pictures codecs were tried on": len(shared),
        "settings": [] if stored else [asdict(setting) for setting in settings],
        "machine": machine(),
    }
    save(f"compression-{name}", facts, "\n\n".join(parts))
    print("\n\n".join(parts[1:]), flush=True)


def halve_folder(images: Path, out: Path) -> None:
    """Write halved copies of a folder's pictures as PNG files."""
    for file in sorted(path for path in images.rglob("*") if path.is_file()):
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            picture = as_pixels(upright.convert("L" if upright.mode in ("1", "L", "I;16") else "RGB"))
        target = out / file.relative_to(images).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        as_image(halved(picture)).save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--set", choices=SETS, help="a set in AEKIT_DATA_DIR, with its own split")
    source.add_argument("--folder", type=Path, help="any folder of images")
    parser.add_argument("--models", type=Path, nargs="+", default=[], help="exported models of grid codes")
    parser.add_argument(
        "--images",
        type=int,
        default=0,
        help="evenly spaced test pictures to try codecs on (default: the set's stored envelope, or all)",
    )
    parser.add_argument("--unpack", type=Path, help="folder to write pictures to, instead of measuring")
    arguments = parser.parse_args()
    if arguments.unpack and arguments.set:
        SETS[arguments.set].unpack(arguments.unpack)
    elif arguments.unpack:
        halve_folder(arguments.folder, arguments.unpack)
    elif not arguments.models:
        parser.error("name the models with --models")
    elif arguments.set:
        known = {} if arguments.images else load_results(f"envelope-{arguments.set}")
        images, stored = (known["pictures"], load(arguments.set)) if known else (arguments.images, [])
        run(arguments.set, list(SETS[arguments.set].read("test")), arguments.models, images, stored)
    else:
        test = list(open_test_images(str(arguments.folder), Bundle.read(arguments.models[0])).images)
        run(re.sub(r"\W+", "-", arguments.folder.name) or "folder", test, arguments.models, arguments.images, [])


if __name__ == "__main__":
    main()
