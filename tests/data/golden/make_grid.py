"""Make the golden files in `grid`: a small model of grid codes with a context model, an archive and an array of codes.

    python tests/data/golden/make_grid.py

The graphs come from tests/grid_models.py: a block transform that was not trained, so that the files are small. The
archive is version 2. tests/test_golden.py holds later versions to these files. Never make the folder again: the point
is that an older version wrote it.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from grid_models import made_pictures, write_grid_model  # noqa: E402

from aekit import Codec, jobs  # noqa: E402
from aekit.codes.tables import CONTEXT, pack_tables  # noqa: E402
from aekit.images.sources import open_source  # noqa: E402
from aekit.training.context import train  # noqa: E402


def main() -> None:
    """Write the folder `grid`."""
    folder = HERE / "grid"
    folder.mkdir()
    model, pictures = write_grid_model(folder / "model"), made_pictures(24, seed=5)
    codes = Codec.load(model, provider="cpu", threads=1).encode(pictures, "uint8")
    manifest = json.loads((model / "model.json").read_text())
    manifest[CONTEXT] = pack_tables(train(codes.codes, steps=60).model)
    (model / "model.json").write_text(json.dumps(manifest))
    for name, chosen in (("pictures", pictures[:6]), ("alike", [pictures[0], pictures[8]])):
        (folder / name).mkdir()
        for row, picture in enumerate(chosen):
            Image.fromarray(picture).save(folder / name / f"{row}.png")
    codec = Codec.load(model, provider="cpu", threads=1)
    jobs.compress(open_source(str(folder / "pictures")), folder / "named.aek", codec)
    jobs.compress(open_source(str(folder / "alike")), folder / "alike.npy", codec)
    shown = codec.encode(pictures[:6], "uint8")
    arrays = {f"code_{row}": code for row, code in enumerate(shown)}
    arrays |= {f"picture_{row}": picture for row, picture in enumerate(codec.decode(shown))}
    np.savez_compressed(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
