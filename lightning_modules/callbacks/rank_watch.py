"""A rank that is gone ends the run, by name: the others would wait for it for ever."""

import logging
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from cryoem.errors import InputError
from lightning_modules.callbacks.interrupt import Interrupted

log = logging.getLogger(__name__)
TEMPORARY = 75  # sysexits.h: try again
_BEATS = 15  # within the patience
_OVER = "over"


class RankWatch(pl.Callback):
    """Every rank shows that it lives; after ``patience_s`` without a sign from one, all stop.

    A thread does, so that a rank that waits in a collective is heard as well; one that hangs there
    runs into the timeout of the collective. A rank that fails says so before it goes. The process
    ends at once, since nothing can interrupt a thread that waits for the network; what was saved
    last is what the same command goes on from. The status is 75 where a rank or the network is
    lost, and 1 after an error, which would only come again.
    """

    def __init__(self, patience_s: float = 30.0) -> None:
        self.patience_s = patience_s
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Meet the others, and begin to watch."""
        if trainer.world_size == 1:
            return
        self._rank, self._n = trainer.global_rank, trainer.world_size
        self._store = self._meet(trainer)
        self._set(f"name{self._rank}", f"process {os.getpid()} on {socket.gethostname()}")
        self._set(f"beat{self._rank}", "0")
        names = (self._store.get(f"name{rank}").decode() for rank in range(self._n))
        self._names = [f"rank {rank} ({name})" for rank, name in enumerate(names)]
        self._store.wait([f"beat{rank}" for rank in range(self._n)])
        trainer.strategy.barrier()
        _stop_lightnings_observer()
        self._done.clear()
        self._thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)
        self._thread.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take leave."""
        self._leave()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Tell the others of a failure, unless it is theirs, or all stop together."""
        if self._thread is None:
            return
        if not isinstance(exception, Interrupted):
            status = 1
            if not isinstance(exception, InputError) and _is_of_the_network(exception):
                self._thread.join(2 * self.patience_s)  # it will say who is gone
                status = TEMPORARY
            reason = str(exception).partition("\n")[0]
            name = self._names[self._rank]
            self._say(f"{name} failed: {type(exception).__name__}: {reason}", status)
        self._leave()

    def _meet(self, trainer: pl.Trainer) -> Any:
        """A store of our own, since others wait for keys in that of torch."""
        host = trainer.strategy.cluster_environment.main_address  # type: ignore[attr-defined]
        store: Any = dist.TCPStore  # type: ignore[attr-defined]
        options = {"timeout": timedelta(seconds=self.patience_s)}
        if self._rank > 0:
            return store(host, trainer.strategy.broadcast(None), is_master=False, **options)
        own = store(host, 0, is_master=True, wait_for_workers=False, **options)
        trainer.strategy.broadcast(own.port)
        return own

    def _watch(self) -> None:
        pause = self.patience_s / _BEATS
        heard = [("", time.monotonic())] * self._n
        number = 0
        while not self._done.wait(pause):
            number += 1
            try:
                self._set(f"beat{self._rank}", str(number))
                over = self._store.check([_OVER]) and self._store.get(_OVER).decode()
                beats = self._store.multi_get([f"beat{rank}" for rank in range(self._n)])
            except RuntimeError:  # the store is the first rank's
                self._end(f"{self._names[0]} is gone", TEMPORARY)
                return
            if over:
                self._set(f"beat{self._rank}", _OVER)
                status, _, message = over.partition(" ")
                self._end(message, int(status))
                return
            now = time.monotonic()
            for rank, beat in enumerate(beats):
                if beat.decode() not in (heard[rank][0], ""):
                    heard[rank] = (beat.decode(), now)
                elif heard[rank][0] != _OVER and now - heard[rank][1] > self.patience_s:
                    self._say(f"{self._names[rank]} is gone", TEMPORARY)

    def _end(self, message: str, status: int) -> None:
        """End this process; the first rank stays until the others have read why."""
        if self._done.is_set():
            return
        text = f"{message}; the same command goes on from the last checkpoint"
        log.critical(text)
        if self._rank == 0:  # which holds the store
            time.sleep(3 * self.patience_s / _BEATS)
        print(f"train.py: {text}", file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(status)

    def _say(self, message: str, status: int) -> None:
        if not self._store.check([_OVER]):
            self._set(_OVER, f"{status} {message}")

    def _leave(self) -> None:
        """Stop watching; the first rank waits for the others, whose store it holds."""
        if self._thread is None:
            return
        self._done.set()
        self._thread = None
        self._set(f"beat{self._rank}", _OVER)
        until = time.monotonic() + self.patience_s
        while self._rank == 0 and time.monotonic() < until:
            beats = self._store.multi_get([f"beat{rank}" for rank in range(self._n)])
            if all(beat == _OVER.encode() for beat in beats):
                return
            time.sleep(self.patience_s / _BEATS / 4)

    def _set(self, key: str, value: str) -> None:
        self._store.set(key, value)


def _is_of_the_network(exception: BaseException) -> bool:
    """Whether a collective failed, as it does when another rank is gone."""
    text = str(exception).lower()
    return isinstance(exception, dist.DistError) or "gloo" in text or "nccl" in text


def _stop_lightnings_observer() -> None:
    """Lightning's own watch kills the first rank within seconds, without a word on why."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
