"""Fourier shell correlation of two volumes.

Examples
--------
  cryoem fsc volume.mrc truth.mrc --mask soft
  cryoem fsc half1.mrc half2.mrc --mask tight --phase-randomised --plot fsc.png
  cryoem fsc a.mrc b.mrc --shells cryobench --json fsc.json

Prints the mean over the shells 1 to D/2 - 1, the resolution where the curve first falls below 0.5
(against a truth) and 0.143 (between half maps), and the area under the curve. A mask by name
follows the outline of B, or of the mean of A and B with --phase-randomised.
"""

import argparse
import json
from pathlib import Path

from torch import Tensor

from cryoem.cli.curves import MASK_HELP, named_mask, print_summaries, read_cube, same_side, summary
from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path
from cryoem.metrics.corrected import corrected_fsc
from cryoem.metrics.fsc import FSCCurve, fsc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("a", metavar="A", help="a volume")
    parser.add_argument("b", metavar="B", help="another of the same side")
    parser.add_argument("--mask", help=MASK_HELP)
    parser.add_argument(
        "--phase-randomised",
        nargs="?",
        const="relion",
        choices=("relion", "cryosparc"),
        help="correct half maps for the mask; from where phases are random (default relion: where "
        "the unmasked curve falls below 0.8)",
    )
    parser.add_argument(
        "--shells",
        choices=("centred", "cryobench"),
        default="centred",
        help="which frequencies are a shell (default centred); cryobench as in its publications",
    )
    parser.add_argument(
        "--pixel-size", type=float, metavar="A", help="per voxel; the headers' by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write numbers and curves")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves, .png or .pdf")


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    a, voxel_a = read_cube(args.a)
    b, voxel_b = read_cube(args.b)
    same_side(args.a, a, args.b, b)
    voxel_size = _common_voxel_size(args, voxel_a, voxel_b)
    curves = _curves(args, a, b, voxel_size)
    if args.json is not None:
        _write_json(args.json, curves, voxel_size)
    if args.plot is not None:
        _plot(args.plot, curves, voxel_size)
    print_summaries(curves, voxel_size)


def _curves(
    args: argparse.Namespace, a: Tensor, b: Tensor, voxel_size: float
) -> dict[str, FSCCurve]:
    curves = {"unmasked": fsc(a, b, shells=args.shells)}
    if args.phase_randomised is not None:
        if args.mask is None or args.shells != "centred":
            raise InputError("--phase-randomised corrects for a mask: add --mask, not --shells")
        mask = named_mask(args.mask, (a + b) / 2, voxel_size)
        result = corrected_fsc(a, b, mask, args.phase_randomised)
        curves |= {
            "masked": result.masked,
            "randomised": result.randomised,
            "corrected": result.corrected,
        }
    elif args.mask is not None:
        curves["masked"] = fsc(a, b, named_mask(args.mask, b, voxel_size), args.shells)
    return curves


def _common_voxel_size(args: argparse.Namespace, a: float, b: float) -> float:
    if args.pixel_size is not None:
        if not args.pixel_size > 0:
            raise InputError(f"--pixel-size {args.pixel_size}: must be positive")
        return float(args.pixel_size)
    if abs(a - b) <= 1e-3 * a or b == 1.0:  # a header without a voxel size reads as 1
        return a
    if a == 1.0:
        return b
    raise InputError(f"{args.a}: voxels of {a:g} A, but {args.b} has {b:g}; say --pixel-size")


def _write_json(path: Path, curves: dict[str, FSCCurve], voxel_size: float) -> None:
    content: dict = {"voxel_size_angstrom": voxel_size, "curves": {}}
    for name, curve in curves.items():
        values = [None if value != value else value for value in curve.correlation.tolist()]
        content["curves"][name] = summary(curve, voxel_size) | {"correlation": values}
    content["frequency_cycles_per_voxel"] = curve.frequency.tolist()
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _plot(path: Path, curves: dict[str, FSCCurve], voxel_size: float) -> None:
    from cryoem.figures import fsc_curve, save_figure  # matplotlib takes a second to load

    save_figure(fsc_curve(curves, voxel_size), path)
