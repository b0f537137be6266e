"""Run many trainings, each in its own process: ``python sweep.py hparams=latent_dim seed=0,1``.

A key with several values, ``key=a,b`` or ``key=range(1,4)``, makes one training per value; several
such keys make every combination. ``hparams`` names a set of them, ``cluster`` says where they run,
``name`` is the sweep's; everything else goes to ``train.py``. The same command goes on where it
stopped: finished trainings are kept.
"""

import csv
import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from conf.checks import check
from conf.compose import compose, parse
from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path

TRAIN = Path(__file__).with_name("train.py")
OWN = ("name=", "hparams=", "cluster=", "objective=")


def points(overrides: list[str]) -> list[dict[str, str]]:
    """Return every combination of the values that each key is given, in the order of the keys."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    axes = [
        [*o.sweep_string_iterator()] if o.is_sweep_override() else [o.get_value_element_as_str()]
        for o in parsed
    ]
    keys = [o.get_key_element() for o in parsed]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*axes)]


def run_point(folder: Path, point: dict[str, str]) -> int:
    """Train one point in a fresh process; returns its exit status."""
    overrides = [f"{key}={value}" for key, value in point.items()]
    names = [f"name={folder.parent.name}_{folder.name}", f"output_dir={folder}"]
    print(folder.name, *overrides, flush=True)
    command = [sys.executable, str(TRAIN), *overrides, *names]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode


def write_leaderboard(
    folder: Path, runs: dict[Path, dict[str, str]], objective: str
) -> list[dict[str, object]]:
    """Write ``leaderboard.csv``, smallest ``objective`` first; unfinished points are left out."""
    rows: list[dict[str, object]] = []
    for run, point in runs.items():
        metrics = run / "metrics.json"
        if metrics.is_file():
            numbers = json.loads(metrics.read_text()).items()
            scalars = {key: value for key, value in numbers if not isinstance(value, (list, dict))}
            rows.append({"point": run.name, **point, **scalars})
    if rows and any(objective not in row for row in rows):
        raise InputError(f"objective={objective}: no such metric.\nOne of: {', '.join(rows[0])}")
    rows.sort(key=lambda row: float(str(row[objective])))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(folder / "leaderboard.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def sweep(config: DictConfig, overrides: list[str]) -> int:
    """Run every point of a sweep and rank them; returns the exit status."""
    folder = Path("sweeps") / config.name
    swept = [f"{key}={value}" for key, value in config.hparams.items()]
    runs = {
        folder / f"point_{i:03d}": point for i, point in enumerate(points([*swept, *overrides]), 1)
    }
    for point in runs.values():
        check(compose([f"{key}={value}" for key, value in point.items()]))
    with ThreadPoolExecutor(config.cluster.jobs) as pool:
        statuses = list(pool.map(run_point, runs, runs.values()))
    rows = write_leaderboard(folder, runs, config.objective)
    for run, status in zip(runs, statuses, strict=True):
        if status:
            print(f"{run} ended with status {status}; see {run}/run.log", file=sys.stderr)
    if rows:
        shutil.copyfile(folder / str(rows[0]["point"]) / "config.yaml", folder / "best.yaml")
    print(f"leaderboard  {folder / 'leaderboard.csv'}")
    return int(any(statuses))


def main(argv: list[str] | None = None) -> int:
    """Run the sweep that a command line asks for; returns the exit status."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv, str(__doc__))
        own = [o for o in options.overrides if o.startswith(OWN)]
        config = compose(own, config_name="sweep")
        return sweep(config, [o for o in options.overrides if o not in own])
    except InputError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep.py: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
