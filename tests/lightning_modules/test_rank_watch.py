"""What the ranks tell each other before they end."""

import logging
import os
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch.distributed as dist

from cryoem.errors import InputError
from lightning_modules.callbacks import RankWatch


class Strategy:
    """Two ranks that are threads of this process."""

    def __init__(self, shared: list[Any], barrier: threading.Barrier) -> None:
        self.cluster_environment = SimpleNamespace(main_address="127.0.0.1")
        self.shared, self.barrier = shared, barrier.wait

    def broadcast(self, value: Any) -> Any:
        if value is not None:
            self.shared.append(value)
        self.barrier()
        return self.shared[0]


def meet(patience_s: float) -> list[RankWatch]:
    shared: list[Any] = []
    barrier = threading.Barrier(2)
    watches = [RankWatch(patience_s) for _ in range(2)]
    threads = []
    for rank, watch in enumerate(watches):
        trainer = Mock(pl.Trainer, world_size=2, global_rank=rank)
        trainer.strategy = Strategy(shared, barrier)
        module = Mock(pl.LightningModule)
        threads.append(threading.Thread(target=watch.on_train_start, args=(trainer, module)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return watches


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("no such thing\nat all"), 1),
        (InputError("rows differ"), 1),
        (dist.DistNetworkError("connection reset"), 75),
    ],
)
def test_who_hears_of_an_error_ends_for_good_and_of_a_lost_connection_for_now(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    first, second = meet(patience_s=3.0)
    thread = first._thread
    assert thread is not None
    second.on_exception(Mock(pl.Trainer), Mock(pl.LightningModule), error)
    thread.join(10)
    assert ended == [status]
    message = capsys.readouterr().err
    assert "rank 1 (process " in message
    assert f"failed: {type(error).__name__}: {str(error).splitlines()[0]};" in message
    first.on_fit_end(Mock(pl.Trainer), Mock(pl.LightningModule))
