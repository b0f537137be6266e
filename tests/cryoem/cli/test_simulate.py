"""``cryoem simulate`` as a user calls it."""

import json

import mrcfile

from cryoem.cli.main import main


def test_a_data_set_is_made_from_the_command_line(tmp_path, capsys):
    output = tmp_path / "igg"
    words = "simulate igg_circular_1d --n 12 --box-size 24 --pixel-size 12 --snr 0.5 --states 4"
    assert main([*words.split(), "-o", str(output)]) == 0
    assert str(output / "particles.star") in capsys.readouterr().out
    with mrcfile.open(output / "particles.mrcs") as stack:
        assert stack.data.shape == (12, 24, 24)
        assert stack.is_image_stack()
        assert float(stack.voxel_size.x) == 12.0
    parameters = json.loads((output / "truth" / "simulation.json").read_text())
    assert parameters["snr"] == 0.5
    assert parameters["n_states"] == 4
    assert len(list((output / "truth").glob("volume_*.mrc"))) == 4


def test_no_noise_can_be_asked_for(tmp_path):
    words = "simulate linear_1d --n 2 --box-size 24 --pixel-size 12 --snr inf --no-ctf"
    assert main([*words.split(), "-o", str(tmp_path / "out")]) == 0
    parameters = json.loads((tmp_path / "out" / "truth" / "simulation.json").read_text())
    assert parameters["snr"] == "inf"
    assert parameters["noise_sigma"] == 0.0


def test_a_bad_value_is_one_line_and_exit_status_two(tmp_path, capsys):
    words = ["simulate", "linear_1d", "-o", str(tmp_path / "out"), "--box-size", "25"]
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert "box_size is 25; it must be even and at least 8" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
