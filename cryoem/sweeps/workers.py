"""Where points run: processes of this machine, which share its devices."""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

_PATIENCE_S = 120  # for the step and the checkpoint of a training that was asked to stop
_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1
_MESSAGE = 4  # lines of a message at the end; more is something else
# loaded here, because between fork and exec little is safe
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@runtime_checkable
class Workers(Protocol):
    """Starts trainings and watches them. A name is that of a point."""

    parallel: int

    def start(self, name: str, command: Sequence[str], known_as: str) -> str:
        """Start, or take up again what goes on under a number; returns that number."""
        ...

    def status(self, name: str) -> int | None:
        """None while it runs, then its exit status."""
        ...

    def stop(self, name: str) -> None:
        """Ask it to end after its step, with a checkpoint."""
        ...

    def stop_all(self) -> None:
        """Ask all to end, and wait until they have."""
        ...

    def last_words(self, name: str) -> str:
        """What it printed at the end."""
        ...


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    slot: int
    log: IO[bytes]


class Processes:
    """Trainings as processes of their own, ``parallel`` at a time.

    Each is in a session of its own, so that Ctrl-C reaches it once, through us; if we die, the
    kernel asks it to stop, and it leaves a checkpoint.

    Parameters
    ----------
    parallel
        How many at a time.
    logs
        Folder for what they print.
    devices
        Names of the GPUs, as in ``CUDA_VISIBLE_DEVICES``.
    environment
        Variables for all of them.
    """

    def __init__(
        self, parallel: int, logs: Path, devices: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.parallel, self.logs = parallel, logs
        self._shares = shares(devices, parallel)
        threads = str(max(1, (os.cpu_count() or 1) // parallel))
        self._environment = {"OMP_NUM_THREADS": threads, **os.environ, **environment}
        self._running: dict[str, _Running] = {}
        self._ended: dict[str, int] = {}

    def start(self, name: str, command: Sequence[str], known_as: str) -> str:
        """Start, as soon as the process of a sweep that was killed has left its checkpoint."""
        while _is_alive(known_as, command):
            time.sleep(_POLL_S)
        slot = min({*range(self.parallel)} - {r.slot for r in self._running.values()})
        environment = dict(self._environment)
        if self._shares[slot]:
            environment["CUDA_VISIBLE_DEVICES"] = self._shares[slot]
        self.logs.mkdir(parents=True, exist_ok=True)
        log = (self.logs / f"{name}.txt").open("ab")
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment, start_new_session=True, preexec_fn=stop_with_parent,
        )  # fmt: skip
        self._running[name] = _Running(process, slot, log)
        return str(process.pid)

    def status(self, name: str) -> int | None:
        """Exit status; negative if a signal ended it."""
        if name in self._running:
            status = self._running[name].process.poll()
            if status is None:
                return None
            self._running.pop(name).log.close()
            self._ended[name] = status
        return self._ended[name]

    def stop(self, name: str) -> None:
        """Send SIGTERM."""
        if name in self._running:
            self._running[name].process.terminate()

    def stop_all(self) -> None:
        """Send SIGTERM to all; who is still there after two minutes is killed."""
        for name in self._running:
            self.stop(name)
        until = time.monotonic() + _PATIENCE_S
        for running in self._running.values():
            try:
                running.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait()
            running.log.close()
        self._running = {}

    def last_words(self, name: str) -> str:
        """End of its log."""
        return last_words(self.logs / f"{name}.txt")


def shares(devices: Sequence[str], parallel: int) -> list[str]:
    """Share devices out among slots: neighbours to one, or one to several where there are few."""
    if len(devices) < parallel:
        return [devices[i % len(devices)] if devices else "" for i in range(parallel)]
    n = len(devices)
    cuts = [n * i // parallel for i in range(parallel + 1)]
    return [",".join(devices[a:b]) for a, b in itertools.pairwise(cuts)]


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in given.split(",") if name.strip()]
    return names or [str(i) for i in range(torch.cuda.device_count())]


def _is_alive(pid: str, command: Sequence[str]) -> bool:
    """Whether the process of that number still runs, and is not another one by now (Linux)."""
    try:
        running = Path(f"/proc/{int(pid)}/cmdline").read_bytes().decode(errors="replace")
    except (ValueError, OSError):
        return False
    return command[-1] in running.split("\0")


def stop_with_parent() -> None:
    """Between fork and exec: ask the kernel for SIGTERM when the parent dies (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def last_words(log: Path) -> str:
    """The message of ``train.py`` at the end of a log, or else the last line."""
    if not log.is_file():
        return ""
    text = log.read_text(errors="replace").strip()
    _, mark, message = text.rpartition("train.py: ")
    lines = (mark + message).splitlines() if mark and message.count("\n") < _MESSAGE else []
    return "\n".join(lines or text.splitlines()[-1:])
