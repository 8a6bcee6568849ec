"""Context model against static tables, on the same codes of grid networks.

    AEKIT_DATA_DIR=data python benchmarks/grid_context.py --only blood,tiles,gtsrb --minutes 4 --out grid-context

For each set this trains a grid network of the layout `tiny` on one thread, or loads the weights that an earlier run
left in --out. It rounds the codes of all pictures with the rounding that benchmarks/grid_codes.py chose on validation
pictures. Static tables and the context model are both fitted on the codes of training pictures; only the bytes of test
pictures are counted. Every block and message is decoded again and compared. Writes results/grid-context.json and .md.
"""

import argparse
import json
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import load as load_results
from common import machine, save, table
from envelope import SETS
from grid_codes import LAMBDAS
from grid_coding import Code, Graphs, Rounding, fit, in_blocks, rounded
from grid_training import GridModel, train

import aekit.training.context as contexts
from aekit.codes import context
from aekit.codes.context.coder import CHECK, entropy_bits
from aekit.codes.entropy import FrequencyTables, decode, encode
from aekit.training.networks.layouts import LAYOUTS

SPLITS = ("training", "validation", "test")
LAYOUT = "tiny"
ROUNDINGS = {"blood": Rounding(0.16, 8.5), "tiles": Rounding(0.16, 7.0), "gtsrb": Rounding(0.16, 10.0)}
"""What results/grid-codes.md chose on validation pictures."""
FITTED_ON = 300
"""Training pictures whose static tables weigh bits against error when codes are rounded."""
MESSAGE_CHECK = 2
"""Bytes of check in a message of one picture."""
SMALL = 13
"""Places on each side of the code of a 200×200 picture."""
NOTE = """Both coders code the same codes of the test pictures. `static` and `context` are bytes a picture in blocks,
with a check of 4 bytes a block each; `message_` is the mean of each picture alone, with a check of 2 bytes. `saved` is
what context saves. `validation` is the same in ideal bits, on validation pictures, where the layout was chosen.
`integer_over_float` compares ideal bits of the integer network with its float original on validation pictures.
Speeds are of CPU time on one thread: `decode_mp_s` megapixels a second of the first block, `small_` milliseconds for
a message of a 200×200 picture."""


def codes_of(name: str, arguments: argparse.Namespace) -> dict[str, list[Code]]:
    """Return the codes of each split; trains the network and rounds its latents if --out does not hold them."""
    kept = arguments.out / f"{name}.npz"
    if not kept.exists():
        pictures = {split: list(SETS[name].read(split)) for split in SPLITS}
        weights = arguments.out / f"{name}-{LAYOUT}-{LAMBDAS[name]:g}.pt"
        if not weights.exists():
            # Mirrored signs are other signs.
            train(pictures["training"], LAYOUT, LAMBDAS[name], arguments.minutes, flips=name != "gtsrb").save(weights)
        graphs = Graphs(GridModel.load(weights))
        latents = {split: [graphs.latent(picture) for picture in pictures[split]] for split in SPLITS}
        tables = fit(latents["training"][:FITTED_ON], ROUNDINGS[name])
        codes = {
            f"{split}{index}": rounded(latent, ROUNDINGS[name], tables)
            for split in SPLITS
            for index, latent in enumerate(latents[split])
        }
        np.savez(kept, **codes)
    with np.load(kept, allow_pickle=False) as stored:
        return {
            split: [stored[f"{split}{index}"] for index in range(sum(key.startswith(split) for key in stored))]
            for split in SPLITS
        }


def flat(codes: Sequence[Code]) -> Code:
    """Return codes as static tables take them, uint8 [places, K]."""
    return np.concatenate([code.reshape(-1, code.shape[-1]) for code in codes])


def seconds(run: Callable[[], Any], times: int) -> float:
    """Return the least CPU time of several runs."""
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def static_size(codes: Sequence[Code], tables: FrequencyTables) -> int:
    """Return the bytes of codes under static tables; decodes them again."""
    data = encode(flat(codes), tables)
    assert np.array_equal(decode(data, len(flat(codes)), tables), flat(codes))
    return len(data)


def context_size(codes: Sequence[Code], model: context.ContextModel, check: int) -> int:
    """Return the bytes of codes under the context model; decodes them again."""
    data = context.encode(codes, model, check)
    again = context.decode(data, [code.shape[:2] for code in codes], model, check)
    assert all(np.array_equal(a, b) for a, b in zip(codes, again, strict=True))
    return len(data)


