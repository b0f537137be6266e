"""Voxel reconstruction of a particle stack from its poses: map, half maps and FSC.

Examples
--------
  cryoem backproject particles.star -o out
  cryoem backproject particles.cs --passthrough passthrough.cs --root /data/project -o out
  cryoem backproject particles.mrcs --poses poses.pkl --ctf ctf.pkl --sign dark -o out
  cryoem backproject particles.star --box-size 128 --first 20000 --truth truth.mrc -o out

Writes volume.mrc, half1.mrc, half2.mrc (the file's half sets, else even and odd rows), fsc.csv and
fsc.png to the folder given with -o.
"""

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text
from torch import Tensor

from cryoem.backproject import Backprojection, backproject
from cryoem.batch import Pose
from cryoem.cli.curves import (
    MASK_HELP,
    curves_frame,
    named_mask,
    print_summaries,
    read_cube,
)
from cryoem.cli.device import choose_device
from cryoem.errors import InputError
from cryoem.fourier import fourier_crop
from cryoem.io.atomic import atomic_path
from cryoem.io.source import ParticleSource, open_particles
from cryoem.io.volume import write_volume
from cryoem.lattice import FourierLattice
from cryoem.metrics.corrected import corrected_fsc
from cryoem.metrics.fsc import FSCCurve, fsc
from cryoem.metrics.mask import TIGHT, outline_mask
from cryoem.preflight import decide_sign
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise

_SIGNS = {"dark": -1, "light": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("particles", metavar="PARTICLES", help=".star, .cs, .mrcs or .txt")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--root", metavar="DIR", help="folder that the file's relative paths start from"
    )
    parser.add_argument("--passthrough", metavar="FILE", help="cryoSPARC's second file")
    parser.add_argument(
        "--poses", metavar="FILE", help="file that overrides the poses, also cryoDRGN's .pkl"
    )
    parser.add_argument(
        "--ctf", metavar="FILE", help="file that overrides the CTF, also cryoDRGN's .pkl"
    )
    parser.add_argument("--no-ctf", action="store_true", help="do not correct for the CTF")
    parser.add_argument("--pixel-size", type=float, metavar="A", help="for files that do not say")
    parser.add_argument("--box-size", type=int, metavar="D", help="Fourier-crop to this even size")
    parser.add_argument(
        "--sign", choices=("auto", "dark", "light"), default="auto", help="of the particles"
    )
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--select", help="rows to use: .star, .cs, .npy, .pkl, or first:1000")
    rows.add_argument("--first", type=int, metavar="N", help="use the first N rows")
    parser.add_argument("--truth", metavar="FILE", help="a volume to compare with")
    parser.add_argument("--mask", help=f"of the comparison, around the truth; {MASK_HELP}")
    parser.add_argument("--device", help="cuda, cuda:1, cpu; a GPU by default if there is one")


def run(args: argparse.Namespace) -> None:
    """Check everything, reconstruct, print and write."""
    source, pose = _open(args)
    for note in source.table.notes:
        print(f"note: {note}", file=sys.stderr)
    box_size = _box_size(args, source.geometry.box_size)
    truth = None if args.truth is None else _truth(args.truth, box_size)
    device = choose_device(args.device)
    preprocess = _preprocess(args, source, pose, box_size, device)
    maps = _with_progress(source, pose, preprocess, use_ctf=not args.no_ctf)
    curves = _half_curves(maps)
    if truth is not None:
        curves |= _truth_curves(maps, truth, args.mask)
    _write(args.output, maps, curves)
    print_summaries(curves, maps.voxel_size_angstrom)
    print(f"volume.mrc, half1.mrc, half2.mrc, fsc.csv and fsc.png are in {args.output}")


