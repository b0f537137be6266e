"""The checks before a run, alone: sign, CTF, pose convention and pixel size, by experiment.

Examples
--------
  cryoem preflight particles.star
  cryoem preflight particles.cs --passthrough passthrough.cs --root /data/project -o page.html
  cryoem preflight particles.mrcs --poses poses.pkl --ctf ctf.pkl --sign dark --all

Writes one page with all evidence. Exit status 2 if the images contradict what is stated.
"""

import argparse
from pathlib import Path

from cryoem.cli.device import choose_device
from cryoem.io.source import open_particles
from cryoem.preflight import examine, refuse_contradictions
from cryoem.preflight.images import SCANNED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add = parser.add_argument
    add("particles", type=Path, metavar="FILE", help=".star, .cs, .mrcs, .txt, or shards")
    add("-o", "--output", type=Path, default=Path("preflight.html"), metavar="FILE",
        help="the page (default: preflight.html here)")  # fmt: skip
    add("--root", metavar="DIR", help="folder that the file's relative paths start from")
    add("--passthrough", metavar="FILE", help="cryoSPARC's second file")
    add("--poses", metavar="FILE", help="file that overrides the poses, also cryoDRGN's .pkl")
    add("--ctf", metavar="FILE", help="file that overrides the CTF, also cryoDRGN's .pkl")
    add("--pixel-size", type=float, metavar="A", help="for files that do not say")
    add("--select", help="rows to use: .star, .cs, .npy, .pkl, or first:1000")
    add("--sign", choices=("auto", "dark", "light"), default="auto", help="what you believe")
    add("--all", action="store_true",
        help=f"look at the pixels of all images, not of {SCANNED:,}")  # fmt: skip
    add("--device", help="cuda, cuda:1, cpu; a GPU by default if there is one")


def run(args: argparse.Namespace) -> None:
    """Examine, write the page, say what was found."""
    from cryoem.preflight.page import write_preflight  # matplotlib takes a second to load

    source = open_particles(
        args.particles,
        root=args.root,
        passthrough=args.passthrough,
        poses=args.poses,
        ctf=args.ctf,
        select=args.select,
        pixel_size_angstrom=args.pixel_size,
    )
    findings = examine(
        source,
        source.table.pose,
        sign=args.sign,
        most_images=None if args.all else SCANNED,
        device=choose_device(args.device),
    )
    write_preflight(findings, args.output)
    for verdict in findings.verdicts:
        print(f"{verdict.topic}: {verdict.text}")
    refuse_contradictions(findings.verdicts, args.output)
    print(f"the evidence is in {args.output}")
