"""Grid codes against the envelope of codecs and scales: trained, chosen on validation pictures, measured on test ones.

    AEKIT_DATA_DIR=data python benchmarks/grid_codes.py --only blood-cells,tiles,gtsrb --layout tiny --minutes 10

For each set and λ this trains a grid network on one thread, fits integer tables on training pictures, chooses the
rounding of least cost on validation pictures (a tenth of the training split), and codes every test picture to real
bytes. The bytes are decoded again, through the decoder's graph to uint8 pictures, and compared with the envelope that
benchmarks/envelope.py measured. Writes results/grid-codes.json and .md; runs of other sets, layouts and λ stay in them.
The --out folder takes the weights, which a later run with --reuse loads, and one PNG a set with pictures side by side.
"""

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import load as load_results
from common import machine, save, table
from envelope import load as load_envelope
from envelope import of_codec
from grid_coding import Graphs, Rounding, choose, fit, in_blocks, message, pack, rounded, unpack
from grid_training import GridModel, train
from picture_sets import MARKS, REACH, SETS, Picture, spread
from side_by_side import Coded, sheet

from aekit.evaluation.envelope import Setting, bytes_at
from aekit.evaluation.metrics import mse as squared_error
from aekit.training.networks.layouts import LAYOUTS

LAMBDAS = {"blood-cells": 5e-3, "tiles": 4e-3, "gtsrb": 1e-3}
"""λ of each set if none is given; errors then lie between the marks of the set."""
ROUNDINGS = (
    *(Rounding(zone) for zone in (0.0, 0.08, 0.16, 0.24, 0.32)),
    *(Rounding(0.16, weight) for weight in (12.0, 10.0, 8.5, 7.0, 5.5)),
)
"""Ways to round that validation pictures choose among. In theory the weight is 6 · log2(e) = 8.7."""
ISSUE = {"blood-cells": (490, 1550, 3270), "tiles": (178, 660, 1130), "gtsrb": (113, 156, 263)}
"""Bytes of the envelope at the marks of each set, as the issue that set the targets states them."""
FITTED_ON = 300
"""Most training pictures that tables are fitted on."""
VALIDATED_ON = 150
"""Most validation pictures that the rounding is chosen on."""
NOTE = """`bytes` is a test picture's share of blocks: all test pictures in order, their sizes compressed, one table a
channel; the model is not counted. `single` is the mean of each picture's own message, with four bytes of size.
`envelope` counts whole files at the same MSE, `payload` leaves headers out (the size of a file of one gray pixel),
`issue` interpolates the issue's table. A ratio is `bytes` over the envelope's. MSE is the mean over pictures of each
one's error, pixels in [0, 1]. Seconds are CPU seconds of one onnxruntime thread a megapixel, picture by picture."""


def issue_settings(name: str) -> list[Setting]:
    """Return the issue's table as points of an envelope."""
    return [
        Setting("issue", 1.0, "", 0, "", size, size, mse) for mse, size in zip(MARKS[name], ISSUE[name], strict=True)
    ]


def compared(name: str, mse: float, size: float) -> dict[str, Any]:
    """Return the envelope's bytes at an error by our measurement and the issue's, and the ratios to them."""
    found = {
        "envelope": bytes_at(load_envelope(name), mse),
        "payload": bytes_at(load_envelope(name), mse, "payload"),
        "issue": bytes_at(issue_settings(name), mse),
    }
    ratios = {f"ratio_{peer}": size / peers if peers else None for peer, peers in found.items()}
    judged = ratios["ratio_issue"]
    return {**found, **ratios, "reach": REACH[name], "is_reached": None if judged is None else judged <= REACH[name]}


def measure(
    model: GridModel, training: Sequence[Picture], validation: Sequence[Picture], test: Sequence[Picture]
) -> tuple[dict[str, Any], list[tuple[int, Picture]]]:
    """Choose the rounding, code and decode the test pictures; returns figures, and (single bytes, picture) of each."""
    graphs = Graphs(model)
    latents = [graphs.latent(picture) for picture in spread(training, FITTED_ON)]
    chosen, tried = choose(graphs, latents, spread(validation, VALIDATED_ON), model.lambda_, ROUNDINGS)
    tables = fit(latents, chosen)
    graphs.seconds.update(encoder=0.0, decoder=0.0)
    test_latents = [graphs.latent(picture) for picture in test]
    codes = [rounded(latent, chosen, tables) for latent in test_latents]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in test]
    blocks = [pack(codes[part], sizes[part], tables) for part in in_blocks(codes)]
    singles = [len(message(code, size, tables)) for code, size in zip(codes, sizes, strict=True)]
    read = [item for block in blocks for item in unpack(block, graphs.stride, tables)]
    assert all(np.array_equal(code, given) for (code, _), given in zip(read, codes, strict=True))
    pictures = [graphs.picture(code, size) for code, size in read]
    errors = [squared_error(picture, back) for picture, back in zip(test, pictures, strict=True)]
    areas = np.array([height * width for height, width in sizes])
    figures = {
        "test_pictures": len(test),
        "blocks": len(blocks),
        "bytes": sum(map(len, blocks)) / len(test),
        "single": float(np.mean(singles)),
        "mse": float(np.mean(errors)),
        "mse_by_area": float(np.average(errors, weights=areas)),
        "bits_a_pixel": 8 * sum(map(len, blocks)) / int(areas.sum()),
        "beyond_uint8": int(sum((np.abs(latent) > 127).sum() for latent in test_latents)),
        "encoder_s_per_mp": graphs.seconds["encoder"] / areas.sum() * 1e6,
        "decoder_s_per_mp": graphs.seconds["decoder"] / areas.sum() * 1e6,
        "rounding": vars(chosen),
        "tried_on_validation": tried,
        "validation_pictures": min(VALIDATED_ON, len(validation)),
    }
    return figures, list(zip(singles, pictures, strict=True))


