"""Make the golden files in `vector`: the description of the tiny model with a context model, and an archive.

    python tests/data/golden/make_vector.py

The archive is version 4. Decoding needs no graphs, so the folder has none. tests/test_golden.py holds later versions
to these files. Never make the folder again: the point is that an older version wrote it.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from conftest import TINY, made_images  # noqa: E402

from aekit import Codec, jobs  # noqa: E402
from aekit.codes.tables import CONTEXT, pack_tables  # noqa: E402
from aekit.images.sources import open_source  # noqa: E402
from aekit.training.vector_context import train_vectors  # noqa: E402


def main() -> None:
    """Write the folder `vector`."""
    folder = HERE / "vector"
    (folder / "model").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        model, source = Path(shutil.copytree(TINY, Path(name) / "model")), Path(name) / "pictures"
        codes = Codec.load(model, provider="cpu", threads=1).encode(made_images(2000, seed=3), "uint8")
        manifest = json.loads((model / "model.json").read_text())
        manifest |= {CONTEXT: pack_tables(train_vectors(codes, steps=200)), "format_version": 4}
        (model / "model.json").write_text(json.dumps(manifest))
        source.mkdir()
        for row, image in enumerate(made_images(60, seed=4)):
            Image.fromarray(image[:, :, 0]).save(source / f"{row:02d}.png")
        (source / "broken.png").write_bytes(b"not an image")
        codec = Codec.load(model, provider="cpu", threads=1)
        jobs.compress(open_source(str(source)), folder / "named.aek", codec)
        np.save(folder / "codes.npy", codec.encode(made_images(60, seed=4), "uint8"))
        shutil.copy(model / "model.json", folder / "model")


if __name__ == "__main__":
    main()
