"""Training of grid networks on pictures in memory, for the benchmark of grid codes.

    crops ─▶ encoder ─▶ y in steps ─▶ rounded, with straight-through gradients ─▶ decoder ─▶ x_hat
                           └─▶ bits of y with noise; in the last part of the run, of rounded y

    cost = bits a pixel + λ · 255² · mean squared error,  pixels in [0, 1]

One thread. The budget is the process's CPU time, so that a busy machine changes the wall time and not the training.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aekit.pca import Pca
from aekit.training.crops import CropSampler, Picture
from aekit.training.networks.blocks import sample_blocks
from aekit.training.networks.grid import GridDecoder, GridEncoder, grid
from aekit.training.networks.layouts import LAYOUTS
from aekit.training.objectives.latents import LatentModel
from aekit.training.objectives.rounding import (
    bits_per_pixel,
    clipped_mse_inside,
    round_with_dead_zone,
    straight_through,
)
from aekit.training.reproducible import flushed_denormals

CROP = 96
"""Longest side of a crop, pixels."""
PLACES = 288
"""Places of the code in a batch."""
BLOCKS = 24_000
"""Blocks of training pictures that the principal transform is fitted on."""
RATE = 2e-3
"""Highest learning rate of the convolutional branches."""
RATE_OF_TRANSFORM, RATE_OF_PRIOR = 0.1, 3.0
"""Factors on the learning rate for the linear transforms and for the latents' probabilities."""
CLIP = 1.0
"""Largest norm of a gradient."""
ROUNDED_SHARE = 0.25
"""Share of a training at its end that counts the bits of rounded latents."""
AVERAGE = 0.998
"""Share of the averaged weights that a step keeps."""


@dataclass(frozen=True)
class GridModel:
    """A trained grid network and the grid that its latents are rounded to."""

    layout: str
    """Name of the layout in LAYOUTS."""
    channels: int
    """Channels of the pictures: 1 or 3."""
    lambda_: float
    """λ that it was trained for: bits a pixel for an error of 1 in levels of 255 squared."""
    encoder: GridEncoder
    decoder: GridDecoder
    scale: Tensor
    """Steps of the grid in a latent of 1, [K]."""
    facts: dict[str, Any]
    """How it was trained: steps, CPU and wall seconds, pictures."""

    def save(self, file: Path) -> None:
        """Write the weights and facts to a file that `load` reads."""
        kept = {"layout": self.layout, "channels": self.channels, "lambda_": self.lambda_, "facts": self.facts}
        weights = {"encoder": self.encoder.state_dict(), "decoder": self.decoder.state_dict(), "scale": self.scale}
        torch.save({**kept, **weights}, file)

    @classmethod
    def load(cls, file: Path) -> "GridModel":
        """Read what `save` wrote."""
        kept = torch.load(file, weights_only=True)
        encoder, decoder = grid(LAYOUTS[kept["layout"]], kept["channels"], None)
        encoder.load_state_dict(kept.pop("encoder"))
        decoder.load_state_dict(kept.pop("decoder"))
        return cls(**kept, encoder=encoder.eval(), decoder=decoder.eval())


@flushed_denormals()
def train(
    pictures: Sequence[Picture],
    layout: str,
    lambda_: float,
    minutes: float,
    *,
    flips: bool,
    steps: int = 0,
    seed: int = 0,
) -> GridModel:
    """Train a grid network for so many minutes of CPU time, or for `steps` steps if that is not 0.

    `pictures` are uint8 [H, W, C] of any sizes and one number of channels. `flips` tells whether mirrored and
    transposed pictures are as likely as the pictures themselves.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sizes, channels = LAYOUTS[layout], pictures[0].shape[2]
    blocks = sample_blocks(list(pictures), sizes.stride, BLOCKS, torch.Generator().manual_seed(seed))
    principal = Pca.fit(blocks.numpy()[:, None, :, None], sizes.code_channels)
    step = math.sqrt(6 * channels * math.log2(math.e) / (255**2 * lambda_))  # the best one, see objectives/rate.py
    encoder, decoder = grid(sizes, channels, principal, step)
    prior = LatentModel(encoder.deviations / step, lambda_)
    network = nn.ModuleDict({"encoder": encoder, "decoder": decoder, "prior": prior})
    sampler = CropSampler(pictures, CROP, sizes.stride, flips=flips)
    transforms = [encoder.transform, decoder.transform]
    branches = [*encoder.branch.parameters(), *decoder.branch.parameters()]
    learned = [parameter for parameter in prior.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": branches, "rate": RATE},
            {"params": transforms, "rate": RATE * RATE_OF_TRANSFORM},
            {"params": learned, "rate": RATE * RATE_OF_PRIOR},
        ],
        betas=(0.9, 0.95),
        weight_decay=0,
    )
    averaged = {name: values.clone() for name, values in network.state_dict().items()}
    began, began_cpu, done = time.monotonic(), time.process_time(), 0
    while True:
        progress = done / steps if steps else (time.process_time() - began_cpu) / (60 * minutes)
        if progress >= 1:
            break
        share = min(1.0, progress / 0.03 + 0.02) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.005)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * share
        batch = sampler.batch(PLACES, rng)
        x = (batch.pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        y = encoder(x) * prior.scale
        is_rounded = progress > 1 - ROUNDED_SHARE
        rounded = straight_through(y, round_with_dead_zone(y) if is_rounded else y.round())
        bits = prior.bits(rounded if is_rounded else y + torch.rand_like(y) - 0.5)
        error = clipped_mse_inside(decoder(rounded / prior.scale), x, batch.inside)
        loss = bits_per_pixel(bits, batch.inside) + lambda_ * 255**2 * error
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(branches + transforms, CLIP)
        optimizer.step()
        done += 1
        with torch.no_grad():
            for name, values in network.state_dict().items():
                averaged[name].lerp_(values, 1 - min(AVERAGE, (1 + done) / (10 + done)))
    network.load_state_dict(averaged)
    facts = {
        "steps": done,
        "cpu_s": round(time.process_time() - began_cpu, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "training_pictures": len(pictures),
    }
    return GridModel(layout, channels, lambda_, encoder.eval(), decoder.eval(), prior.scale.detach(), facts)