def on_same_pictures(name: str, test: Sequence[Picture], coded: Sequence[tuple[int, Picture]]) -> dict[str, Any]:
    """Compare single messages with the envelope on just those test pictures that the envelope was measured on."""
    count = load_results(f"envelope-{name}")["pictures"]
    places = spread(range(len(test)), count)
    size = float(np.mean([coded[place][0] for place in places]))
    mse = float(np.mean([squared_error(test[place], coded[place][1]) for place in places]))
    return {"pictures": count, "single": size, "mse": mse, **compared(name, mse, size)}


def run(name: str, lambda_: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train or load the network of one set and λ, measure it, draw its pictures; returns what results keep."""
    training, validation, test = (list(SETS[name].read(split)) for split in ("training", "validation", "test"))
    weights = arguments.out / f"{name}-{arguments.layout}-{lambda_:g}.pt"
    if arguments.reuse and weights.exists():
        model = GridModel.load(weights)
    else:
        # Mirrored signs are other signs.
        model = train(training, arguments.layout, lambda_, arguments.minutes, flips=name != "gtsrb")
        model.save(weights)
    figures, coded = measure(model, training, validation, test)
    encoder, decoder = LAYOUTS[model.layout].kmac(model.channels)
    file = arguments.out / f"{name}-{model.layout}-{lambda_:g}.png"
    peers = {codec: of_codec(load_envelope(name), codec) for codec in ("AVIF", "WebP")}
    sheet(test, [Coded(size, picture) for size, picture in coded], peers).save(file)
    return {
        "set": name,
        "layout": model.layout,
        "lambda": lambda_,
        **figures,
        **compared(name, figures["mse"], figures["bytes"]),
        "same_pictures": on_same_pictures(name, test, coded),
        "encoder_kmac": encoder,
        "decoder_kmac": decoder,
        "training": model.facts,
        "machine": {**machine(), "threads": 1, "load": round(os.getloadavg()[0], 1)},
    }


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Return the report of all runs."""
    first = ("set", "layout", "lambda")
    sizes = ("test_pictures", "mse", "bytes", "single", "envelope", "payload", "issue")
    ratios = ("ratio_envelope", "ratio_payload", "ratio_issue", "reach", "is_reached")
    work = ("encoder_kmac", "decoder_kmac", "encoder_s_per_mp", "decoder_s_per_mp")
    same = ("pictures", "mse", "single", "envelope", "issue", "ratio_envelope", "ratio_issue")

    def rows(keys: Sequence[str], part: str = "") -> str:
        found = [{**entry, **(entry[part] if part else {})} for entry in runs]
        return table({key: entry[key] for key in (*first, *keys)} for entry in found)

    parts = [
        "# Grid codes against the envelope\n\nMade by `python benchmarks/grid_codes.py`.\n\n" + NOTE,
        rows(sizes),
        rows(ratios),
        "The envelope was measured on some of the test pictures. On just those, with single messages:",
        rows(same, "same_pictures"),
        "The rounding that validation pictures chose:",
        rows(("dead_zone", "weight"), "rounding"),
        "Training on one thread:",
        rows(("steps", "cpu_s", "wall_s", "training_pictures"), "training"),
        "Work a pixel in thousands of multiplications, and time; `load` is how many processes wanted the cores:",
        rows((*work, "processor", "cores", "load"), "machine"),
    ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help="sets, of: " + ", ".join(SETS))
    parser.add_argument("--layout", default="tiny", choices=LAYOUTS, help="layout of the network")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of each training")
    parser.add_argument("--lambda", dest="lambdas", default="", help="one λ or several, with commas (default: by set)")
    parser.add_argument("--out", type=Path, default=Path("grid-codes"), help="folder for weights and pictures")
    parser.add_argument("--reuse", action="store_true", help="load weights that an earlier run left in --out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # figures are of one thread
    warnings.filterwarnings("ignore", category=FutureWarning)  # torch's exporter warns of its own code
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only.split(","):
        for lambda_ in [float(text) for text in arguments.lambdas.split(",") if text] or [LAMBDAS[name]]:
            found = run(name, lambda_, arguments)
            runs: dict[str, Any] = load_results("grid-codes").get("runs", {})
            runs = dict(sorted({**runs, f"{name}-{found['layout']}-{lambda_:g}": found}.items()))
            save("grid-codes", {"runs": runs}, markdown(list(runs.values())))
            shown = (
                "set",
                "lambda",
                "mse",
                "bytes",
                "envelope",
                "issue",
                "ratio_envelope",
                "ratio_issue",
                "is_reached",
            )
            print(table([{key: found[key] for key in shown}]), flush=True)


if __name__ == "__main__":
    main()
