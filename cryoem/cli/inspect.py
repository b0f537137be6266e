"""What is in a particle file, a volume or a run folder, and every problem found.

  cryoem inspect particles.star
  cryoem inspect particles.cs --passthrough passthrough.cs --root PROJECT --all
  cryoem inspect map.mrc
  cryoem inspect runs/NAME --json facts.json

Exit status 2 if the input cannot be read at all, else 0, whatever is found.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cryoem.analysis.particle_facts import describe, find_problems
from cryoem.analysis.volume_facts import describe_volume
from cryoem.errors import InputError
from cryoem.export_run import plain
from cryoem.io.atomic import atomic_path
from cryoem.io.mrc import read_mrc_header
from cryoem.io.source import open_particles
from cryoem.io.table import read_table
from cryoem.preflight.images import SCANNED, scan_images
from cryoem.report.headline import resolution_card
from cryoem.report.run_folder import read_run_folder

_BAD_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("path", type=Path, metavar="FILE_OR_RUN", help=".star, .cs, .mrcs, .txt, .mrc, or a run")
    add("--root", type=Path, metavar="DIR", help="folder that relative paths start from")
    add("--passthrough", type=Path, metavar="FILE", help="cryoSPARC's second file")
    add("--poses", type=Path, metavar="FILE", help="poses from another file")
    add("--ctf", type=Path, metavar="FILE", help="CTF from another file")
    add("--all", action="store_true", help=f"look at the pixels of all images, not of {SCANNED:,}")
    add("--json", type=Path, metavar="FILE", help="write the same as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print what is there and what is wrong with it."""
    path = arguments.path
    if path.is_dir():
        kind, facts, problems = "run", *inspect_run(path)
    elif not path.exists():
        raise InputError(f"{path}: no such file or folder")
    elif _is_volume(path):
        kind, facts, problems = "volume", *describe_volume(path)
    else:
        kind, facts, problems = "particles", *inspect_particles(arguments)
    if arguments.json is not None:
        content = plain({"kind": kind, **facts, "problems": problems})
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    show(kind, facts, problems)


def _is_volume(path: Path) -> bool:
    if path.name.endswith((".map", ".map.gz", ".mrc.gz", ".ccp4")):
        return True
    if path.suffix != ".mrc":
        return False
    header = read_mrc_header(path)  # its space group says nothing: 0 and 1 are written for both
    return header.n_images == header.height == header.width


def inspect_particles(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return what a particle file says and its problems, those of its images among them."""
    options = {name: getattr(arguments, name) for name in ("root", "passthrough", "poses", "ctf")}
    table = read_table(arguments.path, **options)
    problems = find_problems(table)
    try:
        source = open_particles(arguments.path, **options)
        scan = scan_images(source, None if arguments.all else SCANNED)
    except InputError as error:
        return describe(table), [str(error), *problems]
    facts = describe(table)
    facts["images_looked_at"] = len(scan.looked_at)
    found = [f"image in row {bad.row} has {bad.reason}" for bad in scan.bad[:_BAD_SHOWN]]
    if len(scan.bad) > _BAD_SHOWN:
        found.append(f"{len(scan.bad) - _BAD_SHOWN} more bad images")
    return facts, [*found, *problems]


def inspect_run(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a run folder holds, and what is missing or damaged in it."""
    run_folder = read_run_folder(path)
    problems = list(run_folder.problems)
    z = run_folder.latents.get("z")
    facts: dict[str, Any] = {
        "file": str(path),
        "name": run_folder.name,
        "finished_epochs": run_folder.finished_epochs,
        "planned_epochs": run_folder.planned_epochs,
        "checkpoints": [file.name for file in run_folder.checkpoints],
        "volumes": [header.path.name for header in run_folder.volumes],
        "latents": None if z is None else list(z.shape),
        "figures": [file.name for file in run_folder.figures],
        "metrics": run_folder.metrics,
    }
    if run_folder.volumes:
        header = run_folder.volumes[0]
        facts |= {
            "box_size": header.width,
            "voxel_size_angstrom": header.pixel_size_angstrom,
        }
    if not run_folder.checkpoints:
        problems.append("no checkpoint: the run cannot go on, and no volumes can be decoded")
    wanted = ("config.yaml", "metrics.csv", "metrics.json", "report.html", "volumes", "figures")
    missing = [name for name in wanted if not (path / name).exists()]
    if missing:
        problems.append(f"missing: {', '.join(missing)}; written as the run goes on and ends")
    if z is not None and not np.isfinite(z).all():
        problems.append(f"latents.npz: {int((~np.isfinite(z)).any(axis=1).sum())} rows not finite")
    return facts, problems + [f"run.log: {line}" for line in run_folder.log_warnings]


def show(kind: str, facts: dict[str, Any], problems: list[str]) -> None:
    """Print a table of the facts, then remarks and problems."""
    console = Console()
    console.print(f"[bold]{kind}[/]: {escape(str(facts['file']))}", soft_wrap=True)
    table = Table(box=None, show_header=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if key not in ("file", "notes") and value not in (None, [], {}):
            _add(table, key, value)
    console.print(table)
    for note in facts.get("notes", []):
        console.print(f"note: {escape(note)}", soft_wrap=True)
    for problem in problems:
        console.print(f"[bold red]problem:[/] {escape(problem)}", soft_wrap=True)
    if not problems:
        console.print("[green]no problems found[/]")


def _add(table: Table, key: str, value: Any) -> None:
    if isinstance(value, dict):
        table.add_row(key, "")
        for name, item in value.items():
            _add(table, f"{key[: -len(key.lstrip())]}  {name}", item)
    elif key.strip() == "resolution":
        for card in map(resolution_card, value):
            table.add_row(key, escape(f"{card['value']} ({card['note']})"))
    else:
        table.add_row(key, escape(_text(value)))


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, float) for v in value):
        return " to ".join(dict.fromkeys(f"{item:g}" for item in value))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)
