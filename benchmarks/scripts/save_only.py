"""What one would write to turn an array of images into files: Pillow saving each as PNG, in one thread.

python save_only.py IMAGES.npy FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    images, folder = np.load(sys.argv[1], allow_pickle=False), Path(sys.argv[2])
    folder.mkdir(parents=True)
    for row, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{row:06d}.png")


if __name__ == "__main__":
    main()
