"""Presets: settings that are changed together, and those of networks of grid codes."""

from typing import Any

GRID_ONLY: dict[str, Any] = {
    "squash": False,
    "init": "kaiming",
    "optimizer": "adamw",
    "schedule": "one-cycle",
}
"""The only values of these settings that a network of grid codes has."""
GRID_SETTINGS: dict[str, Any] = {
    **GRID_ONLY,
    "hidden": (),
    "weight_decay": 0.0,
    "ema": 0.998,
    "batch_size": 8,
}
"""Settings of a network of grid codes that neither the preset nor the user gives."""

_BOOK_NETWORK: dict[str, Any] = {
    "network": "mlp",
    "objective": "plain",
    "hidden": (),
    "squash": True,
    "code_dim": 256,
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # For small devices: the graphs take 0.8 MB at 28×28; the graphs of the default preset take 6 MB.
    "small": {"hidden": (128, 128)},
    # For grid codes alone; `default` and `small` name layouts too.
    "tiny": {"network": "grid"},
    "large": {"network": "grid"},
    # Exactly as in the book: network, initial weights, optimizer, batches and epochs.
    "classic": {
        **_BOOK_NETWORK,
        "init": "normal",
        "optimizer": "tf1-rmsprop",
        "lr": 0.01,
        "schedule": "constant",
        "weight_decay": 0.0,
        "ema": 0.0,
        "augment": 0.0,
        "precision": "fp32",
        "batch_size": 100,
        "epochs": 20,
    },
    # The book's network of 256 units, trained with aekit's optimizer and schedule.
    "classic-tuned": {
        **_BOOK_NETWORK,
        "lr": 0.015,
        "weight_decay": 1e-4,
        "augment": 0.0,
        "precision": "fp32",
        "batch_size": 128,
        "epochs": 20,
    },
}
"""Settings of each preset. A setting that the user gives goes before the preset's, and the preset's goes before the
default of TrainConfig."""
