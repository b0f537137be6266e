from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryoem.batch import Pose
from cryoem.checkpoint import LoadedRun
from cryoem.cli import volumes as verb
from cryoem.cli.main import main
from cryoem.decoders.phantom import GaussianPhantom
from cryoem.geometry import ImageGeometry
from cryoem.lattice import FourierLattice

SIDE, VOXEL, SCALE = 16, 3.0, 5.0


class Swing(torch.nn.Module):
    """A fixed blob, and one that the first latent moves along x, with a closed form for each z."""

    latent_dim = 2

    def at(self, z: float) -> GaussianPhantom:
        centres = torch.tensor([[0.0, 3, 2], [z, -3, 0]])
        return GaussianPhantom(centres, SCALE * torch.tensor([1.0, 2]), 1.5, SIDE)

    def forward(self, freqs, z=None):
        points = freqs.expand(len(z), -1, -1)
        return torch.stack([self.at(float(row[0]))(f) for f, row in zip(points, z, strict=True)])


def loaded_run(decoders: list) -> LoadedRun:
    return LoadedRun(
        kind="homo" if len(decoders) == 2 else "hetero",
        decoders=decoders,
        encoder=None,
        latent_dim=decoders[0].latent_dim,
        lattice=FourierLattice(SIDE),
        geometry=ImageGeometry(40, SIDE, VOXEL),
        data_scale=SCALE,
        pose=Pose(torch.eye(3).expand(40, 3, 3), torch.zeros(40, 2)),
        config={},
        epoch=0,
        step=0,
    )


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A heterogeneous run of forty particles, rows 100 to 139 of its input file."""
    folder = tmp_path / "run"
    folder.mkdir()
    z = np.stack([np.linspace(-4, 4, 40), np.zeros(40)], axis=1).astype(np.float32)
    np.savez(folder / "latents.npz", z=z, z_std=z, index=np.arange(100, 140))
    monkeypatch.setattr(verb, "load_run", lambda path, device: loaded_run([Swing()]))
    return folder


def cryoem(*words) -> int:
    return main(["volumes", *map(str, words), "--device", "cpu"])


def decoded(folder: Path) -> list[np.ndarray]:
    return [mrcfile.read(path) for path in sorted(folder.glob("volume_*.mrc"))]


def density(z: float) -> np.ndarray:
    volume = Swing().at(z).density().numpy() / SCALE
    return volume - volume.mean()


def centre_of_the_moving_blob(volume: np.ndarray) -> float:
    """Along x from the centre voxel, in the lower half in y."""
    profile = np.clip(volume[:, : SIDE // 2], 0.01, None).sum(axis=(0, 1))
    profile = profile - profile.min()
    return float((profile * (np.arange(SIDE) - SIDE // 2)).sum() / profile.sum())


def test_a_volume_is_the_density_at_its_latent_in_units_of_the_file(run, tmp_path):
    np.savetxt(tmp_path / "z.txt", [[-2.0, 0], [3.0, 1]])
    assert cryoem(run, "--latents", tmp_path / "z.txt", "-o", tmp_path / "out") == 0
    for volume, z in zip(decoded(tmp_path / "out"), (-2.0, 3.0), strict=True):
        assert np.abs(volume - density(z)).max() < 0.02 * density(z).max()
    with mrcfile.open(tmp_path / "out" / "volume_002.mrc") as file:
        assert float(file.voxel_size.x) == pytest.approx(VOXEL)
    table = pd.read_csv(tmp_path / "out" / "volumes.csv")
    np.testing.assert_allclose(table[["z1", "z2"]], [[-2, 0], [3, 1]])


@pytest.mark.parametrize("path", ["pc1", "curve"])
def test_a_path_moves_the_blob_in_one_direction(run, tmp_path, path):
    assert cryoem(run, "--path", path, "-n", 4, "-o", tmp_path / "out") == 0
    centres = [centre_of_the_moving_blob(volume) for volume in decoded(tmp_path / "out")]
    assert (np.diff(centres) > 1).all()


def test_particles_are_rows_of_the_input_file(run, tmp_path):
    assert cryoem(run, "--particles", "139,100", "-o", tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / "volumes.csv")
    np.testing.assert_allclose(table["z1"], [4, -4])
    assert list(table["particle"]) == [139, 100]


def test_clusters_give_as_many_volumes(run, tmp_path):
    assert cryoem(run, "--kmeans", 3, "-o", tmp_path / "out") == 0
    assert len(decoded(tmp_path / "out")) == 3


def test_a_smaller_box_has_larger_voxels_and_the_same_molecule(run, tmp_path):
    assert cryoem(run, "--particles", 120, "--box-size", 8, "-o", tmp_path / "out") == 0
    with mrcfile.open(tmp_path / "out" / "volume_001.mrc") as file:
        assert file.data.shape == (8, 8, 8)
        assert float(file.voxel_size.x) == pytest.approx(2 * VOXEL)


def test_the_other_hand_is_mirrored_about_the_centre_voxel(run, tmp_path):
    cryoem(run, "--particles", 120, "-o", tmp_path / "a")
    cryoem(run, "--particles", 120, "--flip", "-o", tmp_path / "b")
    (a,), (b,) = decoded(tmp_path / "a"), decoded(tmp_path / "b")
    np.testing.assert_array_equal(b[1:], a[:0:-1])


def test_a_low_pass_lowers_the_peak_and_keeps_the_units(run, tmp_path):
    cryoem(run, "--particles", 120, "-o", tmp_path / "a")
    cryoem(run, "--particles", 120, "--low-pass", 24, "-o", tmp_path / "b")
    (a,), (b,) = decoded(tmp_path / "a"), decoded(tmp_path / "b")
    assert 0.1 < b.max() / a.max() < 0.9


def test_a_homogeneous_run_has_one_volume_the_mean_of_its_half_sets(tmp_path, monkeypatch):
    halves = [Swing().at(-3.0), Swing().at(3.0)]
    monkeypatch.setattr(verb, "load_run", lambda path, device: loaded_run(halves))
    assert cryoem(tmp_path, "-o", tmp_path / "out") == 0
    (volume,) = decoded(tmp_path / "out")
    expected = (density(-3.0) + density(3.0)) / 2
    assert np.abs(volume - expected).max() < 0.02 * expected.max()
    assert cryoem(tmp_path, "--path", "pc1", "-o", tmp_path / "two") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say where to decode"),
        (["--path", "pc3"], "--path pc3: give pc1 to pc2, or curve"),
        (["--path", "curve", "-n", "0"], "-n 0: give at least 1"),
        (["--particles", "5"], "particle 5 is not in the run; its 40 particles are rows 100"),
        (["--kmeans", "41"], "41 clusters"),
        (["--latents", "nowhere.npy"], "nowhere.npy: no such file"),
        (["--kmeans", "2", "--box-size", "7"], "--box-size 7: give an even number from 8 to 16"),
        (["--kmeans", "2", "--low-pass", "4"], "Nyquist is at 6 A"),
    ],
)
def test_a_wrong_choice_is_explained_and_nothing_is_written(run, tmp_path, capsys, words, message):
    assert cryoem(run, *words, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_latents_of_the_wrong_shape_name_the_expected_columns(run, tmp_path, capsys):
    np.save(tmp_path / "z.npy", np.zeros((5, 8)))
    assert cryoem(run, "--latents", tmp_path / "z.npy", "-o", tmp_path / "out") == 2
    assert "shape (5, 8); the run needs 2 columns" in capsys.readouterr().err


def test_volumes_of_an_earlier_call_are_not_mixed_with_new_ones(run, tmp_path, capsys):
    assert cryoem(run, "--kmeans", 3, "-o", tmp_path / "out") == 0
    assert cryoem(run, "--kmeans", 2, "-o", tmp_path / "out") == 2
    assert "holds volume_003.mrc of an earlier series" in capsys.readouterr().err
    assert len(decoded(tmp_path / "out")) == 3


def test_a_list_of_particles_that_is_none_is_explained(run, tmp_path):
    with pytest.raises(SystemExit) as leaving:
        cryoem(run, "--particles", "5,x", "-o", tmp_path / "out")
    assert leaving.value.code == 2
