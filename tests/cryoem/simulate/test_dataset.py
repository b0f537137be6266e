"""Simulated data sets, read back as a user's would be."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from cryoem.ctf import evaluate_ctf
from cryoem.errors import InputError
from cryoem.io.source import open_particles
from cryoem.io.volume import read_volume, write_volume
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.simulate import simulate
from cryoem.simulate.beads import fill_ellipsoid
from cryoem.volume import half_grid, volume_to_spectrum

SIDE, PIXEL = 32, 10.0


def small(output, **options):
    settings = {
        "n_particles": 120,
        "box_size": SIDE,
        "pixel_size_angstrom": PIXEL,
        "motion": "linear_1d",
    }
    return simulate(output, **(settings | options))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return small(tmp_path_factory.mktemp("sim") / "noisy", n_particles=600, n_states=3)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The same images as ``noisy``, without the noise."""
    folder = tmp_path_factory.mktemp("sim") / "clean"
    return small(folder, n_particles=600, n_states=3, snr=float("inf"))


def images_of(data) -> torch.Tensor:
    source = open_particles(data.particles)
    return source.read(torch.arange(len(source.table)))


def scaled_signal(noisy, clean) -> torch.Tensor:
    """Clean images in the scale of the noisy ones, by the scale factors on record."""
    scale = [
        json.loads((data.truth / "simulation.json").read_text())["scale"] for data in (noisy, clean)
    ]
    return images_of(clean) * (scale[0] / scale[1])


def test_signal_to_noise_is_what_was_asked_for(noisy, clean):
    signal = scaled_signal(noisy, clean)
    noise = images_of(noisy) - signal
    ratio = signal.var((-2, -1), correction=0).mean() / noise.var()
    assert float(ratio) == pytest.approx(0.1, rel=0.01)


