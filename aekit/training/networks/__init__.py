"""Networks: the encoder and decoder of an autoencoder, sized from the image and the code.

x [n, C, H, W] in [0, 1] ── encode ──▶ z [n, D] ── decode ──▶ x_hat [n, C, H, W]
"""

from aekit.training.networks.autoencoder import Autoencoder
from aekit.training.networks.factory import make_network
from aekit.training.networks.residual import components_wanted

__all__ = ["Autoencoder", "components_wanted", "make_network"]
