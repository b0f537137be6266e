"""Real stacks with poses, end to end: few images, so it must work, not look good."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from train import main

CRYODRGN, ASPIRE = Path("real/cryodrgn"), Path("real/aspire")
STACKS = {
    "relion31": (CRYODRGN / "relion31.star", {}),
    "relion31, blocks in the other order": (CRYODRGN / "relion31.v2.star", {}),
    "toy": (CRYODRGN / "toy_projections.mrcs", {"poses": "toy_angles.pkl"}),
    "toy, as a list": (CRYODRGN / "toy_projections.txt", {"poses": "toy_angles.pkl"}),
    "toy, as a star file": (
        CRYODRGN / "toy_projections.star",
        {"poses": "toy_angles.pkl", "ctf": "test_ctf.pkl"},
    ),
    "hand": (CRYODRGN / "hand.mrcs", {"poses": "hand_rot.pkl"}),
    "tilt series as single images": (CRYODRGN / "sta_testing_bin8.star", {"ctf": "sta_ctf.pkl"}),
    "relion_project, 64 px": (ASPIRE / "rln_proj_64.star", {}),
    "relion_project, centred": (ASPIRE / "rln_proj_64_centered.star", {}),
    "relion_project, shifted": (ASPIRE / "rln_proj_64_shifted.star", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["homo", "hetero"])
@pytest.mark.parametrize("name", STACKS)
def test_a_real_stack_runs_from_file_to_report(name, model, shared_data, tmp_path):
    file, extra = STACKS[name]
    folder = (shared_data / file).parent
    arguments = [f"data.{key}={folder / value}" for key, value in extra.items()]
    run = tmp_path / "run"
    status = main(
        [
            f"data.particles={shared_data / file}", f"model={model}", f"output_dir={run}",
            "trainer.max_epochs=1", "trainer.accelerator=cpu", *arguments,
        ]
    )  # fmt: skip
    assert status == 0
    volume = run / "volumes" / ("volume.mrc" if model == "homo" else "volume_001.mrc")
    with mrcfile.open(volume) as opened:
        assert np.isfinite(opened.data).all()
        assert opened.data.std() > 0
        assert opened.voxel_size.x > 0
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "particles.star").is_file()
    if model == "hetero":
        assert np.isfinite(np.load(run / "latents.npz")["z"]).all()


@pytest.mark.slow
def test_the_odd_box_of_relion_project_is_refused_by_name(shared_data, tmp_path, capsys):
    status = main(
        [f"data.particles={shared_data / ASPIRE / 'rln_proj_65.star'}", f"output_dir={tmp_path}/r"]
    )
    assert status == 2
    assert "65" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_images_without_poses_are_refused(shared_data, tmp_path, capsys):
    star = shared_data / CRYODRGN / "empiar_10076_7.star"
    status = main([f"data.particles={star}", f"output_dir={tmp_path}/r", "data.sign=dark"])
    assert status == 2
    assert "poses" in capsys.readouterr().err
