"""Training on shared cores: a team of threads compared with torch's own threads.

    python benchmarks/training_cores.py [--passes 5] [--seconds 6]

Trains the default recipe on mnist-5k, and the grid preset `tiny` on made pictures, in turns: by a team (one thread for
a share of the batch) and by torch's threads (each operation divided); alone, beside one process that keeps a core
busy, and with only one core allowed. Writes results/training-cores.json and .md.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from common import Rows, machine, save, table

from aekit.cores import cores
from aekit.pca import Pca
from aekit.training.config import make_config
from aekit.training.data import load_training_data
from aekit.training.devices import choose_precision
from aekit.training.grid_loop import GridLoop
from aekit.training.loop import TrainLoop
from aekit.training.networks import components_wanted
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.pictures import PictureData
from aekit.training.reproducible import flushed_denormals
from aekit.training.team import Team

Make = Callable[[Team], TrainLoop | GridLoop]


def vectors() -> Make:
    """The default recipe on 3,500 digits."""
    data = load_training_data("mnist-5k")
    config = make_config("default", data="mnist-5k", precision=choose_precision("cpu"))
    principal = Pca.fit(data.train, max(components_wanted(config, data.geometry), config.code_dim))
    return lambda team: TrainLoop(config, data, "cpu", principal, team)


def grids() -> Make:
    """The preset `tiny` on pictures of noise and waves; speed does not depend on what they show."""
    rng = np.random.default_rng(0)
    waves = 100 + 50 * np.sin(np.arange(240)[:, None, None] / 30 + np.arange(320)[None, :, None] / 20)
    pictures = [(waves + rng.normal(0, 20, (240, 320, 3))).clip(0, 255).astype(np.uint8) for _ in range(40)]
    config = make_config("tiny", data="made", network="grid", precision=choose_precision("cpu"))
    geometry = config.grid_geometry(3, 0)
    data = PictureData("made", geometry, pictures[:36], pictures[36:], "the last 4", "", "made")
    start = BlockStatistics.of(data.train, geometry.stride, config.code_dim, 0)
    return lambda team: GridLoop(config, data, "cpu", start, team)


def rate(loop: TrainLoop | GridLoop, seconds: float) -> float:
    """Steps per second, after two steps that warm up."""
    loop.step = loop.total // 2 // loop.per_epoch * loop.per_epoch
    batches = list(loop.batches())
    with flushed_denormals(), loop.team.at_work():
        for batch in batches[:2]:
            loop.train_step(batch)
        began, done = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            loop.train_step(batches[done % (len(batches) - 1)])
            done += 1
        return done / (time.monotonic() - began)


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def one_core() -> Iterator[None]:
    """Allow this process, all its threads included, one core."""
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    before = os.sched_getaffinity(0)
    for thread in threads:
        os.sched_setaffinity(thread, {min(before)})
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setaffinity(thread, before)


@contextmanager
def alone() -> Iterator[None]:
    yield


PLACES = {"alone": alone, "beside a busy process": busy, "on one core": one_core}


def measured(what: str, make: Make, passes: int, seconds: float) -> Rows:
    """Steps per second of both ways in all places, medians over passes that took turns."""
    loops = {"team": make(Team(cores())), "torch": make(Team())}
    found: dict[tuple[str, str], list[float]] = {(place, way): [] for place in PLACES for way in loops}
    for _ in range(passes):
        for place, inside in PLACES.items():
            for way, loop in loops.items():
                with inside():
                    found[place, way].append(rate(loop, seconds))
    rows: Rows = []
    for place in PLACES:
        ours, theirs, still = (np.array(found[key]) for key in ((place, "team"), (place, "torch"), ("alone", "team")))
        rows.append(
            {
                "recipe": what, "place": place, "team, steps/s": float(np.median(ours)),
                "torch's threads, steps/s": float(np.median(theirs)), "ratio": float(np.median(ours / theirs)),
                "share of the team's speed alone": float(np.median(ours / still)),
            }
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="time of each pass (default: 6)")
    given = parser.parse_args()
    torch.set_num_threads(cores())
    rows = measured("default, mnist-5k", vectors(), given.passes, given.seconds)
    rows += measured("tiny, pictures of 320×240", grids(), given.passes, given.seconds)
    title = "# Training on shared cores\n\nMade by `python benchmarks/training_cores.py`."
    save("training-cores", {"runs": rows, "machine": machine()}, f"{title}\n\n{table(rows)}")
    print(table(rows))


if __name__ == "__main__":
    main()
