"""What a preflight says of the reference sets, and of the same after each thing that goes wrong.

``python -m benchmarks.preflight [--images 100000]`` prints a line for each of the reference sets
(folder in ``CRYOEM_SHARED``, by default ``../shared/data``): the sign as it is and after the images
are multiplied by -1; what becomes of rotations that are transposed, of poses in the order of other
rows, and of a pixel size twice and half the right one. Numbers are standard errors: of poses that
fit, above chance; of a reading that fits in place of one that is refused, above that; of a CTF that
fits, above none and above other pixel sizes. Below it is the time for a file of noise, in which
nothing can be found, so that the preflight takes as many images as it ever does.
"""

import argparse
import gzip
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.streaming import write_particles
from cryoem.batch import Pose
from cryoem.cli.main import main as cryoem
from cryoem.io.source import StackSource, open_particles
from cryoem.preflight.evidence import Evidence, decide_sign, gather, standard_errors
from cryoem.preflight.verdicts import Level, judge_poses, judge_transfer

REAL = {
    "toy, 30 px, no noise": ("toy_projections.mrcs", {"poses": "toy_angles.pkl"}),
    "hand, 64 px, no noise": ("hand.mrcs", {"poses": "hand_rot.pkl"}),
    "tilt series, Warp": ("sta_testing_bin8.star", {"ctf": "sta_ctf.pkl"}),
    "RELION 3.1": ("relion31.star", {}),
    "EMPIAR-10076, no poses": ("empiar_10076_7.star", {}),
}


class _Negated(StackSource):
    def read(self, index):
        return -super().read(index)


def negated(source: StackSource) -> StackSource:
    """The same images, multiplied by -1."""
    return _Negated(source.table, source.geometry, source.reader)


def rescaled(source: StackSource, factor: float) -> StackSource:
    """The same particles in a file with another pixel size; its shifts are in angstrom."""
    table, geometry = source.table, source.geometry
    pose = Pose(table.pose.rotation, table.pose.shift / factor)
    table = replace(table, pose=pose, pixel_size_angstrom=factor * table.pixel_size_angstrom)
    geometry = replace(geometry, pixel_size_angstrom=factor * geometry.pixel_size_angstrom)
    return replace(source, table=table, geometry=geometry)


def transposed(pose: Pose) -> Pose:
    """The inverse rotations."""
    return Pose(pose.rotation.mT, pose.shift)


def shuffled(pose: Pose) -> Pose:
    """Poses in the order of other rows."""
    return pose[torch.randperm(len(pose), generator=torch.Generator().manual_seed(1))]


def examined(source: StackSource, pose: Pose | None) -> Evidence:
    """Evidence from all images."""
    return gather(source, pose, torch.arange(len(source.table)))


def sets(data: Path, folder: Path) -> Iterator[tuple[str, StackSource]]:
    """The reference sets; large stacks are unpacked into the folder."""
    for name in ("homog64", "hetero64"):
        packed, unpacked = data / "sim" / name, folder / name
        yield f"{name}, first 100", open_particles(packed / "first100.star")
        unpacked.mkdir()
        shutil.copy(packed / "particles.star", unpacked)
        with gzip.open(packed / "particles.mrcs.gz") as stack:
            with (unpacked / "particles.mrcs").open("wb") as file:
                shutil.copyfileobj(stack, file, 1 << 20)
        yield f"{name}, all 5,000", open_particles(unpacked / "particles.star")
    real = data / "real" / "cryodrgn"
    for name, (file, others) in REAL.items():
        given = {key: real / value for key, value in others.items()}
        yield name, open_particles(real / file, **given)
    yield "projections by RELION", open_particles(data / "real" / "aspire" / "rln_proj_64.star")


def sign(evidence: Evidence) -> str:
    """Dark or light, and the skewness."""
    word = "light" if evidence.sign > 0 else "dark"
    sure = "" if evidence.sign_is_certain else ", not certain"
    return f"{word} {evidence.best.skewness:+.2f}{sure}"


def poses(evidence: Evidence) -> str:
    """What is said of the poses."""
    level, stated, control = judge_poses(evidence).level, evidence.stated, evidence.control
    if control is None:
        return "no poses"
    if evidence.posed is not stated and level is Level.CONTRADICTION:
        errors = standard_errors(evidence.posed, stated)
        return f"refused: {evidence.posed.reading.name}, {errors:.0f}"
    errors = standard_errors(stated, control)
    word = {Level.GOOD: "fit", Level.CONTRADICTION: "refused: chance"}.get(level, "not told")
    return f"{word}, {errors:.1f}"


def transfer(evidence: Evidence) -> str:
    """What is said of CTF and pixel size."""
    if evidence.sample.batch.ctf is None or not evidence.poses_hold:
        return "not tried"
    best, stated = evidence.best, evidence.posed
    if judge_transfer(evidence).level is Level.CONTRADICTION:
        return f"refused: {best.reading.name}, {standard_errors(best, stated):.0f}"
    none, _, *sizes = (standard_errors(stated, trial) for trial in evidence.trials[-4:])
    word = "fits" if judge_transfer(evidence).level is Level.GOOD else "not told"
    return f"{word}, {none:.1f} and {min(sizes):.1f}"


def row(source: StackSource) -> Iterator[str]:
    """Cells of a line."""
    pose = source.table.pose
    as_it_is, reverse = examined(source, pose), decide_sign(negated(source), pose)
    yield f"{len(as_it_is.sample):,}"
    yield from (sign(as_it_is), sign(reverse), poses(as_it_is))
    if pose is None:
        return
    for change in (transposed, shuffled):
        evidence = examined(source, change(pose))
        yield f"{poses(evidence)}; {sign(evidence)}"
    yield transfer(as_it_is)
    if as_it_is.sample.batch.ctf is None:
        return
    for factor in (2.0, 0.5):
        wrong = rescaled(source, factor)
        yield transfer(examined(wrong, wrong.table.pose))


def compare(data: Path) -> None:
    """Print the table."""
    columns = (
        "images tried", "sign", "times -1", "poses", "transposed", "shuffled", "CTF",
        "pixel size twice", "half",
    )  # fmt: skip
    print("| set | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sets(data, Path(folder)):
            cells = list(row(source))
            cells += [""] * (len(columns) - len(cells))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def take_time(n: int, folder: Path | None) -> None:
    """Of the verb, with noise of 128 pixels."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        star = write_particles(Path(place), n, 128)
        wall, cpu = time.perf_counter(), time.process_time()
        cryoem(["preflight", str(star), "-o", f"{place}/page.html", "--device", "cpu"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{n:,} particles: {wall:.0f} s, {cpu:.0f} s of the processor")


def main() -> None:
    """Print the table, and the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the noise is put for the time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("CRYOEM_SHARED", default))
    if data.is_dir():
        compare(data)
    else:
        print(f"the table is skipped: no reference data in {data}; set CRYOEM_SHARED")
    take_time(args.images, args.folder)


if __name__ == "__main__":
    main()
