"""Simulate a particle stack with ground truth, from a motion, a map or an atomic model.

  cryoem simulate igg_circular_1d -o data/igg --n 5000 --box-size 64 --pixel-size 6 --snr 0.1
  cryoem simulate linear_1d -o data/ends --states 2 --snr inf --no-ctf
  cryoem simulate map.mrc -o data/map --box-size 128 --pixel-size 2.5

Writes particles.star and particles.mrcs (RELION 3.1 conventions), and the truth: volumes, their
mean, labels, beads, a mask around the moving domain, and all parameters in simulation.json.
"""

import argparse
import time
from pathlib import Path

from cryoem.cli.progress import advance, progress_bar
from cryoem.simulate.dataset import simulate
from cryoem.simulate.motions import MOTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; each is a parameter of :func:`cryoem.simulate.simulate`."""
    add = parser.add_argument
    names = ", ".join(MOTIONS)
    add("motion", metavar="MOTION_OR_MAP", help=f"{names}; or a .mrc map, .pdb or .cif model")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add("--n", type=int, default=5000, help="number of images (%(default)s)")
    add("--box-size", type=int, default=64, metavar="PX", help="even (%(default)s)")
    add("--pixel-size", type=float, default=6.0, metavar="A", help="angstrom (%(default)s)")
    add("--resolution", type=float, metavar="A", help="of the molecule (2.5 pixels; a map's own)")
    add("--snr", type=float, default=0.1, help="signal by noise variance, or inf (%(default)s)")
    add("--states", type=int, metavar="N", help="discrete conformations (default: continuous)")
    add("--shift", type=float, default=3.0, metavar="PX", help="largest shift (%(default)s)")
    add("--no-ctf", action="store_true", help="plain projections")
    add(
        "--defocus",
        type=float,
        nargs=2,
        default=(0.8, 2.5),
        metavar=("MIN", "MAX"),
        help="micrometres underfocus (0.8 2.5)",
    )
    add("--astigmatism", type=float, default=150.0, metavar="A", help="typical U - V (%(default)s)")
    add("--voltage", type=float, default=300.0, metavar="KV", help="kilovolts (%(default)s)")
    add("--cs", type=float, default=2.7, metavar="MM", help="spherical aberration (%(default)s)")
    add("--amplitude-contrast", type=float, default=0.1, metavar="W", help="(%(default)s)")
    add("--b-factor", type=float, default=0.0, metavar="A2", help="envelope (%(default)s)")
    add("--sign", choices=("light", "dark"), default="light", help="of the protein (%(default)s)")
    add("--dtype", choices=("float32", "float16"), default="float32", help="(%(default)s)")
    add("--seed", type=int, default=0, help="of every draw (%(default)s)")


def run(args: argparse.Namespace) -> None:
    """Simulate, with a progress bar on stderr and the paths on stdout."""
    start = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("rendering", total=args.n, speed="")
        data = simulate(
            args.output,
            motion=args.motion,
            n_particles=args.n,
            box_size=args.box_size,
            pixel_size_angstrom=args.pixel_size,
            resolution_angstrom=args.resolution,
            snr=args.snr,
            n_states=args.states,
            shift_pixels=args.shift,
            ctf=not args.no_ctf,
            defocus_range_micrometres=tuple(args.defocus),
            astigmatism_angstrom=args.astigmatism,
            voltage_kilovolts=args.voltage,
            spherical_aberration_mm=args.cs,
            amplitude_contrast=args.amplitude_contrast,
            b_factor_angstrom2=args.b_factor,
            sign=args.sign,
            dtype=args.dtype,
            seed=args.seed,
            progress=lambda done, _: advance(bar, task, done),
        )
    seconds = time.perf_counter() - start
    print(f"{args.n} images in {seconds:.1f} s ({args.n / seconds:.0f} images/s)")
    print(f"particles  {data.particles}")
    print(f"truth      {data.truth}")
