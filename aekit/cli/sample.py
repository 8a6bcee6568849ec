"""aekit sample: draw images from random latents, or from latents between two images, as one picture."""

import math
from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.options import JsonOption, ModelOption, OverwriteOption, ProviderOption, ThreadsOption
from aekit.cli.printing import emit, note


def sample(
    out: Annotated[Path, typer.Option(help="Picture to write, NAME.png.")],
    n: Annotated[
        int | None,
        typer.Option("--n", help="Images to draw, 1 to 10,000.", show_default="64; 10 with --interpolate"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the random latents. The same seed gives the same images.", show_default="0"),
    ] = None,
    interpolate: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A B", help="Two image files. Instead of random latents, decode N latents between theirs."
        ),
    ] = None,
    model: ModelOption = Path("model"),
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw new images from the model, as one picture.

    Latents come from the prior of a variational model. For other models they come from a Gaussian fitted to the latents
    of the training images. With --interpolate the picture is one row: A, N images from A to B, B. A model for pictures
    of any size can't draw images.
    """
    import numpy as np
    from PIL.PngImagePlugin import PngInfo

    from aekit.errors import OptionError
    from aekit.evaluation.figures import check_grid, grid
    from aekit.model import interpolation, sampling
    from aekit.model.codec import Codec
    from aekit.outputs.ours import PNG_MARK
    from aekit.outputs.places import check_apart
    from aekit.outputs.staging import check_free, staged_file

    if out.suffix != ".png":
        raise OptionError(f"--out {out}", expected="a name that ends in .png")
    if interpolate and seed is not None:
        raise OptionError("--seed", expected="no seed with --interpolate, which is not random", found=str(seed)[:80])
    check_apart(out, *(interpolate or ()), model)
    check_free(out, overwrite=overwrite)
    count = n if n is not None else 10 if interpolate else 64
    sampling.check_count(count, least=2 if interpolate else 1)
    columns = count + 2 if interpolate else math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    codec = Codec.load(model, provider, threads)
    sampling.check_model(codec)
    check_grid(rows, columns, codec.spec.fixed)
    if interpolate:
        ends, between = interpolation.interpolate(codec, *interpolate, count)
        images = np.concatenate([ends[:1], between, ends[1:]])
    else:
        images = sampling.sample(codec, count, seed or 0)
        if codec.bundle.manifest["latent"]["source"] == "training":
            note(f"{model} has no prior, so some images look unlikely; train with --objective variational for one")
    picture = grid([images[start : start + columns] for start in range(0, len(images), columns)])
    made_by = PngInfo()  # --overwrite recognises the picture by it
    made_by.add_text(*PNG_MARK)
    with staged_file(out) as part:
        picture.save(part, "PNG", pnginfo=made_by)
    facts = {"images": count, "rows": rows, "columns": columns, "seed": None if interpolate else seed or 0}
    ran = codec.provider("decoder")
    result = {"out": str(out), **facts, "model_id": codec.model_id, "provider": ran}
    what = "images between two" if interpolate else "images of random latents"
    emit(result, [f"{count:,} {what} -> {out}, {rows} x {columns}, on {ran}"], as_json)
