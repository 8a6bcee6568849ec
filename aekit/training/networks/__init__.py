"""Networks: the encoder and decoder of an autoencoder, sized from the image and the code.

x [n, C, H, W] in [0, 1] ── encode ──▶ z [n, D] ── decode ──▶ x_hat [n, C, H, W]
"""

from aekit.training.networks.autoencoder import Autoencoder
from aekit.training.networks.factory import MAX_WEIGHT_BYTES, check_size, make_network
from aekit.training.networks.residual import components_wanted

__all__ = ["MAX_WEIGHT_BYTES", "Autoencoder", "check_size", "components_wanted", "make_network"]
