"""Runs made of the truth itself, in its own frame or in another."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryoem.batch import Pose
from cryoem.checkpoint import LoadedRun
from cryoem.cli.main import main
from cryoem.geometry import ImageGeometry
from cryoem.io.table import read_table
from cryoem.io.volume import read_volume, write_volume
from cryoem.lattice import FourierLattice
from cryoem.metrics import evaluation
from cryoem.metrics.alignment import DensityDecoder
from cryoem.rotations import random_rotations, small_rotation
from cryoem.simulate.dataset import simulate

SIDE, VOXEL, N = 32, 8.0, 200
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
FRAME = random_rotations(1, torch.Generator().manual_seed(3))[0]
ORIGIN = torch.tensor([0.8, -1.1, 0.4], dtype=torch.float64)
KNOWN = {"poses": {"_target_": "cryoem.poses.KnownPoses"}}
SEARCHED = {"poses": {"_target_": "cryoem.poses.SearchedPoses"}}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm that turns on a circle, in five states."""
    folder = tmp_path_factory.mktemp("data") / "igg"
    simulate(
        folder, motion="igg_circular_1d", n_particles=N, n_states=5, box_size=SIDE,
        pixel_size_angstrom=VOXEL, snr=1.0, shift_pixels=2.0, ctf=False, seed=1,
    )  # fmt: skip
    return folder


class Truth:
    """The true volume of the state that the angle of the latent points to, perhaps elsewhere."""

    def __init__(
        self,
        truth: Path,
        latent_dim: int,
        turn: torch.Tensor,
        origin: torch.Tensor,
        drift_degrees: float,
    ):
        names = sorted(truth.glob("volume_*.mrc"))
        self.states = [DensityDecoder(torch.from_numpy(read_volume(name)[0])) for name in names]
        self.mean = DensityDecoder(torch.from_numpy(read_volume(truth / "mean.mrc")[0]))
        self.latent_dim = latent_dim
        self.turn, self.origin, self.drift = turn, origin, drift_degrees

    def __call__(self, freqs, z=None):
        # V_B(p) = V_A(p J^h Q) exp(-2 pi i p u), see cryoem.metrics.alignment
        angle = (-2 * math.pi) * (freqs @ self.origin.float())
        phase = torch.polar(torch.ones_like(angle), angle)
        points = freqs @ self.turn.float()
        if z is None:
            return self.mean(points) * phase
        step = 2 * math.pi / len(self.states)
        states = [round(float(torch.atan2(row[1], row[0])) / step) % len(self.states) for row in z]
        turned = [points[:1] @ spin(s * self.drift).float() for s in states]
        return torch.cat([self.states[s](p) for s, p in zip(states, turned, strict=True)]) * phase


def spin(degrees: float) -> torch.Tensor:
    """A turn about z."""
    return small_rotation(torch.tensor([0.0, 0.0, math.radians(degrees)]).double())


