"""How long an epoch takes, how much of it is waiting for data, and how much memory a run needs."""

import resource
import sys
import time

import torch


class EpochClock:
    """Reads the host's clock between steps, and never waits for the device."""

    def __init__(self) -> None:
        self.start()  # a run that goes on within an epoch does not begin one

    def start(self) -> None:
        """An epoch begins, and with it the wait for its first batch."""
        self._started = self._free_since = time.perf_counter()
        self._waited = 0.0
        self._images = 0

    def batch_begins(self) -> None:
        """The wait is over."""
        self._waited += time.perf_counter() - self._free_since

    def batch_ends(self, n_images: int) -> None:
        """A step is over, in which all ranks together have seen so many images."""
        self._images += n_images
        self._free_since = time.perf_counter()

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds since the start, and numbers with their units."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return seconds, {
            "epoch_images_per_s": self._images / seconds,
            "data_wait_share": self._waited / seconds,
        }


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory of the run so far: on a GPU what its tensors took, else the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
