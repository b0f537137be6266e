"""Memory of one window of images: forked processes write to it, and it is handed out in parts."""

import mmap
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor


class WindowMemory:
    """Memory that forked processes share; it costs nothing until it is written to.

    Not by ``share_memory_``, whose file system is 64 MB small in many containers.

    Parameters
    ----------
    shape
        Images, height, width.
    dtype
        What a file has, so that the kernel can read right into it.
    """

    images: Float[Tensor, "place side side"]

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self._image_bytes = shape[1] * shape[2] * dtype.itemsize
        self._memory = mmap.mmap(-1, shape[0] * self._image_bytes)
        self.images = torch.frombuffer(self._memory, dtype=dtype).view(shape)
        self._held: list[ref[memoryview]] = []

    def part(self, start: int, n: int) -> Float[Tensor, "n side side"]:
        """Images ``start`` to ``start + n`` as they lie in this memory, without a copy."""
        size = self._image_bytes
        memory = memoryview(self._memory)[start * size : (start + n) * size]
        self._held.append(ref(memory))  # the tensor and all its views keep it alive
        return torch.frombuffer(memory, dtype=self.images.dtype).view(n, *self.images.shape[1:])

    def is_free(self) -> bool:
        """Whether nobody holds a part that was handed out."""
        self._held = [memory for memory in self._held if memory() is not None]
        return not self._held
