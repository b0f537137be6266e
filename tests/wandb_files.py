"""Reads what W&B has written offline: a LevelDB log of its own protocol-buffer records."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7


@dataclass
class OfflineRun:
    """One ``offline-run-...`` folder."""

    folder: Path
    run_id: str = ""
    group: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def steps(self) -> list[int]:
        """Of every row of the history, in the order of writing."""
        return [row["trainer/global_step"] for row in self.history if "trainer/global_step" in row]


def offline_runs(output_dir: Path) -> list[OfflineRun]:
    """All parts of a training, oldest first."""
    return [_read(folder) for folder in sorted((output_dir / "wandb").glob("offline-run-*"))]


def _read(folder: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun(folder)
    for content in _records(next(folder.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.group = record.run.run_id, record.run.run_group
            run.name = record.run.display_name
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            run.history.append(row)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "artifact":
            run.artifacts.append(record.artifact.type)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        keys = [item.key] if item.key else list(item.nested_key)
        target["/".join(keys)] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[bytes]:
    """Join the parts of each record; blocks of 32 KB, the file's header in the first."""
    position, parts = _HEADER, b""
    assert content.startswith(b":W&B")
    while position + _HEADER <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        part = content[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts
