"""Write docs/cli.md from the programs' own ``--help``: ``python -m docs``."""

import os
import subprocess
import sys
from pathlib import Path

from cryoem.cli.main import VERBS
from cryoem.io.atomic import atomic_path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "python train.py": ["train.py"],
    "python sweep.py": ["sweep.py"],
    "cryoem": ["-m", "cryoem.cli.main"],
    **{f"cryoem {verb}": ["-m", "cryoem.cli.main", verb] for verb in VERBS},
}


def section(name: str, arguments: list[str]) -> str:
    """Return the help of one program as Markdown."""
    shown = subprocess.run(
        [sys.executable, *arguments, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},  # or the text would depend on the terminal
        capture_output=True,
        text=True,
        check=True,
    )
    return f"## {name}\n\n```text\n{shown.stdout.strip()}\n```\n"


def main() -> None:
    """Write the page, whole or not at all."""
    parts = [section(*program) for program in PROGRAMS.items()]
    header = "# Command-line reference\n\nWritten by `make docs`; do not edit.\n"
    with atomic_path(ROOT / "docs" / "cli.md") as path:
        path.write_text("\n".join([header, *parts]))
    print("docs/cli.md")


if __name__ == "__main__":
    main()
