"""Images: files, arrays and named sets become uint8 pixels, and pixels become files again.

The public names load on first use, so that importing this package imports nothing else:

    open_source     a folder, an array file, an idx file or a named set, as a Source
    FolderSource    the image files below a folder
    ArraySource     images in one array
    ImageBlock      a range of a source, read: pixels and records
    Record          the path and size of an image, or why it could not be read
    decode_file     the pixels of one image file
    fit_array       images of any size, brought to a model's size
    load_images     the images of an .npy or .npz file
    load_named_set  a split of mnist-5k, mnist or fashion-mnist
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.images.arrays import load_images
    from aekit.images.decode import decode_file, fit_array
    from aekit.images.named_sets import load_named_set
    from aekit.images.records import ImageBlock, Record
    from aekit.images.sources import ArraySource, FolderSource, open_source

__all__ = [
    "ArraySource",
    "FolderSource",
    "ImageBlock",
    "Record",
    "decode_file",
    "fit_array",
    "load_images",
    "load_named_set",
    "open_source",
]

_HOMES = {
    "ArraySource": "aekit.images.sources",
    "FolderSource": "aekit.images.sources",
    "ImageBlock": "aekit.images.records",
    "Record": "aekit.images.records",
    "decode_file": "aekit.images.decode",
    "fit_array": "aekit.images.decode",
    "load_images": "aekit.images.arrays",
    "load_named_set": "aekit.images.named_sets",
    "open_source": "aekit.images.sources",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
