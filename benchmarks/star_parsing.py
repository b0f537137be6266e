"""Seconds and memory to open a STAR file of a million particles, beside the original's parser.

``python -m benchmarks.star_parsing [--rows 1000000] [--original PYTHON]`` writes a particle table
of 26 columns as RELION's refinement does (0.4 GB), in a folder that is removed at the end, and
opens it: its rows and columns checked, poses, CTF and optics in our units. With ``--original``, a
Python in whose environment cryoDRGN 4.3 is installed, its ``parse_star`` reads the same file into a
table of text. Seconds are those of the processor; imports count neither there nor in the memory.
Needs Linux.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

COLUMNS = (
    "CoordinateX", "CoordinateY", "AutopickFigureOfMerit", "AnglePsi", "CtfMaxResolution",
    "CtfFigureOfMerit", "DefocusU", "DefocusV", "DefocusAngle", "CtfBfactor", "CtfScalefactor",
    "PhaseShift", "AngleRot", "AngleTilt", "OriginXAngst", "OriginYAngst", "NormCorrection",
    "LogLikeliContribution", "MaxValueProbDistribution", "ClassNumber", "OpticsGroup",
    "GroupNumber", "NrOfSignificantSamples", "RandomSubset", "MicrographName", "ImageName",
)  # fmt: skip
OPTICS = """
data_optics

loop_
_rlnOpticsGroup
_rlnImagePixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnImageSize
1 1.5 300.0 2.7 0.1 128
2 1.5 300.0 2.7 0.1 128

data_particles

loop_
"""
PER_MICROGRAPH, _BLOCK = 150, 100_000
_TIMED = """
import ctypes, os, resource, sys, time
from pathlib import Path
{imports}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
page = os.sysconf("SC_PAGE_SIZE") / 1e6
held = lambda: page * int(Path("/proc/self/statm").read_text().split()[1])
before, start = held(), time.process_time()
table = {call}
print(f"{{time.process_time() - start:.1f}} s, {{peak() - before:.0f}} MB at most", end="")
ctypes.CDLL(None).malloc_trim(0)  # what freed arrays have left
print(f", {{held() - before:.0f}} MB in the end")
"""
OURS = ("from cryoem.io.table import read_table", "read_table(sys.argv[1])")
THEIRS = ("from cryodrgn.starfile import parse_star", "parse_star(sys.argv[1])")


def write_table(path: Path, n: int) -> None:
    """Write particles with random values in every column."""
    rng = np.random.default_rng(0)
    line = "%12.6f " * 9 + "0.000000 1.000000 0.000000 " + "%12.6f " * 7
    line += "%12d %12d %12d %12d %12d mic_%06d.mrc %06d@Extract/job012/mic_%06d.mrcs\n"
    with path.open("w") as file:
        file.write(OPTICS + "".join(f"_rln{name}\n" for name in COLUMNS))
        for start in range(0, n, _BLOCK):
            count = min(_BLOCK, n - start)
            values = rng.uniform(0, 180, (count, 16))
            values[:, 6:8] = rng.uniform(5e3, 2e4, (count, 2))
            for k, row in enumerate(values.tolist(), start=start):
                mic, image = divmod(k, PER_MICROGRAPH)
                whole = (1, 1 + k % 2, mic + 1, 3, 1 + k % 2, mic, image + 1, mic)
                file.write(line % (*row, *whole))


def timed(python: str, imports: str, call: str, star: Path) -> str:
    """Open the file in a process of its own."""
    words = [python, "-c", _TIMED.format(imports=imports, call=call), str(star)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def main() -> None:
    """Print a line for each parser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--original", metavar="PYTHON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        star = Path(folder) / "particles.star"
        write_table(star, args.rows)
        print(f"{args.rows} rows, {len(COLUMNS)} columns, {star.stat().st_size / 1e6:.0f} MB")
        print(f"ours      {timed(sys.executable, *OURS, star)}", flush=True)
        if args.original is not None:
            print(f"original  {timed(args.original, *THEIRS, star)}")


if __name__ == "__main__":
    main()