def _open(args: argparse.Namespace) -> tuple[ParticleSource, Pose]:
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"-o {args.output}: is a file; name a folder")
    if args.mask is not None and args.truth is None:
        raise InputError("--mask is for the comparison with --truth; name a truth, or leave it out")
    source = open_particles(
        args.particles,
        root=args.root,
        passthrough=args.passthrough,
        poses=args.poses,
        ctf=args.ctf,
        select=args.select if args.first is None else f"first:{args.first}",
        pixel_size_angstrom=args.pixel_size,
    )
    if source.table.pose is None:
        raise InputError(f"{args.particles}: has no poses; give them with --poses FILE")
    return source, source.table.pose


def _box_size(args: argparse.Namespace, source_box: int) -> int:
    if args.box_size is None:
        return source_box
    if args.box_size % 2 or not 8 <= args.box_size <= source_box:
        raise InputError(
            f"--box-size {args.box_size}: must be even, from 8 to {source_box} (the images' own)"
        )
    return int(args.box_size)


def _truth(path: str, box_size: int) -> Tensor:
    truth, _ = read_cube(path)
    if truth.shape[0] != box_size:
        raise InputError(
            f"{path}: side {truth.shape[0]}, but the map will have {box_size}; see --box-size"
        )
    return truth


def _preprocess(
    args: argparse.Namespace,
    source: ParticleSource,
    pose: Pose,
    box_size: int,
    device: torch.device,
) -> Preprocess:
    if args.sign == "auto":
        evidence = decide_sign(source, pose, use_ctf=not args.no_ctf, device=device)
        sign = evidence.sign
        doubt = "" if evidence.sign_is_certain else "; the halves disagree, check it and say --sign"
        print(
            f"sign: {'light' if sign > 0 else 'dark'} "
            f"(skewness {evidence.best.skewness:+.2f} from {len(evidence.sample)} images{doubt})"
        )
    else:
        sign = _SIGNS[args.sign]
    step = max(1, len(source.table) // 200)
    sample = fourier_crop(source.read(torch.arange(0, len(source.table), step)), box_size)
    mean, noise_std = estimate_noise(sample)
    normalisation = Normalisation(mean, noise_std, sign)
    return Preprocess(source.geometry.box_size, FourierLattice(box_size), normalisation).to(device)


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / (task.elapsed or 1):,.0f} images/s")


def _with_progress(
    source: ParticleSource, pose: Pose, preprocess: Preprocess, use_ctf: bool
) -> Backprojection:
    columns = (TextColumn("back-projecting"), BarColumn(), MofNCompleteColumn(), _ImagesPerSecond())
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("", total=len(source.table))
        return backproject(
            source,
            pose,
            preprocess,
            use_ctf=use_ctf,
            progress=lambda n: progress.advance(task, n),
        )


def _half_curves(maps: Backprojection) -> dict[str, FSCCurve]:
    first, second = maps.half_maps
    mask = outline_mask(maps.volume, maps.voxel_size_angstrom, TIGHT)
    result = corrected_fsc(first, second, mask)
    return {
        "half maps": result.unmasked,
        "half maps, tight mask": result.masked,
        "half maps, corrected": result.corrected,
    }


def _truth_curves(maps: Backprojection, truth: Tensor, mask: str | None) -> dict[str, FSCCurve]:
    curves = {"truth": fsc(maps.volume, truth)}
    if mask is not None:
        density = named_mask(mask, truth, maps.voxel_size_angstrom)
        curves["truth, masked"] = fsc(maps.volume, truth, density)
    return curves


def _write(folder: Path, maps: Backprojection, curves: dict[str, FSCCurve]) -> None:
    from cryoem.figures import fsc_curve, save_figure  # matplotlib takes a second to load

    voxel_size = maps.voxel_size_angstrom
    named = {"volume": maps.volume, "half1": maps.half_maps[0], "half2": maps.half_maps[1]}
    for name, volume in named.items():
        write_volume(folder / f"{name}.mrc", volume.numpy(), voxel_size)
    with atomic_path(folder / "fsc.csv") as temporary:
        curves_frame(curves, voxel_size).to_csv(temporary, index=False, float_format="%.6g")
    save_figure(fsc_curve(curves, voxel_size), folder / "fsc.png")
