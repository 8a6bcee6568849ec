"""Held-out pictures: which are validated on, whole or in part, and what their figures stand for."""

import numpy as np
import torch

from aekit.training.crops import CropSampler
from aekit.training.held_out import HeldOut


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Random pictures, uint8 [H, W, 1]."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 1), dtype=np.uint8) for size in sizes]


def test_small_sets_are_validated_whole_and_in_batches_of_one_padded_size() -> None:
    sizes = [(20, 30), (32, 32), (17, 31), (5, 5)]
    held_out = HeldOut(pictures(*sizes), 16, 96, 288, 100)
    assert held_out.count == 4
    assert held_out.mean_places == (4 + 4 + 4 + 1) / 4
    parts = list(held_out.parts())
    assert sorted(tuple(part.pixels.shape) for part in parts) == [(1, 1, 16, 16), (3, 1, 32, 32)]
    assert sorted(float(area) for part in parts for area in part.inside.sum((1, 2, 3))) == [25, 527, 600, 1024]
    (large,) = (part for part in parts if len(part.pixels) == 3)
    assert torch.equal(large.pixels[0, 0, 19], large.pixels[0, 0, 31])
    assert large.factors.tolist() == [1, 1, 1]


def test_many_pictures_are_thinned_to_a_share_of_the_training_but_not_to_none() -> None:
    many = pictures(*[(160, 160)] * 40)  # 100 places each
    assert HeldOut(many, 16, 96, 100, 100).count in range(10, 17)  # 15 % of 10,000 places are 15 pictures
    assert HeldOut(many, 16, 96, 1, 1).count == 4


def test_the_middle_of_a_large_picture_stands_for_the_whole() -> None:
    (picture,) = pictures((2048, 3000))
    (part,) = HeldOut([picture], 16, 96, 288, 100).parts()
    assert part.pixels.shape == (1, 1, 1024, 1024)
    assert np.array_equal(part.pixels[0, 0].numpy(), picture[512 : 512 + 1024, 976 : 976 + 1024, 0])
    assert part.factors.tolist() == [128 * 188 / 64**2]


def test_crops_by_area_come_from_large_pictures_more_often() -> None:
    small, large = np.zeros((32, 32, 1), np.uint8), np.full((96, 96, 1), 9, np.uint8)
    shares = {}
    for by_area in (False, True):
        sampler, rng = CropSampler([small, large], 32, 16, by_area=by_area), np.random.default_rng(0)
        crops = torch.cat([sampler.batch(40, rng).pixels for _ in range(40)])
        shares[by_area] = float((crops.amax((1, 2, 3)) == 9).float().mean())
    assert abs(shares[False] - 0.5) < 0.1 and abs(shares[True] - 0.9) < 0.06
