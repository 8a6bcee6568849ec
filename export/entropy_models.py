"""The entropy models of codes: a frequency table for each number, and a context model where it saves bytes.

Both are fitted to the codes of training pictures, as the exported encoder makes them. Validation pictures choose.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from aekit.codes.archive.container import inputs_per_block
from aekit.codes.entropy import U8, FrequencyTables
from aekit.codes.grid_coders import ContextCoder, GridCoder, StaticCoder, sets_of
from aekit.codes.tables import CONTEXT, pack_tables
from aekit.errors import OptionError
from aekit.model.grids import GridCodes
from aekit.training.context import BATCH, train
from aekit.training.objectives.vector_prior import VectorPrior
from aekit.training.vector_context import train_vectors

ENTROPIES = ("auto", "static", "context")
"""Values of the option `entropy`: the smaller one on validation pictures, or one of the two in any case."""
MOST_STEPS = 2000
"""Training steps of each network of a context model. On one core they take about a minute in all for grid codes, and 5
to 30 seconds for vector codes, whose networks train together. Models that were trained for context need no steps."""
_VISITS = 60
"""Times that training sees each place of the training pictures, if that takes fewer steps."""
_PART_NUMBERS = 2**20
"""Largest number of numbers that are measured together."""
_LEAST_SAVING = 0.01
"""Least share of bytes that a context model must save to be kept by `auto`: it takes time to decode."""


def check_entropy(entropy: str) -> None:
    """Raise OptionError unless `entropy` is one of ENTROPIES."""
    if entropy not in ENTROPIES:
        raise OptionError("--entropy", expected=" or ".join(ENTROPIES), found=repr(entropy)[:80])


def fit_entropy_models(
    training: GridCodes, validation: Sequence[GridCodes], pixels: int, entropy: str
) -> dict[str, Any]:
    """Return entries of model.json: `tables`, `context` if the context model is kept, and the figures `entropy`.

    `training` holds uint8 codes of all qualities. `validation` holds the codes of the validation pictures at each
    quality, the lowest first. `pixels` is the number of pixels of all validation pictures.
    """
    tables = _fit_tables(training, len(validation))
    static = [_size(StaticCoder(tables), codes) for codes in validation]
    facts: dict[str, Any] = {"tables": pack_tables(tables)}
    figures: dict[str, Any] = {"kept": "static", "static_bits_per_pixel": _rates(static, pixels)}
    if entropy != "static":
        places = sum(code.shape[0] * code.shape[1] for code in training)
        steps = min(MOST_STEPS, max(places * _VISITS // BATCH, 20))
        model = train(training.codes, qualities=training.qualities, steps=steps).model
        sizes = [_size(ContextCoder(model), codes) for codes in validation]
        figures |= {"context_bits_per_pixel": _rates(sizes, pixels), "worst_case": model.check_bounds()}
        ratios = [size / other for size, other in zip(sizes, static, strict=True)]
        if entropy == "context" or sum(ratios) < (1 - _LEAST_SAVING) * len(ratios):
            facts[CONTEXT] = pack_tables(model)
            figures["kept"] = "context"
    return {**facts, "entropy": figures}


def fit_vector_models(training: U8, validation: U8, entropy: str, prior: VectorPrior | None = None) -> dict[str, Any]:
    """Return the entries of model.json for vector codes, as `fit_entropy_models` does for grid codes.

    `training` and `validation` are codes uint8 [n, D]. `prior` are the probabilities that the transform was trained
    with, if they depend on the context. The figures are bytes an image of the validation images.
    """
    tables = FrequencyTables.fit(training)
    static = _block_bytes(StaticCoder(tables), validation)
    facts: dict[str, Any] = {"tables": pack_tables(tables)}
    figures: dict[str, Any] = {"kept": "static", "static_bytes_per_image": static}
    if entropy != "static":
        steps = min(MOST_STEPS, max(len(training) * _VISITS // BATCH, 20))
        model = train_vectors(training, prior=prior, steps=steps)
        size = _block_bytes(ContextCoder(model), validation)
        figures |= {"context_bytes_per_image": size, "worst_case": model.check_bounds()}
        if entropy == "context" or size < (1 - _LEAST_SAVING) * static:
            facts[CONTEXT] = pack_tables(model)
            figures["kept"] = "context"
    return {**facts, "entropy": figures}


def bits_per_pixel(figures: dict[str, Any]) -> list[float]:
    """Return the bits a pixel of the entropy model that is kept, for each quality."""
    found = figures[f"{figures['kept']}_bits_per_pixel"]
    return found if isinstance(found, list) else [found]


def _fit_tables(codes: GridCodes, count: int) -> FrequencyTables:
    """Return the frequency tables of so many qualities."""
    rows, sets = codes.rows(), sets_of(codes)
    if sets is None:
        return FrequencyTables.fit(rows)
    return FrequencyTables.joined([FrequencyTables.fit(rows[sets == number]) for number in range(count)])


def _rates(sizes: Sequence[int], pixels: int) -> float | list[float]:
    """Return bits a pixel of the bytes at each quality; a number for a model without qualities."""
    rates = [8 * size / pixels for size in sizes]
    return rates if len(rates) > 1 else rates[0]


def _block_bytes(coder: GridCoder, codes: U8) -> float:
    """Return the bytes of a code in blocks of an archive, the mean over codes uint8 [n, D]."""
    step = inputs_per_block(codes.shape[1])
    blocks = (codes[start : start + step, None] for start in range(0, len(codes), step))
    return sum(len(coder.encode([block])) for block in blocks) / len(codes)


def _size(coder: GridCoder, codes: GridCodes) -> int:
    """Return the bytes of codes in parts as an archive has them, about."""
    begins, numbers, size = [0], 0, 0
    for row, code in enumerate(codes.codes):
        if row > begins[-1] and numbers + code.size > _PART_NUMBERS:
            begins.append(row)
            numbers = 0
        numbers += code.size
    for begin, end in pairwise([*begins, len(codes)]):
        size += len(coder.encode(codes.codes[begin:end], codes.qualities[begin:end]))
    return size
