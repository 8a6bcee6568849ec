"""Networks: the encoder and decoder of an autoencoder.

x [n, C, H, W] in [0, 1] ── encode ──▶ z [n, D] ── decode ──▶ x_hat [n, C, H, W]             vector codes, one size
x [n, C, H, W] in [0, 1] ── encode ──▶ z [n, h, w, K] ── decode ──▶ x_hat [n, C, h·S, w·S]   grid codes, any size

The public names load on first use, so that the layouts can be read without the networks.
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.training.networks.autoencoder import Autoencoder
    from aekit.training.networks.factory import (
        MAX_WEIGHT_BYTES,
        check_size,
        components_wanted,
        graph_bytes,
        make_network,
        within_size,
    )

__all__ = [
    "MAX_WEIGHT_BYTES",
    "Autoencoder",
    "check_size",
    "components_wanted",
    "graph_bytes",
    "make_network",
    "within_size",
]

_HOMES = {
    "Autoencoder": "aekit.training.networks.autoencoder",
    "MAX_WEIGHT_BYTES": "aekit.training.networks.factory",
    "check_size": "aekit.training.networks.factory",
    "components_wanted": "aekit.training.networks.factory",
    "graph_bytes": "aekit.training.networks.factory",
    "make_network": "aekit.training.networks.factory",
    "within_size": "aekit.training.networks.factory",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
