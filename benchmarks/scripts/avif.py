"""AVIF by Pillow, speed 6, as a peer of grid models: encode a folder of pictures, or decode a folder of AVIF files.

python avif.py encode FOLDER OUT    every picture to OUT, quality 60
python avif.py decode FOLDER        every file, its pixels unused
"""

import sys
from pathlib import Path

from PIL import Image


def main() -> None:
    for path in sorted(Path(sys.argv[2]).rglob("*.*")):
        with Image.open(path) as image:
            if sys.argv[1] == "decode":
                image.load()
            else:
                image.convert("RGB").save(Path(sys.argv[3]) / f"{path.stem}.avif", speed=6, quality=60)


if __name__ == "__main__":
    main()
