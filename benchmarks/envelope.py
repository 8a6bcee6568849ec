"""Lower envelope of JPEG, WebP, AVIF and JPEG XL over scales and qualities: the peer that grid codes are held against.

Each test picture is shrunk by a factor of 1 to 12 (Lanczos), written as one file, read again and enlarged to its own
size (bicubic or Lanczos, the better of both). aekit/evaluation/envelope.py says what a setting and an envelope are.
Sizes count whole files; `payload` leaves out the header, the size of a file of one gray pixel at the same setting.

    AEKIT_DATA_DIR=data python benchmarks/envelope.py --images 40

writes results/envelope-SET.json for each set: the settings on the envelope of all codecs, of each codec, and of each
codec at native size.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common import RESULTS, machine, save, table
from picture_sets import MARKS, SETS, Picture, spread

from aekit.evaluation.codecs import available
from aekit.evaluation.envelope import Setting, bytes_at, envelope, scaled, tried, usable_factors

QUALITIES = {
    "JPEG": (1, 3, 7, 14, 24, 40, 60, 80, 92),
    "WebP": (0, 2, 5, 10, 20, 35, 50, 65, 80, 92),
    "AVIF": (5, 15, 25, 35, 45, 55, 65, 75, 85, 93),
    "JPEG XL": (1, 5, 10, 20, 35, 50, 65, 80, 90, 96),
}
"""Settings of `quality` tried with each codec."""


def measure(pictures: Sequence[Picture]) -> list[Setting]:
    """Try every setting on the pictures, but no factor that leaves a side of under 2 pixels."""
    settings = []
    for factor in usable_factors(pictures):
        given = scaled(pictures, factor)
        for codec in available():
            for quality in QUALITIES.get(codec.name, ()):
                settings += [tried(codec, given, quality, chroma) for chroma in codec.chromas(given.channels)]
    return settings


def of_codec(settings: Sequence[Setting], codec: str, *, native: bool = False) -> list[Setting]:
    """Return the settings of one codec; with `native` those that do not shrink."""
    return [setting for setting in settings if setting.codec == codec and not (native and setting.factor > 1)]


def kept(settings: Sequence[Setting]) -> list[Setting]:
    """Return the settings that stand on any envelope: of all codecs, of one, or of one at native size."""
    groups = [settings]
    for codec in QUALITIES:
        groups += [of_codec(settings, codec), of_codec(settings, codec, native=True)]
    found = [setting for group in groups for size in ("bytes", "payload") for setting in envelope(group, size)]
    return list(dict.fromkeys(found))


def load(name: str, results: Path = RESULTS) -> list[Setting]:
    """Read the settings of a set that an earlier run measured."""
    found = json.loads((results / f"envelope-{name}.json").read_text(encoding="utf-8"))
    return [Setting(**values) for values in found["settings"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help="sets to measure, of: " + ", ".join(SETS))
    parser.add_argument("--images", type=int, default=0, help="evenly spaced test pictures to try (default: all)")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        pictures = spread(list(SETS[name].read("test")), arguments.images)
        settings = kept(measure(pictures))
        rows = [
            {"MSE": mark, "bytes": bytes_at(settings, mark), "payload": bytes_at(settings, mark, "payload")}
            for mark in MARKS[name]
        ]
        print(f"{name}, {len(pictures)} pictures\n{table(rows)}", flush=True)
        facts = {"pictures": len(pictures), "marks": rows, "settings": [asdict(each) for each in settings]}
        title = f"# Envelope of {name}\n\nMade by `python benchmarks/envelope.py` on {len(pictures)} test pictures."
        lines = [asdict(setting) for setting in envelope(settings)]
        save(f"envelope-{name}", {**facts, "machine": machine()}, f"{title}\n\n{table(rows)}\n\n{table(lines)}")


if __name__ == "__main__":
    main()
