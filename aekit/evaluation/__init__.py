"""Evaluation: how good a model is on images it was not trained on. Needs no torch.

The public names load on first use, so that importing this package imports nothing else:

    evaluate          the figures of a model on test images
    open_test_images  test images, without those that the model was trained on
    write_report      report.json and a picture of reconstructions
    mse               mean squared error
    psnr              peak signal-to-noise ratio
    find_peers        bytes that image codecs need for an MSE, at native size and shrunk
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.evaluation.metrics import mse, psnr
    from aekit.evaluation.opening import open_test_images
    from aekit.evaluation.peers import find_peers
    from aekit.evaluation.report import evaluate, write_report

__all__ = ["evaluate", "find_peers", "mse", "open_test_images", "psnr", "write_report"]

_HOMES = {
    "evaluate": "aekit.evaluation.report",
    "find_peers": "aekit.evaluation.peers",
    "mse": "aekit.evaluation.metrics",
    "open_test_images": "aekit.evaluation.opening",
    "psnr": "aekit.evaluation.metrics",
    "write_report": "aekit.evaluation.report",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
