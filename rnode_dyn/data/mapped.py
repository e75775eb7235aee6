"""Images in a .npy file that is too large for memory: each batch reads its own pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.data.images import quantize, resize
from rnode_dyn.data.indexing import rows_at
from rnode_dyn.data.splits import Event, Split


class MappedSplit(Split):
    """Rows of a memory-mapped .npy file, as images of 256 levels.

    It may be pickled and sent to workers: the file is mapped anew in each process.

    Args:
        path: The file, uint8 of shape `(n, channels, height, width)`.
        rows: Which of its rows are the split's samples.
        event: What a sample shall look like: images are resized and quantized to it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "images.npy"
    >>> np.save(path, np.arange(96, dtype=np.uint8).reshape(8, 3, 2, 2))
    >>> split = MappedSplit(path, range(6, 8), Event((3, 2, 2), levels=256))
    >>> len(split), split[0].flatten()[:4]
    (2, tensor([72, 73, 74, 75], dtype=torch.uint8))
    """

    def __init__(self, path: Path, rows: Sequence[int], event: Event) -> None:
        self.path = path
        self.rows = np.asarray(rows, dtype=np.int64)
        self.event = event
        self._images: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        images = torch.from_numpy(self._mapped()[self.rows[rows_at(indices, len(self))]])
        return quantize(resize(images, self.event.shape[-1]), 256, self.event.levels or 256)

    def _mapped(self) -> np.ndarray:
        images = self._images
        if images is None:
            images = self._images = np.load(self.path, mmap_mode="r")
        return images

    def __getstate__(self) -> dict[str, Any]:
        # A pickled map would be the whole file.
        return {**self.__dict__, "_images": None}
