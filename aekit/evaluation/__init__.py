"""Evaluation: how good a model is on images it was not trained on. Needs no torch.

The public names load on first use, so that importing this package imports nothing else:

    evaluate          the figures of a model on test images
    open_test_images  test images, without those that the model was trained on
    write_report      report.json and a picture of reconstructions
    mse               mean squared error
    psnr              peak signal-to-noise ratio
    codecs_at         bytes that PNG, JPEG, WebP, AVIF and JPEG XL need for an MSE
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.evaluation.codecs import codecs_at
    from aekit.evaluation.metrics import mse, psnr
    from aekit.evaluation.report import evaluate, open_test_images, write_report

__all__ = ["codecs_at", "evaluate", "mse", "open_test_images", "psnr", "write_report"]

_HOMES = {
    "codecs_at": "aekit.evaluation.codecs",
    "evaluate": "aekit.evaluation.report",
    "mse": "aekit.evaluation.metrics",
    "open_test_images": "aekit.evaluation.report",
    "psnr": "aekit.evaluation.metrics",
    "write_report": "aekit.evaluation.report",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