class Runs:
    """Makes run folders whose decoder and poses are the truth, turned if wished."""

    def __init__(self, simulated: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.simulated, self.folder, self.monkeypatch = simulated, folder, monkeypatch

    def make(
        self,
        *,
        latent_dim: int = 2,
        config: dict = KNOWN,
        moved: bool = False,
        flipped: bool = False,
        noise_degrees: float = 0.0,
        drift_degrees: float = 0.0,
        rows: np.ndarray | None = None,
    ) -> Path:
        rows = np.arange(N) if rows is None else rows
        table = read_table(self.simulated / "particles.star").select(rows)
        assert table.pose is not None
        axis = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(4)).double()
        axis = torch.nn.functional.normalize(axis) * math.radians(noise_degrees)
        rotation, shift = small_rotation(axis) @ table.pose.rotation.double(), table.pose.shift
        turn, origin = torch.eye(3).double(), torch.zeros(3).double()
        if moved:
            origin, turn = ORIGIN, (MIRROR if flipped else turn) @ FRAME
            rotation = rotation @ FRAME.T
            rotation = MIRROR @ rotation @ MIRROR if flipped else rotation
            shift = shift + (rotation @ origin)[:, :2]
        self.folder.mkdir()
        labels = pd.read_csv(self.simulated / "truth" / "labels.csv").iloc[rows]
        spins = torch.stack([spin(state * drift_degrees) for state in labels["state"]])
        rotation = rotation @ spins.mT
        z = None
        if latent_dim:
            angle = np.deg2rad(labels["coordinate"].to_numpy())
            z = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
            np.savez(self.folder / "latents.npz", z=z, z_std=z, index=rows)
            z = torch.from_numpy(z)
        loaded = LoadedRun(
            kind="hetero" if latent_dim else "homo",
            decoders=[Truth(self.simulated / "truth", latent_dim, turn, origin, drift_degrees)],
            encoder=None,
            latent_dim=latent_dim,
            lattice=FourierLattice(SIDE),
            geometry=ImageGeometry(len(rows), SIDE, VOXEL),
            data_scale=1.0,
            pose=Pose(rotation, shift),
            config=config,
            epoch=0,
            step=0,
            latent_mean=z,
            latent_std=z,
        )
        self.monkeypatch.setattr(evaluation, "load_run", lambda path, device: loaded)
        return self.folder


@pytest.fixture
def runs(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(simulated, tmp_path / "run", monkeypatch)


def evaluate(run: Path, truth: Path, *options: object) -> dict:
    numbers = run.parent / "numbers.json"
    words = ["evaluate", run, "--truth", truth, "--json", numbers, *options]
    assert main([str(word) for word in words]) == 0
    return json.loads(numbers.read_text())


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", *(str(word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") <= 2
    return captured.err


def auc(result: dict, name: str, mask: str) -> float:
    return result["volumes"]["summary"][name][mask]["auc_norm"]["mean"]


