"""Read the images of a new run, and choose the settings that the user left open by these images."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aekit.images.sources import open_source
from aekit.training.config import TrainConfig
from aekit.training.data import Forms, TrainingData, load_training_data
from aekit.training.looks import looks_gray, with_likelihood
from aekit.training.networks import within_size
from aekit.training.networks.factory import in_megabytes
from aekit.training.pictures import PictureData, load_pictures
from aekit.training.settings import NewRun


@dataclass(frozen=True)
class OpenedImages:
    """The images of a new run, and the settings that suit them."""

    data: TrainingData | PictureData
    config: TrainConfig
    """The settings, with what the images decided."""
    chosen_for: str
    """Least and largest size of the pictures, in words, if these chose the network; else empty."""
    remarks: tuple[str, ...]
    """Sentences on what aekit chose by the images, and on what may go wrong."""


def open_images(asked: NewRun, on_phase: Callable[[str], None]) -> OpenedImages:
    """Read the images, and choose the network, the colour, the likelihood and the widths that are left open.

    `on_phase` is called with a few words before each reading.

    Raises OptionError and SourceError as aekit.training.session.start does.
    """
    on_phase(f"reading {source_in_words(asked.config.data)}")
    data, asked, chosen_for = _load(asked)
    remarks: tuple[str, ...] = ()
    if asked.channels is None and data.geometry.channels != 1 and looks_gray(data):
        on_phase(f"reading {source_in_words(asked.config.data)} in gray")
        data, asked, _ = _load(dataclasses.replace(asked, channels=1))
        remarks = (
            "the images are stored in colour, but all of them are gray: the model is gray; --rgb keeps three colours",
        )
    config = with_likelihood(asked.config, data)
    is_open = "hidden" not in asked.chosen
    config = within_size(config, data.geometry, asked.max_model_size, may_shrink=is_open)
    remarks += _remarks(asked.config, config, data, asked.max_model_size)
    return OpenedImages(data, config, chosen_for, remarks)


def source_in_words(data: str | Sequence[str]) -> str:
    """Return the name of a source, or the number of sources if there are several."""
    return data if isinstance(data, str) else f"{len(data):,} sources"


def _load(asked: NewRun) -> tuple[TrainingData | PictureData, NewRun, str]:
    """Read the images. Return them, the settings that suit them, and their sizes in words if these chose grid codes."""
    source, forms, chosen_for = open_source(asked.config.data, "train"), None, ""
    if asked.size is None or asked.channels is None:
        forms = Forms.of(source)
        if asked.suits(forms):
            asked, chosen_for = asked.for_grids(), forms.span()
    config = asked.config
    if not config.is_grid:
        return load_training_data(config.data, asked.size, asked.channels, config.group_by, forms), asked, chosen_for
    channels = asked.channels or (forms or Forms.of(source)).channels(source.name)
    geometry = config.grid_geometry(channels, asked.max_side or 0)
    return load_pictures(source, geometry, config.group_by), asked, chosen_for


def _remarks(asked: TrainConfig, chosen: TrainConfig, data: TrainingData | PictureData, most: int) -> tuple[str, ...]:
    """Return sentences on changed settings, and on what may go wrong."""
    remarks = []
    if chosen.hidden != asked.hidden:
        width = f"layers of {chosen.hidden[0]} units in place of {asked.hidden[0]}"
        remarks.append(f"{width}, so that each graph has at most {in_megabytes(most)} (--max-model-size)")
    if chosen.objective == "variational" and chosen.options != asked.options:
        what = "black-and-white" if chosen.options["likelihood"] == "bernoulli" else "more than black and white"
        remarks.append(f"the images are {what}: likelihood {chosen.options['likelihood']}")
    if not chosen.is_grid and len(data.train) < chosen.code_dim:
        remarks.append(
            f"warning: {len(data.train):,} images to learn from are fewer than the {chosen.code_dim:,} numbers of a "
            "code, so the model will not fit other images; give more images or a smaller --code-dim"
        )
    return tuple(remarks)
