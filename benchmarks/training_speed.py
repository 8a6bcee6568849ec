"""How fast training is, compared with the book's run, the usual tutorial loop, the bare matrix products, and torch's
optimizer and averaging."""

import math
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import Bench, Rows
from peers import linear_products, product_rate, tutorial_rate
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aekit.pca import Pca
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import load_training_data
from aekit.training.devices import choose_precision
from aekit.training.loop import TrainLoop
from aekit.training.networks import components_wanted
from aekit.training.recorder import Epoch
from aekit.training.reproducible import flushed_denormals, generator
from aekit.training.trainer import train

BOOK_COST = 0.0231
PASSES = 5


def speed(bench: Bench) -> Rows:
    """Time to the book's final cost; training throughput beside the tutorial loop and the bare products."""
    rows: Rows = []
    data = load_training_data("mnist")
    Pca.fit(data.train[:1000], 8)
    began = time.monotonic()
    config = make_config("classic", data="mnist", epochs=2 if bench.quick else 20)
    costs = run_in_process(bench, "classic", config, data)
    classic = (time.monotonic() - began) * 20 / config.epochs
    for code_dim in (256, 32, 8):
        ours = time_to_cost(code_dim, data, BOOK_COST)
        what = f"s to an MSE of {BOOK_COST}, {code_dim} numbers, against the book's 20 epochs"
        rows.append({"what": what, "peer": classic, "ours": ours, "ratio": classic / ours, "reach": 30.0})
    rows[0]["what"] += f" (which end at {costs:.4f})"

    steps = 60 if bench.quick else 300
    book = [(784, 256), (256, 784)]
    for name, precision in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        bare = product_rate(linear_products(book, 100, False), 100, precision)
        config = make_config("classic-tuned", batch_size=100, precision="fp32" if name == "float32" else "bf16")
        passes = [(tutorial_rate(data.train, steps), training_rate(config, data, steps)) for _ in range(PASSES)]
        what = f"images/s, 784-256-784, batches of 100, {name}, against the tutorial loop (bare products: {bare:,.0f})"
        rows.append({"what": what, **medians(passes), "reach": 2.0})

    config = make_config("default", data="mnist", precision=choose_precision("cpu"))
    components, (width, *_) = components_wanted(config, data.geometry), config.hidden
    blocks = [(width, width)] * 2 * len(config.hidden)
    layers = [(784, components), (components, width), *blocks, (width, config.code_dim)]
    layers += [(config.code_dim, width), *blocks, (width, components), (components, 784)]
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    shapes = linear_products(layers, config.batch_size, False)
    frozen = [(components, config.batch_size, 784), (784, config.batch_size, components)]  # the basis is not learned
    shapes = [shape for shape in shapes if shape not in frozen]
    shapes.remove((config.batch_size, width, components))  # nor do the coefficients need a gradient
    passes = [
        (product_rate(shapes, config.batch_size, dtype), training_rate(config, data, steps // 3)) for _ in range(PASSES)
    ]
    what = f"images/s of the default recipe, {config.precision}, against its own bare products"
    rows.append({"what": what, **medians(passes), "reach": 0.7})
    return [*rows, *updates(data, 9 if bench.quick else 41)]


def updates(data: Any, passes: int) -> Rows:
    """Steps/s of our optimizer and averaging beside torch's own, on one thread, in CPU time."""
    rows: Rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for preset in ("small", "default"):
            config = make_config(preset, data="mnist", precision="fp32")
            principal = Pca.fit(data.train[::10], components_wanted(config, data.geometry))
            loop = TrainLoop(config, data, "cpu", principal)
            network, ours = loop.network, loop.optimizer
            network.objective.loss(network, loop_images(loop), generator(0), 0.0).backward()
            settings = [
                {"params": group["params"], "weight_decay": group["weight_decay"]} for group in ours.param_groups
            ]
            theirs = torch.optim.AdamW(settings, lr=config.lr, betas=ours.param_groups[0]["betas"], fused=True)
            averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
            averaged.update_parameters(network)  # the first call copies

            def average(loop: TrainLoop = loop, decay: float = config.ema) -> None:
                with torch.no_grad():
                    torch._foreach_lerp_(loop.averages, loop.parameters, 1 - decay)

            def average_torch(averaged: AveragedModel = averaged, network: torch.nn.Module = network) -> None:
                averaged.update_parameters(network)

            for what, peer, mine in (
                ("optimizer, against torch.optim.AdamW(fused=True)", theirs.step, ours.step),
                ("averaging, against swa_utils.AveragedModel", average_torch, average),
            ):
                rates = [(call_rate(peer), call_rate(mine)) for _ in range(passes)]
                rows.append({"what": f"calls/s of our {what}, preset {preset}", **medians(rates), "reach": 1.0})
    finally:
        torch.set_num_threads(threads)
    return rows


def loop_images(loop: TrainLoop, count: int = 64) -> torch.Tensor:
    """The first training images as a network takes them: float32 [count, C, H, W] in [0, 1]."""
    return loop.images[:count].permute(0, 3, 1, 2).contiguous().float() / 255


def call_rate(call: Callable[[], object], calls: int = 20) -> float:
    """Calls per second of this process's CPU time, after two calls that warm up."""
    for _ in range(2):
        call()
    began = time.process_time()
    for _ in range(calls):
        call()
    return calls / (time.process_time() - began)


def medians(passes: list[tuple[float, float]]) -> dict[str, float]:
    """Peer, ours and their ratio, each the median over passes that took turns."""
    peer, ours = (float(np.median(side)) for side in zip(*passes, strict=True))
    return {"peer": peer, "ours": ours, "ratio": float(np.median([mine / other for other, mine in passes]))}


def run_in_process(bench: Bench, name: str, config: Any, data: Any) -> float:
    """Train a config to its end; returns the last epoch's cost."""
    path = bench.folder / "runs" / name
    shutil.rmtree(path, ignore_errors=True)
    epoch: Epoch = train(Run.create(path, config, data.geometry, data.facts()), data).kept
    return epoch.cost


def time_to_cost(code_dim: int, data: Any, cost: float) -> float:
    """Seconds from the images in memory, PCA included, until the validation error is at most `cost`."""
    began = time.monotonic()
    config = make_config("default", data="mnist", code_dim=code_dim, precision=choose_precision("cpu"))
    principal = Pca.fit(data.train, max(components_wanted(config, data.geometry), code_dim))
    loop = TrainLoop(config, data, "cpu", principal)
    while loop.validate()["mse"] > cost:
        if loop.step == loop.total:
            return math.inf
        for batch in loop.batches()[:10]:
            loop.train_step(batch)
    return time.monotonic() - began


def training_rate(config: Any, data: Any, steps: int) -> float:
    """Images/s of the training loop, with denormals flushed as the trainer has them."""
    principal = Pca.fit(data.train[::10], max(components_wanted(config, data.geometry), 1))
    loop = TrainLoop(config, data, "cpu", principal)
    with flushed_denormals():
        loop.step = loop.total // 2  # where as many images are warped as on the average of a run
        for batch in loop.batches()[:10]:
            loop.train_step(batch)
        batches = loop.batches()[:steps]
        began = time.monotonic()
        for batch in batches:
            loop.train_step(batch)
    return sum(map(len, batches)) / (time.monotonic() - began)
