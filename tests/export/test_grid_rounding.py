"""Rounding of grid codes: the nearest step, or the step nearer to zero where it costs less."""

import numpy as np
import torch

from aekit.codes.entropy import FrequencyTables
from aekit.exporting.rounding import GridRounding, choose_rounding, fit_rounding, table_bits
from aekit.training.objectives.rounding import round_with_dead_zone


def made_latents(places: int, channels: int = 5) -> torch.Tensor:
    """Laplacian latents in code units whose spread differs between channels, [places, channels]."""
    rng = np.random.default_rng(3)
    spread = np.geomspace(0.2, 12, channels)
    return torch.from_numpy((rng.laplace(0, spread, (places, channels)) + 128).astype(np.float32))


def test_the_dead_zone_is_the_one_of_training() -> None:
    latents = made_latents(2000)
    codes = GridRounding.of_dead_zone(5, 0.16)(latents)
    expected = (round_with_dead_zone(latents - 128, 0.16) + 128).clamp(0, 255)
    assert torch.equal(codes.float(), expected)


def test_codes_stay_within_a_byte() -> None:
    latents = torch.tensor([[-900.0], [0.0], [127.9], [128.0], [255.4], [1e6]])
    assert GridRounding.of_dead_zone(1, 0.0)(latents).flatten().tolist() == [0, 0, 128, 128, 255, 255]


def test_each_number_takes_the_cheaper_of_two_steps() -> None:
    latents, weight = made_latents(4000), 8.7
    tables = FrequencyTables.fit(GridRounding.of_dead_zone(5, 0.16)(latents).numpy())
    codes = GridRounding.of_tables(tables, weight)(latents).long()
    bits, channels = torch.from_numpy(table_bits(tables)), torch.arange(5)
    steps = latents.double() - 128

    def cost(values: torch.Tensor) -> torch.Tensor:
        return weight * (steps - (values - 128)).square() + bits[channels, values]

    nearest = steps.round().clamp(-128, 127).long()
    lower = nearest - nearest.sign()
    least = torch.minimum(cost(nearest + 128), cost(lower + 128))
    assert (cost(codes) <= least + 1e-4).all()
    assert (codes != nearest + 128).any()


def test_the_tables_decide_better_than_the_dead_zone_where_errors_are_the_latents() -> None:
    training, latents = made_latents(6000), made_latents(900).reshape(30, 30, 5)

    def squared_error(index: int, code: torch.Tensor) -> float:
        assert index == 0
        return float((code.float() - latents).square().sum())

    pixels, lambda_ = 900, 8.7 / 255**2
    best, trials = choose_rounding(training, [latents], squared_error, pixels, lambda_, 0.16)
    by_weight = {trial.weight: trial for trial in trials}
    assert min(trials, key=lambda trial: trial.cost).weight > 0
    assert by_weight[8.7].cost < by_weight[0.0].cost
    assert by_weight[8.7].bits_per_pixel < by_weight[0.0].bits_per_pixel
    chosen, _ = fit_rounding(training, min(trials, key=lambda trial: trial.cost).weight, 0.16)
    assert torch.equal(best.keep, chosen.keep)


def test_the_graph_rounds_as_torch_does() -> None:
    import onnxruntime

    from aekit.exporting.graphs import OPSET

    rounding, _ = fit_rounding(made_latents(3000), 8.7, 0.16)
    latents = made_latents(600).reshape(2, 20, 15, 5)
    free = {index: torch.export.Dim(f"side{index}") for index in range(3)}
    program = torch.onnx.export(
        rounding.eval(), (torch.zeros(2, 3, 4, 5),), input_names=["x"], opset_version=OPSET, dynamic_shapes=(free,),
        dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (codes,) = session.run(None, {"x": latents.numpy()})
    np.testing.assert_array_equal(codes, rounding(latents).numpy())
