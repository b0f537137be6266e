"""metrics.csv stays one table, whatever an earlier part of the run has written."""

from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import pytorch_lightning as pl

from lightning_modules.callbacks import MetricsTable
from lightning_modules.callbacks.metrics_table import COLUMNS

TRAINER = Mock(spec=pl.Trainer, is_global_zero=True, current_epoch=2, global_step=30, world_size=1)
MODULE = Mock(spec=pl.LightningModule)


def resumed(folder: Path, lines: int) -> MetricsTable:
    table = MetricsTable(folder)
    state = {"lines": lines, "line": [], "epoch": []}
    table.on_load_checkpoint(TRAINER, MODULE, {"metrics_table": state})
    table.on_train_start(TRAINER, MODULE)
    return table


@pytest.mark.parametrize(
    "header",
    [
        "epoch,step,wall_s,loss_nats_per_frequency",  # fewer
        "step,epoch,loss_nats_per_frequency,wall_s",  # in another order
        "epoch,step,wall_s,loss_nats_per_frequency,of_another_version",
    ],
)
def test_a_table_with_other_columns_goes_on_with_each_value_in_its_own(
    tmp_path: Path, header: str
) -> None:
    row = {"epoch": 0, "step": 10, "wall_s": 1.5, "loss_nats_per_frequency": 0.9}
    earlier = pd.DataFrame([row, row | {"epoch": 1, "step": 20}]).reindex(columns=header.split(","))
    earlier.to_csv(tmp_path / "metrics.csv", index=False)
    resumed(tmp_path, lines=2).write(TRAINER, {"kl_nats": 3.0, "held_out_explained_nats": 12.5})
    found = pd.read_csv(tmp_path / "metrics.csv")
    assert list(found.columns) == COLUMNS
    assert list(found["epoch"]) == [0, 1, 2]
    assert list(found["step"]) == [10, 20, 30]
    assert list(found["loss_nats_per_frequency"].dropna()) == [0.9, 0.9]
    assert list(found["kl_nats"].dropna()) == [3.0]
    assert list(found["held_out_explained_nats"].dropna()) == [12.5]
    assert found["wall_s"].iloc[-1] >= 1.5


def test_lines_after_the_checkpoint_are_dropped_and_a_new_run_has_none(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "step": 10 * epoch, "wall_s": epoch} for epoch in range(4)]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "metrics.csv", index=False)
    resumed(tmp_path, lines=2)
    assert list(pd.read_csv(tmp_path / "metrics.csv")["epoch"]) == [0, 1]
    MetricsTable(tmp_path).on_train_start(TRAINER, MODULE)
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 0
