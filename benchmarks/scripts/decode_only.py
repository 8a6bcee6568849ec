"""The limit of reading: decode every file of a folder with Pillow, in 2 workers, and do nothing with the pixels.

python decode_only.py FOLDER processes      as it is
python decode_only.py FOLDER threads SIDE   JPEG at the smallest DCT scale that is at least twice SIDE
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool
from pathlib import Path

from PIL import Image


def decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def decode_scaled(path: Path, side: int) -> None:
    with Image.open(path) as image:
        image.draft("RGB", (2 * side, 2 * side))
        image.load()


def main() -> None:
    paths = sorted(Path(sys.argv[1]).rglob("*.*"))
    if sys.argv[2] == "processes":
        with Pool(2) as pool:
            pool.map(decode, paths, chunksize=250)
    else:
        with ThreadPoolExecutor(2) as threads:
            for _ in threads.map(decode_scaled, paths, [int(sys.argv[3])] * len(paths)):
                pass


if __name__ == "__main__":
    main()
