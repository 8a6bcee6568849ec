"""What the trainer is held against: the usual tutorial loop, bare matrix products, and classical denoisers."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from aekit.images.decode import Pixels


class TutorialSet(Dataset[torch.Tensor]):
    """Images one by one, as floats, as tutorials have them."""

    def __init__(self, images: Pixels) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.images[row].reshape(-1).astype(np.float32) / 255)


def tutorial_rate(images: Pixels, steps: int, batch: int = 100) -> float:
    """Images/s of the usual loop: Dataset, DataLoader, loss.item() each step; 784-256-784 with sigmoids, RMSprop."""
    network = nn.Sequential(nn.Linear(784, 256), nn.Sigmoid(), nn.Linear(256, 784), nn.Sigmoid())
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01)
    criterion = nn.MSELoss()
    loader = DataLoader(TutorialSet(images), batch_size=batch, shuffle=True)
    running, done, began = 0.0, 0, time.monotonic()
    while done < steps:
        for x in loader:
            if done == 5:
                began = time.monotonic()  # the first steps also allocate
            optimizer.zero_grad()
            loss = criterion(network(x), x)
            loss.backward()
            optimizer.step()
            running += loss.item()
            done += 1
            if done >= steps:
                break
    return (done - 5) * batch / (time.monotonic() - began)


def product_rate(shapes: list[tuple[int, int, int]], batch: int, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Images/s of nothing but matrix products of the shapes (rows, inner, columns), each done once a batch."""
    pairs = [(torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)) for m, k, n in shapes]
    outs = [torch.empty(m, n, dtype=dtype) for m, _, n in shapes]

    def once() -> None:
        for (a, b), out in zip(pairs, outs, strict=True):
            torch.mm(a, b, out=out)

    return batch * _rate(once, seconds)


def linear_products(layers: list[tuple[int, int]], batch: int, first_input_needs_gradient: bool) -> list[Any]:
    """The products of a training step on linear layers (inputs, outputs): forward, weight and input gradients."""
    shapes = []
    for number, (inputs, outputs) in enumerate(layers):
        shapes += [(batch, inputs, outputs), (outputs, batch, inputs)]
        if number or first_input_needs_gradient:
            shapes.append((batch, outputs, inputs))
    return shapes


def _rate(once: Callable[[], None], seconds: float) -> float:
    for _ in range(3):
        once()
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        once()
        done += 1
    return done / (time.monotonic() - began)


def classical_denoisers() -> dict[str, list[Callable[[Any], Any]]]:
    """scikit-image's denoisers, each over a range of settings: functions of an image in [0, 1]."""
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

    return {
        "non-local means": [
            lambda x, h=h, d=d: denoise_nl_means(x, patch_size=5, patch_distance=d, h=h, sigma=0.5, fast_mode=True)
            for h in (0.2, 0.3, 0.4, 0.5)
            for d in (5, 9)
        ],
        "total variation": [lambda x, w=w: denoise_tv_chambolle(x, weight=w) for w in (0.3, 0.5, 0.7, 0.9, 1.2)],
        "wavelet": [
            lambda x, s=s, w=w: denoise_wavelet(x, sigma=s, wavelet=w, mode="soft", rescale_sigma=True)
            for s in (0.2, 0.3, 0.4, 0.5)
            for w in ("db1", "db2", "sym4")
        ],
    }
