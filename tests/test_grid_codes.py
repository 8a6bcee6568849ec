"""The benchmark of grid codes: its splits, its training, and pictures through graphs and real bytes."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import grid_codes
import torch
from grid_coding import ZERO, Graphs, Rounding, choose, fit, in_blocks, message, pack, rounded, unpack
from grid_training import GridModel, train
from picture_sets import MARKS, SETS, Picture

from aekit.evaluation.metrics import mse as squared_error
from aekit.exporting.rounding import table_bits

ROUNDINGS = (Rounding(0.0), Rounding(0.16), Rounding(0.16, 8.0))


def _pictures(count: int, seed: int) -> list[Picture]:
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        height, width = rng.integers(9, 50, 2)
        rows, columns = np.mgrid[:height, :width]
        waves = 128 + 100 * np.sin(rows / rng.uniform(3, 20) + rng.uniform(0, 6)) * np.cos(columns / rng.uniform(3, 20))
        pictures.append(waves.astype(np.uint8)[:, :, None])
    return pictures


@pytest.fixture(scope="module")
def model() -> GridModel:
    return train(_pictures(60, 0), "tiny", 0.004, 1.0, flips=True, steps=8)


@pytest.fixture(scope="module")
def graphs(model: GridModel) -> Graphs:
    return Graphs(model)


def test_a_saved_model_encodes_and_decodes_as_before(model: GridModel, graphs: Graphs, tmp_path: Path) -> None:
    model.save(tmp_path / "grid.pt")
    again = GridModel.load(tmp_path / "grid.pt")
    picture = _pictures(1, 5)[0]
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        latent = again.encoder(x) * again.scale
        assert model.facts["steps"] == 8
        assert torch.equal(latent, model.encoder(x) * model.scale)
        assert np.abs(latent[0].numpy() - graphs.latent(picture)).max() < 1e-3
        assert torch.equal(again.decoder(latent), model.decoder(latent))


def test_pictures_come_back_from_bytes_in_their_own_size(graphs: Graphs) -> None:
    tables = fit([graphs.latent(picture) for picture in _pictures(40, 1)], Rounding(0.16))
    pictures = _pictures(12, 2)
    codes = [rounded(graphs.latent(picture), Rounding(0.16)) for picture in pictures]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    data = pack(codes, sizes, tables)
    back = list(unpack(data, graphs.stride, tables))
    assert [size for _, size in back] == sizes
    assert all(np.array_equal(code, given) for (code, _), given in zip(back, codes, strict=True))
    errors = [squared_error(p, graphs.picture(code, size)) for p, (code, size) in zip(pictures, back, strict=True)]
    assert np.mean(errors) < 0.2 * np.mean([np.var(picture / 255) for picture in pictures])
    assert len(data) < sum(len(message(code, size, tables)) for code, size in zip(codes, sizes, strict=True))


def test_bits_of_the_table_add_up_to_its_entropy(graphs: Graphs) -> None:
    latents = [graphs.latent(picture) for picture in _pictures(40, 1)]
    tables = fit(latents[:20], Rounding(0.0))
    code = rounded(latents[30], Rounding(0.0))
    bits = table_bits(tables)[np.arange(code.shape[-1]), code].sum()
    assert bits == pytest.approx(tables.entropy_bits(code.reshape(-1, code.shape[-1])))


def test_picking_by_bits_never_costs_more_than_rounding(graphs: Graphs) -> None:
    latents = [graphs.latent(picture) for picture in _pictures(40, 1)]
    picked_by = Rounding(0.16, 8.0)
    tables = fit(latents, picked_by)
    bits, channels = table_bits(tables), np.arange(latents[0].shape[-1])

    def cost(code: np.ndarray) -> float:
        errors = np.square(np.concatenate([latents[0].ravel() - (code.astype(float) - ZERO).ravel()]))
        return float(8.0 * errors.sum() + bits[channels, code].sum())

    nearest, picked = rounded(latents[0], Rounding(0.0)), rounded(latents[0], picked_by, tables)
    assert cost(picked) < cost(nearest)


def test_the_rounding_of_least_cost_on_validation_is_chosen(graphs: Graphs) -> None:
    training = [graphs.latent(picture) for picture in _pictures(30, 1)]
    chosen, figures = choose(graphs, training, _pictures(8, 3), 0.004, ROUNDINGS)
    assert len(figures) == len(ROUNDINGS)
    assert figures[ROUNDINGS.index(chosen)]["cost"] == min(figure["cost"] for figure in figures)
    # A larger weight of errors can't choose more of them.
    finer, _ = choose(graphs, training, _pictures(8, 3), 10.0, ROUNDINGS)
    errors = dict(zip(ROUNDINGS, (figure["mse"] for figure in figures), strict=True))
    assert errors[finer] <= errors[chosen]


def test_blocks_hold_every_code_once_and_no_more_than_they_may() -> None:
    codes = [np.zeros((1, places, 2), np.uint8) for places in (3, 4, 5, 1, 9)]
    slices = list(in_blocks(codes, most=16))
    assert [(part.start, part.stop) for part in slices] == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize("name", SETS)
def test_at_the_marks_the_issue_is_met_exactly_at_its_reach(name: str) -> None:
    for mark, size in zip(MARKS[name], grid_codes.ISSUE[name], strict=True):
        reach = grid_codes.REACH[name]
        assert grid_codes.compared(name, mark, 0.999 * reach * size)["is_reached"] is True
        assert grid_codes.compared(name, mark, 1.001 * reach * size)["is_reached"] is False
    beyond = grid_codes.compared(name, 1.1 * max(MARKS[name]), 1.0)
    assert beyond["issue"] is None and beyond["is_reached"] is None
