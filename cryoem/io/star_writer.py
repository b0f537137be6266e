"""STAR files out, in the layout of RELION 3.1 and later."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoem.io.atomic import atomic_path


@dataclass(frozen=True)
class StarTable:
    """One block to write: labels, and rows of words that are quoted where they need to be."""

    name: str
    labels: Sequence[str]
    rows: Iterable[Sequence[bytes]]


def write_star(path: str | Path, tables: Sequence[StarTable]) -> None:
    """Write the blocks one after another, each as a loop."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for table in tables:
            file.write(f"\n# version 30001\n\ndata_{table.name}\n\nloop_\n".encode())
            labels = (f"{label} #{k}\n" for k, label in enumerate(table.labels, start=1))
            file.write("".join(labels).encode())
            file.writelines(b" ".join(row) + b"\n" for row in table.rows)
            file.write(b"\n")