def test_the_noise_is_white_gaussian_of_variance_one(noisy, clean):
    noise = images_of(noisy) - scaled_signal(noisy, clean)
    n = noise.numel()
    assert float(noise.mean()) == pytest.approx(0, abs=4 / n**0.5)
    assert float(noise.var()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    kurtosis = noise.pow(4).mean() / noise.var() ** 2
    assert float(kurtosis) == pytest.approx(3, abs=4 * (24 / n) ** 0.5)
    for shift in [(0, 1), (1, 0), (1, 1), (0, 5)]:
        covariance = (noise * noise.roll(shift, (-2, -1))).mean()
        assert float(covariance) == pytest.approx(0, abs=4 / n**0.5)
    between_images = (noise[1:] * noise[:-1]).mean()
    assert float(between_images) == pytest.approx(0, abs=4 / n**0.5)


def test_images_are_ctf_times_slices_of_the_true_volumes_at_the_poses_in_the_file(tmp_path):
    """From the files alone: volume, star table, stack; no code of the simulation."""
    # blurred to 5 pixels, so that the volume ends within its box
    data = small(
        tmp_path / "sim", n_particles=6, n_states=3, snr=float("inf"), resolution_angstrom=50.0
    )
    table = open_particles(data.particles).table
    labels = pd.read_csv(data.truth / "labels.csv")
    lattice = FourierLattice(SIDE, SIDE // 2 - 1)
    transfer = evaluate_ctf(lattice.freqs, torch.full((6,), PIXEL), table.ctf)
    centred = lattice.gather(images_of(data)) * shift_phases(lattice.freqs, table.pose.shift)
    for row in range(6):
        volume, voxel = read_volume(data.truth / f"volume_{labels.state[row]:03d}.mrc")
        assert voxel == pytest.approx(PIXEL)
        points = lattice.freqs @ table.pose.rotation[row]
        expected = transfer[row] * direct_transform(volume, points)
        error = (centred[row] - expected).abs().square().sum() / expected.abs().square().sum()
        assert float(error) ** 0.5 < 2e-4


def direct_transform(volume: np.ndarray, points: torch.Tensor) -> torch.Tensor:
    """Sum over voxels of the density times ``exp(-2 pi i k x)``, over D."""
    side = len(volume)
    axis = torch.arange(side).double() - side // 2
    x, y, z = (torch.exp(-2j * torch.pi * points[:, i : i + 1].double() * axis) for i in range(3))
    values = torch.einsum("zyx,pz,py,px->p", torch.from_numpy(volume).to(z.dtype), z, y, x)
    return (values / side).to(torch.complex64)


def test_rows_labels_and_states_agree(noisy):
    labels = pd.read_csv(noisy.truth / "labels.csv")
    states = pd.read_csv(noisy.truth / "volumes.csv")
    assert len(labels) == 600
    assert states.coordinate.tolist() == [-35.0, 0.0, 35.0]
    assert labels.state.value_counts().tolist() == [200, 200, 200]
    np.testing.assert_array_equal(labels.coordinate, states.coordinate[labels.state])
    assert labels.state[:50].nunique() == 3  # shuffled
    mean, _ = read_volume(noisy.truth / "mean.mrc")
    volumes = [read_volume(noisy.truth / name)[0] for name in states.volume]
    np.testing.assert_allclose(mean, np.mean(volumes, axis=0), atol=1e-5)


def test_a_continuous_motion_fills_its_range_and_names_the_nearest_volume(tmp_path):
    data = small(
        tmp_path / "ring", motion="igg_circular_1d", n_particles=400, pixel_size_angstrom=12.0
    )
    labels = pd.read_csv(data.truth / "labels.csv")
    states = pd.read_csv(data.truth / "volumes.csv")
    assert len(states) == 10
    assert labels.coordinate.nunique() == 400
    assert labels.coordinate.between(0, 360).all()
    counts, _ = np.histogram(labels.coordinate, bins=4, range=(0, 360))
    assert counts.min() > 60
    distance = (labels.coordinate - states.coordinate[labels.state].to_numpy() + 180) % 360 - 180
    assert distance.abs().max() <= 18.0
    assert (data.truth / "moving_mask.mrc").is_file()


def test_orientations_are_uniform_and_shifts_stay_in_range(noisy):
    pose = open_particles(noisy.particles).table.pose
    # each entry of a uniform rotation has mean 0 and variance 1/3
    assert float(pose.rotation.mean(0).abs().max()) < 4 * (1 / 3 / 600) ** 0.5
    assert float((pose.rotation.square().mean(0) - 1 / 3).abs().max()) < 0.06
    assert float(pose.shift.abs().max()) <= 3.0
    assert float(pose.shift.abs().max()) > 2.9


def test_the_dark_stack_is_minus_the_light_one(tmp_path):
    light = small(tmp_path / "light", n_particles=5, snr=float("inf"))
    dark = small(tmp_path / "dark", n_particles=5, snr=float("inf"), sign="dark")
    torch.testing.assert_close(images_of(dark), -images_of(light), rtol=0, atol=0)


def test_half_precision_differs_by_its_rounding_only(tmp_path):
    single = small(tmp_path / "single", n_particles=5)
    half = small(tmp_path / "half", n_particles=5, dtype="float16")
    torch.testing.assert_close(images_of(half), images_of(single), rtol=2e-3, atol=1e-3)
    assert (half.folder / "particles.mrcs").stat().st_size == 1024 + 5 * SIDE * SIDE * 2


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        small(tmp_path / name, n_particles=20, seed=seed)
    first, second, third = (
        (tmp_path / name / "particles.star").read_bytes()
        + images_of_folder(tmp_path / name).numpy().tobytes()
        for name in "abc"
    )
    assert first == second
    assert first != third


def images_of_folder(folder) -> torch.Tensor:
    return open_particles(folder / "particles.star").read(torch.arange(20))


def test_without_ctf_the_file_has_none(tmp_path):
    data = small(tmp_path / "plain", n_particles=5, ctf=False)
    assert open_particles(data.particles).table.ctf is None


def test_the_b_factor_is_on_the_images_and_in_the_file(tmp_path):
    sharp = small(tmp_path / "sharp", n_particles=5, snr=float("inf"))
    blurred = small(tmp_path / "blurred", n_particles=5, snr=float("inf"), b_factor_angstrom2=500.0)
    ctf = open_particles(blurred.particles).table.ctf
    assert ctf.b_factor_angstrom2.tolist() == [500.0] * 5
    lattice = FourierLattice(SIDE)
    s = lattice.radii / (SIDE * PIXEL)
    ratio = lattice.gather(images_of(blurred)).abs() / lattice.gather(images_of(sharp)).abs()
    scales = [
        json.loads((d.truth / "simulation.json").read_text())["scale"] for d in (blurred, sharp)
    ]
    inner = lattice.radii < 12
    envelope = (ratio * scales[1] / scales[0]).median(0).values[inner]
    torch.testing.assert_close(envelope, torch.exp(-500 * s[inner] ** 2 / 4), rtol=1e-3, atol=0)


def test_a_map_is_simulated_with_itself_as_the_truth(tmp_path):
    spectrum = volume_to_spectrum(torch.randn(SIDE, SIDE, SIDE, generator=torch.Generator()))
    radius = half_grid(SIDE).norm(dim=-1)
    axis = torch.arange(SIDE) - SIDE // 2
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    density = torch.fft.fftshift(
        torch.fft.irfftn(spectrum * torch.exp(-((radius / 0.1) ** 2)), s=(SIDE,) * 3)
    ) * torch.exp(-((ball / 6) ** 2))
    write_volume(tmp_path / "map.mrc", density.numpy(), PIXEL)
    data = small(tmp_path / "map", motion=str(tmp_path / "map.mrc"), n_particles=3)
    truth, voxel = read_volume(data.truth / "volume_000.mrc")
    assert voxel == pytest.approx(PIXEL)
    assert np.corrcoef(truth.ravel(), density.numpy().ravel())[0, 1] > 0.9999
    assert not (data.truth / "beads.npz").exists()


def test_an_atomic_model_is_simulated_as_its_atoms(tmp_path):
    pytest.importorskip("gemmi")
    path = tmp_path / "model.pdb"
    path.write_text(pdb_of(fill_ellipsoid(60, (30.0, 20.0, 15.0), seed=0).numpy()))
    data = small(tmp_path / "out", motion=str(path), n_particles=3)
    beads = np.load(data.truth / "beads.npz")
    assert beads["weights"].tolist() == [6.0] * 60
    assert np.abs(beads["positions"].mean(0)).max() < 1e-6


def test_a_missing_gemmi_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    (tmp_path / "model.pdb").write_text("END\n")
    with pytest.raises(InputError, match="needs gemmi; install it with"):
        small(tmp_path / "out", motion=str(tmp_path / "model.pdb"))


def pdb_of(positions: np.ndarray) -> str:
    line = "ATOM  {0:5d}  CA  ALA A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00  0.00           C\n"
    return "".join(line.format(i + 1, *xyz) for i, xyz in enumerate(positions)) + "END\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_size": 33}, "box_size is 33; it must be even"),
        ({"n_particles": 0}, "n_particles is 0"),
        ({"snr": 0.0}, "snr is 0.0; it must be positive"),
        ({"pixel_size_angstrom": -1.0}, "pixel_size_angstrom is -1.0"),
        ({"shift_pixels": 20.0}, "shift_pixels is 20.0"),
        ({"defocus_range_micrometres": (2.0, 1.0)}, "the smaller first"),
        ({"sign": "bright"}, "sign is 'bright'; it must be one of light, dark"),
        ({"n_states": 0}, "n_states is 0"),
        ({"motion": "lineer_1d"}, "'lineer_1d' is neither a motion"),
        ({"motion": "missing.mrc"}, "missing.mrc"),
        ({"motion": "missing.pdb"}, "missing.pdb: no such file"),
        ({"pixel_size_angstrom": 3.0}, "linear_1d is 236 A across, but the box only 32 x 3 A"),
    ],
)
def test_bad_values_are_named_and_leave_nothing_behind(tmp_path, options, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        small(tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        small(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "out", progress=interrupt)
    assert not list(tmp_path.iterdir())
