"""What a run is going to do, and what it came to: the facts that `aekit train` prints before and after it."""

from dataclasses import dataclass
from pathlib import Path

from aekit.images.records import Record
from aekit.registry import OBJECTIVES
from aekit.spec import Geometry, GridGeometry
from aekit.training.config import TrainConfig
from aekit.training.networks import graph_bytes


@dataclass(frozen=True)
class Plan:
    """What a run is going to do. It is known once the images are read."""

    run: Path
    """The run folder."""
    config: TrainConfig
    geometry: Geometry | GridGeometry
    train_images: int
    """Images to learn from."""
    validation_images: int
    """Images held out."""
    split: str
    """How the held-out images were chosen, in words."""
    skipped: tuple[Record, ...]
    """Files that could not be read, with the reason."""
    device: str
    """The torch device: cpu, cuda or mps."""
    steps: int
    """Steps in the whole run."""
    epochs: int
    """Passes over the training images in the whole run; the last one may be cut short. For grid codes see --epochs."""
    chosen_for: str = ""
    """Least and largest size of the pictures, in words, if these chose the network; else empty."""
    remarks: tuple[str, ...] = ()
    """Sentences on what aekit chose by the images, and on what may go wrong."""
    deadline: float | None = None
    """When the last step must be done, in seconds of time.monotonic(), if there is a budget. Then `steps` and `epochs`
    are a first estimate."""

    @property
    def graph_bytes(self) -> dict[str, int]:
        """Bytes of the graphs that export will write, by role: encoder and decoder."""
        return graph_bytes(self.config, self.geometry)

    @property
    def kmac(self) -> tuple[float, float] | None:
        """Thousands of multiplications a pixel of the encoder and of the decoder; None for vector codes."""
        return self.config.layout.kmac(self.geometry.channels) if self.config.is_grid else None


@dataclass(frozen=True)
class TrainResult:
    """Result of a finished run. `aekit.export` takes its folder."""

    run: Path
    """The run folder."""
    epoch: int
    """Epoch whose weights are kept, 1 for the first. 0 if no epoch was better than the network before training."""
    cost: float
    """Mean cost of the batches of that epoch, in the objective's unit; NaN for epoch 0."""
    validation: dict[str, float]
    """Figures on the held-out images with these weights, by name. `mse`, for pixels in [0, 1], is always among them.
    If an objective stores its codes as uint8, the figures belong to the rounded codes."""
    seconds: float
    """Training time up to that epoch, in seconds, without interruptions."""
    skipped: tuple[Record, ...]
    """Files that could not be read, with the reason."""
    bytes_asked: float | None
    """Mean bytes of a code that the settings asked for, or None; `validation["bytes"]` is what was reached."""
    config: TrainConfig
    """Settings of the run."""
    geometry: Geometry | GridGeometry
    """Size and colour of the images."""
    train_images: int
    """Number of training images."""
    start: dict[str, float]
    """Figures on the held-out images before the first step, by name. The default networks start as PCA."""
    pca_mse: float | None
    """Error of PCA with as many numbers as a code, on the held-out images; None for grid codes."""
    epochs: int
    """Number of epochs that were trained."""
    is_exhausted: bool
    """Whether training ended early, because validation no longer improved."""

    @property
    def gain(self) -> float | None:
        """Share by which training lowered the figure that ranks weights, against the start. None if it is unknown."""
        name = OBJECTIVES[self.config.objective].headline
        if name not in self.start or not self.start[name]:
            return None
        return (self.start[name] - self.validation[name]) / abs(self.start[name])
