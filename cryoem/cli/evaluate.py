"""Compare a run with the ground truth: poses, volumes and latents.

Examples
--------
  cryoem evaluate runs/NAME --truth simulated/truth
  cryoem evaluate runs/NAME --truth DIR --labels labels.csv --column angle_deg --json numbers.json

DIR is what `cryoem simulate` wrote or its truth/, or a folder with conf_00.mrc ..., or with
truth.mrc. labels.csv (one row per particle) and particles.star (the true poses) lie in the same
folder, or above one that is called truth.

A run that found its poses knows its volume only up to a rotation, the hand and the origin: they
are found from the poses, and the decoder is queried in the frame of the truth. Nor do images tell a
motion from the same motion seen from a frame that turns along with it: `--align classes` gives each
true conformation a frame of its own, as fitting every volume to its truth does. Volumes of a
heterogeneous run are decoded at the latent of the particle nearest to its class' mean, and at the
mean. `own mean` is the volume at the mean of all latents: what is above it, the latents brought.
`consensus` is the mean true volume without noise, the best that one volume for all could do. AUC is
the area under the FSC, in cycles per voxel; as a share of the largest (of 1); and with the shells
of CryoBench's publications. --json has every volume by itself, and the spread.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich import print as print_rich
from rich.table import Table

from cryoem.cli.curves import MASK_HELP, named_mask
from cryoem.errors import InputError
from cryoem.export_run import plain
from cryoem.grids import symmetry_group
from cryoem.io.atomic import atomic_path
from cryoem.metrics.evaluation import evaluate_run
from cryoem.metrics.truth_folder import find_truth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run, or one of its .ckpt files")
    add("--truth", type=Path, required=True, metavar="DIR", help="the ground truth")
    add("--labels", type=Path, metavar="FILE", help="CSV, instead of the labels.csv of the truth")
    add("--column", metavar="NAME", help="of the labels: the coordinate that latents should tell")
    add("--period", type=float, metavar="P", help="the coordinate is a circle of this length")
    add("--mask", default="soft", help=f"%(default)s by default; none, {MASK_HELP}")
    add(
        "--align",
        choices=("none", "global", "classes"),
        help="find rotation, hand and origin first, for all or for each class by itself (default: "
        "for all, unless the run was given its poses)",
    )
    add("--symmetry", default="C1", metavar="GROUP", help="of the truth: C1, C4, D7, T, O, I")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--device", default="cpu", help="where to decode (%(default)s)")


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    if args.period is not None and not args.period > 0:
        raise InputError(f"--period {args.period}: must be positive")
    truth = find_truth(args.truth, args.labels, args.column, args.period)
    mask = None
    if args.mask != "none":
        name = Path(args.mask).name
        mask = (name, lambda density, voxel_size: named_mask(args.mask, density, voxel_size))
    result = evaluate_run(
        args.run,
        truth,
        align=args.align,
        mask=mask,
        symmetry=symmetry_group(args.symmetry),
        device=_device(args.device),
    )
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(plain(result), indent=1, allow_nan=False) + "\n")
    _print(result)


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: not usable here ({reason}); try cpu") from None


def _print(result: Mapping[str, Any]) -> None:
    print(_alignment_line(result["alignment"]))
    if "poses" in result:
        print_rich(_pose_table(result["poses"]))
    print_rich(_volume_table(result["volumes"], 2 * result["run"]["voxel_size_angstrom"]))
    if "latents" in result:
        truth = result["truth"]
        circle = "" if truth["period"] is None else f", a circle of {truth['period']:g}"
        print_rich(_latent_table(f"latents and {truth['column']}{circle}", result["latents"]))


def _alignment_line(alignment: Mapping[str, Any]) -> str:
    given = "the run was given its poses" if alignment["poses_were_given"] else "the run found them"
    if alignment["kind"] == "none":
        return f"poses: {given}; not aligned"
    hand = "mirrored" if alignment["flipped"] else "as the truth"
    low, high = alignment["median_degrees_same_hand"], alignment["median_degrees_other_hand"]
    doubt = ", AMBIGUOUS" if alignment["hand_ambiguous"] else ""
    how = "globally" if alignment["kind"] == "global" else "class by class"
    return (
        f"poses: {given}; aligned {how}; hand {hand}{doubt} "
        f"(median {low:.2f} degrees as found, {high:.2f} mirrored)"
    )


def _pose_table(poses: Mapping[str, float]) -> Table:
    table = _table("error of the poses", "median", "mean")

    def add(title: str, pattern: str) -> None:
        values = [poses.get(pattern.format(of)) for of in ("median", "mean")]
        table.add_row(title, *("" if value is None else f"{value:.4f}" for value in values))

    add("rotation, degrees", "rotation_{}_degrees")
    for limit in (5, 10):
        share = poses[f"rotation_share_below_{limit}_degrees"]
        table.add_row(f"  below {limit} degrees", f"{share:.1%}", "")
    table.add_row("  90 % are below", f"{poses['rotation_p90_degrees']:.4f}", "")
    add("  squared Frobenius norm", "rotation_{}_frobenius2")
    if "rotation_median_degrees_aligned_per_class" in poses:
        add("  each class in a frame of its own", "rotation_{}_degrees_aligned_per_class")
    add("viewing direction, degrees", "viewing_direction_{}_degrees")
    add("in the plane, degrees", "in_plane_{}_degrees")
    for unit in ("pixels", "angstrom"):
        add(f"shift, {unit}", f"shift_{{}}_{unit}")
        add("  before the origin was found", f"shift_{{}}_{unit}_before_alignment")
    return table


def _latent_table(title: str, numbers: Mapping[str, float]) -> Table:
    table = _table(title, "")
    for name, value in numbers.items():
        table.add_row(name.replace("_", " "), f"{value:.4f}")
    return table


def _volume_table(volumes: Mapping[str, Any], nyquist: float) -> Table:
    n = len(volumes["each"])
    what = "volume" if n == 1 else f"mean of {n}"
    table = _table(what, "FSC", "AUC", "AUC of 1", "CryoBench", "A at 0.5")
    for name, masks in volumes["summary"].items():
        for mask, numbers in masks.items():
            keys = ("mean_fsc", "auc", "auc_norm", "auc_cryobench")
            table.add_row(
                name if mask == "none" else f"  mask: {mask}",
                *(f"{numbers[key]['mean']:.4f}" for key in keys),
                _resolution(numbers["resolution_0.5_angstrom"]["median"], nyquist),
            )
    return table


def _table(*headers: str) -> Table:
    table = Table(*headers)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _resolution(angstrom: float, nyquist: float) -> str:
    if math.isnan(angstrom):
        return "none"
    return f"{'<= ' if angstrom <= nyquist else ''}{angstrom:.2f}"
