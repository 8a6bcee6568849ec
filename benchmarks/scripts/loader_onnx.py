"""What one would write today to encode a folder: a torch DataLoader of 2 workers, Pillow, onnxruntime, one .npy.

python loader_onnx.py FOLDER ENCODER.onnx SIDE gray|rgb OUT.npy
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Images(Dataset[torch.Tensor]):
    """The folder's images as uint8 [side, side, channels], stretched by Pillow's bilinear filter."""

    def __init__(self, folder: Path, side: int, mode: str) -> None:
        self.paths, self.side, self.mode = sorted(folder.rglob("*.*")), side, mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.paths[row]) as file:
            image = file.convert(self.mode)
        if image.size != (self.side, self.side):
            image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image).reshape(self.side, self.side, -1))


def main() -> None:
    folder, encoder, side, colour, out = sys.argv[1:]
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    images = Images(Path(folder), int(side), "L" if colour == "gray" else "RGB")
    latents = [
        session.run(["latent"], {"image": batch.numpy()})[0]
        for batch in DataLoader(images, batch_size=256, num_workers=2)
    ]
    np.save(out, np.concatenate(latents))


if __name__ == "__main__":
    main()
