"""The original's two pose searches on the images of :mod:`benchmarks.pose_search`.

``PYTHON pose_search_original.py FOLDER THREADS N_TIMED`` runs in an environment that has cryoDRGN
4.3 and not this package: it reads ``FOLDER/searched.npz`` and writes ``FOLDER/found.npz``. Each
search, with its defaults, runs on

- ``N_TIMED`` images under its own network of 256 x 3 with random weights: what it costs;
- all images under the true volume, interpolated from the grid that our search uses: what it finds.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from cryodrgn import models, models_ai, pose_search, pose_search_ai
from cryodrgn.lattice import Lattice
from torch import Tensor, nn

# as in the parsers of abinit_homo_old, abinit_het_old and abinit; only the extent of the shifts is
# 10 pixels for all, where that of abinit is 20
N_ITER, N_KEEP, HEALPY, L_MIN, L_MAX, SHIFT_EXTENT, SHIFT_GRID = 4, 8, 2, 12, 32, 10, 7
LAYERS, WIDTH, FEATURE_SIGMA, FEATURES_AI, BATCH = 3, 256, 0.5, 64, 16

Search = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


class LookUp(nn.Module):
    """A sum of volumes interpolated from a grid, in the place of a network."""

    def __init__(self, grid: Tensor, steps: float) -> None:
        super().__init__()
        self.grid = nn.Parameter(grid.permute(3, 0, 1, 2)[None], requires_grad=False)
        self.steps = steps

    def forward(self, coords: Tensor, z: Tensor | None = None) -> Tensor:
        """Hartley values; latents are behind the coordinates, or come apart, a row per image."""
        coords, own = coords[..., :3], coords[..., 3:]
        if z is not None:
            own = z.view(len(z), *[1] * (coords.ndim - 2), -1).expand(*coords.shape[:-1], -1)
        points = (coords * self.steps).reshape(1, -1, 1, 1, 3)
        values = nn.functional.grid_sample(self.grid, points, align_corners=True)[0, :, :, 0, 0]
        if own.shape[-1] == 0:
            return values[0].view(coords.shape[:-1])
        weights = own.reshape(values.shape[1], -1).T
        return (values[0] + (weights * values[1:]).sum(0)).view(coords.shape[:-1])


def old(lattice: Lattice, n_latents: int, volume: LookUp | None) -> Search:
    """The search of ``abinit_homo_old``, and with latents of ``abinit_het_old``."""
    if n_latents:
        n_pixels = int(lattice.get_circular_mask(lattice.D // 2).sum())
        model: nn.Module = models.HetOnlyVAE(
            lattice, LAYERS, WIDTH, LAYERS, WIDTH, n_pixels, n_latents, domain="hartley",
            enc_type="gaussian", feat_sigma=FEATURE_SIGMA,
        )  # fmt: skip
        if volume is not None:
            model.decoder = volume
    else:
        network = models.get_decoder(
            3, lattice.D, LAYERS, WIDTH, "hartley", "gaussian", feat_sigma=FEATURE_SIGMA
        )
        model = network if volume is None else volume
    search = pose_search.PoseSearch(
        model.eval(), lattice, L_MIN, L_MAX, base_healpy=HEALPY, t_extent=SHIFT_EXTENT,
        t_ngrid=SHIFT_GRID, niter=N_ITER, nkeptposes=N_KEEP, device=torch.device("cpu"),
    )  # fmt: skip

    def run(images: Tensor, ctf: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        return search.opt_theta_trans(images, z=z, ctf_i=ctf)[:2]

    return run


def ai(lattice: Lattice, n_latents: int, volume: LookUp | None) -> Search:
    """The search of ``abinit`` (DRGN-AI)."""
    grids = {
        "l_min": L_MIN, "l_max": L_MAX, "t_extent": SHIFT_EXTENT, "t_n_grid": SHIFT_GRID,
        "niter": N_ITER, "nkeptposes": N_KEEP, "base_healpy": HEALPY, "t_xshift": 0,
        "t_yshift": 0, "no_trans_search_at_pose_search": False, "tilting_func": None,
    }  # fmt: skip
    network = {
        "explicit_volume": False, "n_layers": LAYERS, "hidden_dim": WIDTH, "pe_type": "gaussian",
        "pe_dim": FEATURES_AI, "feat_sigma": FEATURE_SIGMA, "domain": "hartley",
        "pe_type_conf": None,
    }  # fmt: skip
    latents = {"z_dim": n_latents, "std_z_init": 0.1, "variational": False}
    # the search does not look at the mask of the output
    mask = SimpleNamespace(binary_mask=lattice.get_circular_mask(lattice.D // 2))
    model = models_ai.DrgnAI(
        lattice, mask, 1, 1, {"conf": False}, latents, network, ps_params=grids
    )
    if volume is not None:
        model.hypervolume = volume
    model.eval()

    def run(images: Tensor, ctf: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        return pose_search_ai.opt_theta_trans(model, images, lattice, grids, z=z, ctf_i=ctf)

    return run


@torch.no_grad()
def search_all(search: Search, data: dict[str, Tensor], n: int) -> dict[str, np.ndarray]:
    """Poses of the first ``n`` images, and the processor and wall seconds spent on them."""
    rotation, shift = [], []
    processor, wall = time.process_time(), time.perf_counter()
    for start in range(0, n, BATCH):
        rows = slice(start, min(start + BATCH, n))
        z = data["z"][rows] if data["z"].shape[1] else None
        found = search(data["images"][rows], data["transfer"][rows], z)
        rotation.append(found[0].float())
        shift.append(found[1].float().view(-1, 2))
    spent = time.process_time() - processor, time.perf_counter() - wall
    return {
        "rotation": torch.cat(rotation).numpy(),
        "shift": torch.cat(shift).numpy(),
        "seconds": np.array(spent),
    }


def main() -> None:
    """Both searches, with both volumes."""
    folder, threads, n_timed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, their offset of in-plane angles
    with np.load(folder / "searched.npz") as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    lattice = Lattice(data["images"].shape[-1])
    n, n_latents = len(data["images"]), data["z"].shape[1]
    volume = LookUp(data["grid"], float(data["steps"]))
    found = {}
    for name, make in {"old": old, "ai": ai}.items():
        runs = {"network": (None, min(n, n_timed)), "volume": (volume, n)}
        for kind, (model, count) in runs.items():
            result = search_all(make(lattice, n_latents, model), data, count)
            found.update({f"{name}_{kind}_{key}": value for key, value in result.items()})
    np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    main()