def speeds(codes: Sequence[Code], model: context.ContextModel, stride: int) -> dict[str, float]:
    """Return speeds of the codes as one block, and of a message of a 200×200 picture."""
    places = sum(code.shape[0] * code.shape[1] for code in codes)
    shapes, block = [code.shape[:2] for code in codes], context.encode(codes, model)
    coded = seconds(lambda: context.encode(codes, model), 3)
    decoded = seconds(lambda: context.decode(block, shapes, model), 3)
    largest = max(codes, key=lambda code: code.size)
    small = [np.resize(largest, (SMALL, SMALL, model.channels))]  # repeats pictures that are smaller
    message = context.encode(small, model)
    return {
        "encode_mp_s": places * stride**2 / 1e6 / coded,
        "decode_mp_s": places * stride**2 / 1e6 / decoded,
        "decode_us_symbol": 1e6 * decoded / places / model.channels,
        "small_encode_ms": 1e3 * seconds(lambda: context.encode(small, model), 5),
        "small_decode_ms": 1e3 * seconds(lambda: context.decode(message, [(SMALL, SMALL)], model), 5),
    }


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one set; returns what results keep."""
    codes = codes_of(name, arguments)
    test, validation = codes["test"], codes["validation"]
    began = time.process_time()
    trained = contexts.train(codes["training"], steps=arguments.steps)
    training_s, model = time.process_time() - began, trained.model
    tables = FrequencyTables.fit(flat(codes["training"]))
    blocks = [test[part] for part in in_blocks(test)]
    singles = test[:: max(1, len(test) // arguments.messages)]
    sizes = {
        "static": sum(static_size(block, tables) + CHECK for block in blocks) / len(test),
        "context": sum(context_size(block, model, CHECK) for block in blocks) / len(test),
        "message_static": sum(static_size([code], tables) + MESSAGE_CHECK for code in singles) / len(singles),
        "message_context": sum(context_size([code], model, MESSAGE_CHECK) for code in singles) / len(singles),
    }
    bits = entropy_bits(validation, model)
    packed = zlib.compress(json.dumps(model.to_dict()).encode(), 9)
    return {
        "set": name,
        "test_pictures": len(test),
        **sizes,
        "saved": 1 - sizes["context"] / sizes["static"],
        "message_saved": 1 - sizes["message_context"] / sizes["message_static"],
        "validation_saved": 1 - bits / tables.entropy_bits(flat(validation)),
        "integer_over_float": bits / trained.float_bits(validation) - 1,
        "worst_case": model.check_bounds(),
        "model_bytes": len(packed),
        "training_s": round(training_s, 1),
        "steps": arguments.steps,
        **speeds(blocks[0], model, LAYOUTS[LAYOUT].stride),
        "machine": {**machine(), "threads": 1},
    }


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Return the report of all runs."""
    parts = (
        ("set", "test_pictures", "static", "context", "saved", "message_static", "message_context", "message_saved"),
        ("set", "validation_saved", "integer_over_float", "worst_case", "model_bytes", "training_s", "steps"),
        ("set", "encode_mp_s", "decode_mp_s", "decode_us_symbol", "small_encode_ms", "small_decode_ms"),
    )
    tables = [table([{key: found[key] for key in keys} for found in runs]) for keys in parts]
    head = "# Context model against static tables\n\nMade by `python benchmarks/grid_context.py`.\n\n"
    return head + "\n\n".join([NOTE, *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help=f"sets to run, with commas: {', '.join(SETS)}")
    parser.add_argument("--minutes", type=float, default=4.0, help="CPU minutes of a grid network's training")
    parser.add_argument("--steps", type=int, default=2000, help="steps of a context network's training, each group")
    parser.add_argument("--messages", type=int, default=200, help="test pictures coded as messages, about")
    parser.add_argument("--out", type=Path, default=Path("grid-context"), help="folder for weights and codes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # figures are of one thread
    warnings.filterwarnings("ignore", category=FutureWarning)  # torch's exporter warns of its own code
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only.split(","):
        found = run(name, arguments)
        runs: dict[str, Any] = load_results("grid-context").get("runs", {})
        runs = dict(sorted({**runs, name: found}.items()))
        save("grid-context", {"runs": runs}, markdown(list(runs.values())))
        print(table([{key: found[key] for key in ("set", "static", "context", "saved", "decode_mp_s")}]), flush=True)


if __name__ == "__main__":
    main()
