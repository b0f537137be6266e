"""Run every script of this folder in turn, each in its own process: ``python -m benchmarks``."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Return the number of scripts that failed."""
    failed = 0
    for script in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if script.stem.endswith("_original"):
            continue  # for another interpreter
        print(f"== {script.stem}", flush=True)
        failed += (
            subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"]).returncode != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
