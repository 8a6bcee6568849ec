"""Compare one grid model of many qualities with models of one quality, each after as many steps, or --times as many.

    AEKIT_DATA_DIR=data python benchmarks/grid_qualities.py blood-cells --steps 1200 --out grid-qualities

Trains a model of several qualities, and one model for λ of its lowest, its middle and its highest quality, on one
thread and from one seed. Weights that an earlier run left in --out are loaded. Codes are rounded with the dead zone of
training. Static tables are fitted to codes of training pictures; the ideal bits and errors are those of test pictures.
`more_bits` says how many more bits a pixel the model of many qualities needs for the error of each single model: its
curve is drawn through its qualities, straight in the logarithms of bits and error. Writes
results/grid-qualities-SET-TIMESx.json and .md.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, save, table
from picture_sets import SETS, Picture, spread
from torch import Tensor

from aekit.codes.entropy import FrequencyTables
from aekit.training.config import make_config
from aekit.training.grid_loop import GridLoop, to_floats
from aekit.training.networks import Autoencoder, make_network
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.objectives.grid_rate import GridRate
from aekit.training.objectives.latents import model_of
from aekit.training.objectives.rounding import round_with_dead_zone
from aekit.training.pictures import PictureData
from aekit.training.reproducible import flushed_denormals

MOST = {"gtsrb": {"training": 1200, "test": 250}}
"""Most pictures of each split of a set, evenly spaced, where they are not all taken."""
FITTED_ON, TESTED = 150, 60
"""Training pictures that tables are fitted on, and test pictures, unless MOST says more."""


def trained(
    pictures: dict[str, list[Picture]], options: dict[str, Any], steps: int, arguments: argparse.Namespace
) -> Autoencoder:
    """Return a network, trained or loaded."""
    config = make_config(arguments.preset, network="grid", steps=steps, options=options, precision="fp32")
    geometry = config.grid_geometry(pictures["training"][0].shape[2])
    name = "-".join(map(str, (arguments.set, arguments.preset, steps, *options.values())))
    weights = arguments.out / f"{name}.pt"
    network = make_network(config, geometry)
    if weights.exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
        return network
    data = PictureData("folder", geometry, pictures["training"], pictures["validation"], "", "", "")
    start = BlockStatistics.of(pictures["training"], geometry.stride, config.code_dim, config.seed)
    loop, began = GridLoop(config, data, "cpu", start), time.process_time()
    with flushed_denormals():
        while loop.step < loop.total:
            loop.train_step(0)
    print(f"{name}: {time.process_time() - began:.0f} s of CPU time", flush=True)
    torch.save(loop.exported.state_dict(), weights)
    return loop.exported


@torch.no_grad()
def measured(network: Autoencoder, pictures: dict[str, list[Picture]], quality: int | None) -> dict[str, float]:
    """Return bits a pixel and error of the test pictures at a quality, None for a network of one."""
    given = None if quality is None else torch.tensor([quality])
    latents = model_of(network).of(given)

    def code(picture: Picture) -> Tensor:
        x = to_floats(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None])
        return round_with_dead_zone(latents.steps(network.features(x, given)))

    def numbers(steps: Tensor) -> Any:
        return (steps[0] + 128).to(torch.uint8).flatten(0, 1).numpy()

    fitted = np.concatenate([numbers(code(picture)) for picture in spread(pictures["training"], FITTED_ON)])
    tables, bits, error, pixels = FrequencyTables.fit(fitted), 0.0, 0.0, 0
    for picture in pictures["test"]:
        steps, (height, width) = code(picture), picture.shape[:2]
        bits += tables.entropy_bits(numbers(steps))
        x_hat = network.decode(steps * latents.size, given)[0].permute(1, 2, 0)[:height, :width]
        levels = (x_hat.clamp(0, 1) * 255).round() - torch.from_numpy(picture.astype(np.float32))
        error += float((levels / 255).square().mean()) * height * width
        pixels += height * width
    return {"bits_per_pixel": bits / pixels, "mse": error / pixels}


def bits_at(error: float, curve: Sequence[dict[str, float]]) -> float:
    """Return the bits a pixel of a curve at an error, drawn on beyond its ends."""
    x, y = (np.log([point[name] for point in curve])[::-1] for name in ("mse", "bits_per_pixel"))
    place = int(np.clip(np.searchsorted(x, np.log(error)), 1, len(x) - 1))
    slope = (y[place] - y[place - 1]) / (x[place] - x[place - 1])
    return float(np.exp(y[place] + slope * (np.log(error) - x[place])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--times", type=int, default=1, help="times as many steps for the model of many qualities")
    parser.add_argument("--qualities", type=int, default=8)
    parser.add_argument("--lambda", dest="lambda_", type=float, default=0.005)
    parser.add_argument("--out", type=Path, default=Path("grid-qualities"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    most = {"training": 0, "validation": 100, "test": TESTED, **MOST.get(arguments.set, {})}
    pictures = {split: spread(list(SETS[arguments.set].read(split)), count) for split, count in most.items()}
    options = {"lambda": arguments.lambda_, "qualities": arguments.qualities}
    network = trained(pictures, options, arguments.times * arguments.steps, arguments)
    curve = [measured(network, pictures, quality) for quality in range(1, arguments.qualities + 1)]
    weights = GridRate(lambda_=arguments.lambda_, qualities=arguments.qualities).weights()
    rows = []
    for weight in (weights[-1], arguments.lambda_, weights[0]):
        single = measured(trained(pictures, {"lambda": float(weight)}, arguments.steps, arguments), pictures, None)
        many = bits_at(single["mse"], curve)
        more = f"{100 * (many / single['bits_per_pixel'] - 1):+.1f} %"
        rows.append({"lambda": float(weight), **single, "many_qualities": many, "more_bits": more})
        print(rows[-1], flush=True)
    facts = {"machine": machine(), "settings": {**vars(arguments), "out": None}, "curve": curve, "single": rows}
    several = [{"quality": number, **point} for number, point in enumerate(curve, 1)]
    title = (
        f"{arguments.set}, preset {arguments.preset}, {arguments.steps:,} steps, {arguments.times} times as many for "
    )
    title += f"the model of many qualities, {len(pictures['test'])} test pictures"
    save(f"grid-qualities-{arguments.set}-{arguments.times}x", facts, f"{title}\n\n{table(rows)}\n\n{table(several)}")


if __name__ == "__main__":
    main()