def test_the_truth_scores_as_the_truth(
    runs: Runs, simulated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(runs.make(), simulated / "truth")
    assert result["alignment"] == {"kind": "none", "poses_were_given": True}
    assert result["poses"]["rotation_mean_degrees"] < 1e-4
    assert len(result["volumes"]["each"]) == 5
    assert sum(row["n_particles"] for row in result["volumes"]["each"]) == N
    for name in ("nearest latent", "mean latent"):
        for mask in ("none", "soft", "moving"):
            assert auc(result, name, mask) > 0.999
    assert auc(result, "own mean", "moving") < 0.9  # one volume for all cannot have the arm
    assert result["volumes"]["summary"]["mean latent"]["none"]["auc_cryobench"][
        "mean"
    ] == pytest.approx(15 / 32, abs=1e-3)
    assert result["truth"]["period"] == 360
    assert result["latents"]["knn_r2"] > 0.99
    assert result["latents"]["circular_correlation_pc12"] > 0.95
    assert "not aligned" in capsys.readouterr().out


def test_one_volume_for_all_falls_short_above_all_where_it_moves(
    runs: Runs, simulated: Path
) -> None:
    result = evaluate(runs.make(), simulated)
    assert auc(result, "consensus", "moving") < auc(result, "consensus", "none") - 0.05
    assert auc(result, "consensus", "none") < 0.97


@pytest.mark.parametrize("flipped", [False, True])
def test_a_run_in_a_frame_of_its_own_is_judged_in_that_of_the_truth(
    runs: Runs, simulated: Path, flipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.make(config=SEARCHED, moved=True, flipped=flipped)
    result = evaluate(run, simulated)
    alignment = result["alignment"]
    assert alignment["kind"] == "global"
    assert alignment["flipped"] is flipped
    assert not alignment["hand_ambiguous"]
    np.testing.assert_allclose(alignment["rotation"], FRAME, atol=1e-4)
    np.testing.assert_allclose(alignment["origin_pixels"], ORIGIN, atol=1e-4)
    poses = result["poses"]
    assert poses["rotation_p90_degrees"] < 1e-3
    assert poses["shift_rms_pixels"] < 1e-3
    # three unknown shifts of which two are seen
    seen = float(ORIGIN.norm()) * math.sqrt(2 / 3)
    assert poses["shift_rms_pixels_before_alignment"] == pytest.approx(seen, rel=0.1)
    assert poses["rotation_median_degrees_aligned_per_class"] < 1e-3
    assert auc(result, "mean latent", "soft") > 0.999
    assert ("hand mirrored" if flipped else "hand as the truth") in capsys.readouterr().out


def test_a_frame_that_turns_with_the_motion_is_found_class_by_class(
    runs: Runs, simulated: Path
) -> None:
    run = runs.make(config=SEARCHED, drift_degrees=4.0)
    together = evaluate(run, simulated)
    assert together["poses"]["rotation_median_degrees"] > 2
    assert together["poses"]["rotation_median_degrees_aligned_per_class"] < 1e-3
    apart = evaluate(run, simulated, "--align", "classes")
    assert apart["poses"]["rotation_p90_degrees"] < 1e-3
    assert auc(apart, "mean latent", "soft") > 0.999 > auc(together, "mean latent", "soft") + 0.02


def test_without_alignment_another_frame_is_another_volume(runs: Runs, simulated: Path) -> None:
    run = runs.make(config=SEARCHED, moved=True)
    result = evaluate(run, simulated, "--align", "none")
    assert result["poses"]["rotation_median_degrees"] > 20
    assert auc(result, "mean latent", "soft") < 0.6


def test_five_degrees_of_error_in_the_poses_are_reported(runs: Runs, simulated: Path) -> None:
    run = runs.make(config=SEARCHED, moved=True, flipped=True, noise_degrees=5)
    poses = evaluate(run, simulated)["poses"]
    assert poses["rotation_median_degrees"] == pytest.approx(5, abs=0.5)
    assert poses["rotation_share_below_10_degrees"] == 1
    assert poses["shift_median_angstrom"] == pytest.approx(8 * poses["shift_median_pixels"])


def test_a_run_on_some_of_the_particles_is_matched_by_row(runs: Runs, simulated: Path) -> None:
    rows = np.arange(N)[::-2][:80].copy()
    result = evaluate(runs.make(rows=rows), simulated)
    assert result["poses"]["rotation_mean_degrees"] < 1e-4
    assert result["run"]["n_particles"] == 80
    assert auc(result, "mean latent", "none") > 0.999


def test_a_homogeneous_run_is_matched_by_its_images_and_compared_with_the_mean(
    runs: Runs, simulated: Path
) -> None:
    rows = np.arange(40, 120)
    run = runs.make(latent_dim=0, rows=rows, config=SEARCHED, moved=True)
    lines = (simulated / "particles.star").read_text().splitlines(keepends=True)
    images = [number for number, line in enumerate(lines) if "@" in line]
    dropped = set(images) - set(images[40:120])
    kept = [line for number, line in enumerate(lines) if number not in dropped]
    (run / "particles.star").write_text("".join(kept))
    shutil.copy(simulated / "particles.mrcs", run)
    result = evaluate(run, simulated)
    assert result["poses"]["rotation_mean_degrees"] < 1e-3
    assert auc(result, "volume", "soft") > 0.999
    assert "latents" not in result


def test_other_layouts_are_understood(runs: Runs, simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    (folder / "truth").mkdir(parents=True)
    labels = pd.read_csv(simulated / "truth" / "labels.csv")
    labels = labels.rename(columns={"state": "conformation", "coordinate": "angle_deg"})
    labels["weight"] = 1.0
    labels.sample(frac=1, random_state=0).to_csv(folder / "labels.csv", index=False)
    shutil.copy(simulated / "particles.star", folder)
    for volume in (simulated / "truth").glob("volume_*.mrc"):
        shutil.copy(volume, folder / "truth" / volume.name.replace("volume_0", "conf_"))
    run = runs.make()
    result = evaluate(run, folder, "--column", "angle_deg", "--mask", "none")
    assert result["truth"]["column"] == "angle_deg"
    assert "spearman_pc1" in result["latents"]
    assert set(result["volumes"]["summary"]["consensus"]) == {"none"}
    assert auc(result, "mean latent", "none") > 0.999
    circle = evaluate(run, folder / "truth", "--period", "360", "--mask", "sphere")
    assert circle["latents"]["circular_correlation_pc12"] > 0.95
    # the mean true volume is the mean over the particles, as the simulation wrote it
    written = evaluate(run, simulated, "--mask", "none")
    assert auc(circle, "consensus", "none") == pytest.approx(auc(written, "consensus", "none"))


def test_one_true_volume_is_enough(runs: Runs, simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "single"
    folder.mkdir()
    shutil.copy(simulated / "truth" / "mean.mrc", folder / "truth.mrc")
    result = evaluate(runs.make(latent_dim=0), folder)
    assert "poses" not in result
    assert auc(result, "volume", "none") > 0.999


def test_a_finer_true_volume_is_cropped(runs: Runs, simulated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fine"
    folder.mkdir()
    coarse, _ = read_volume(simulated / "truth" / "mean.mrc")
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(coarse)))
    fine = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(np.pad(spectrum, SIDE // 2)))).real
    write_volume(folder / "truth.mrc", fine, VOXEL / 2)
    result = evaluate(runs.make(latent_dim=0), folder)
    assert auc(result, "volume", "none") > 0.995


def test_what_does_not_fit_is_refused_in_one_line(
    runs: Runs, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.make(config=SEARCHED)
    truth = ["--truth", simulated]
    assert "no such folder" in refused(capsys, run, "--truth", tmp_path / "nowhere")
    assert "no true volumes" in refused(capsys, run, "--truth", run)
    assert "no column 'angle'" in refused(capsys, run, *truth, "--column", "angle")
    assert "no such file" in refused(capsys, run, *truth, "--labels", tmp_path / "none.csv")
    assert "--period -1" in refused(capsys, run, *truth, "--period", "-1")
    assert "point group" in refused(capsys, run, *truth, "--symmetry", "Q2")
    (tmp_path / "labels.csv").write_text("state\n7\n")
    text = refused(capsys, run, *truth, "--labels", tmp_path / "labels.csv")
    assert "row 0 (from 0) is of state 7" in text
    pd.DataFrame({"state": [0] * 10}).to_csv(tmp_path / "labels.csv")
    text = refused(capsys, run, *truth, "--labels", tmp_path / "labels.csv")
    assert "10 particles, but the run used row 199" in text
    single = tmp_path / "single"
    single.mkdir()
    shutil.copy(simulated / "truth" / "mean.mrc", single / "truth.mrc")
    assert "--align none" in refused(capsys, run, "--truth", single)
    write_volume(single / "truth.mrc", np.zeros((SIDE, SIDE, SIDE), np.float32), 2 * VOXEL)
    text = refused(capsys, run, "--truth", single, "--align", "none")
    assert "512 A wide but the run's box 256 A" in text
    write_volume(single / "truth.mrc", np.zeros((16, 16, 16), np.float32), 2 * VOXEL)
    assert "even side from 32" in refused(capsys, run, "--truth", single, "--align", "none")
    (single / "truth.mrc").write_bytes(b"no map")
    assert "truth.mrc" in refused(capsys, run, "--truth", single)


def test_a_run_that_has_not_ended_has_no_latents_yet(
    runs: Runs, simulated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.make()
    loaded = evaluation.load_run(run, torch.device("cpu"))
    unfinished = LoadedRun(**{**vars(loaded), "latent_mean": None})
    runs.monkeypatch.setattr(evaluation, "load_run", lambda path, device: unfinished)
    assert "no latents.npz" in refused(capsys, run, "--truth", simulated)
