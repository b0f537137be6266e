from pathlib import Path

import numpy as np
import pytest

from cryoem.analysis.latents import read_latent_file, read_run_latents
from cryoem.errors import InputError

Z = np.arange(6, dtype=np.float64).reshape(2, 3)


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"z{suffix}"
    match suffix:
        case ".npy":
            np.save(path, Z)
        case ".npz":
            np.savez(path, z=Z, other=np.ones(4))
        case ".txt":
            np.savetxt(path, Z)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".txt"])
def test_every_kind_of_file_gives_the_same_latents(tmp_path, suffix):
    z = read_latent_file(written(tmp_path, suffix), 3)
    np.testing.assert_array_equal(z, Z.astype(np.float32))
    assert z.dtype == np.float32


def test_a_flat_file_is_one_row_or_one_column(tmp_path):
    np.save(tmp_path / "z.npy", np.arange(4.0))
    assert read_latent_file(tmp_path / "z.npy", 4).shape == (1, 4)
    assert read_latent_file(tmp_path / "z.npy", 1).shape == (4, 1)


def test_a_wrong_number_of_columns_names_the_right_one(tmp_path):
    with pytest.raises(InputError, match=r"shape \(2, 3\); the run needs 8 columns"):
        read_latent_file(written(tmp_path, ".npy"), 8)


def test_a_file_with_a_pickle_in_it_is_not_read(tmp_path):
    np.save(tmp_path / "z.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"z\.npy: cannot be read"):
        read_latent_file(tmp_path / "z.npy", 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("z.txt", "1 2 three\n", "cannot be read"),
        ("z.txt", "1 2 nan\n", "row 0 .* not finite"),
        ("z.npz", "not a zip", "cannot be read"),
        ("z.csv", "1,2,3\n", "are read from .npy, .npz or .txt"),
    ],
)
def test_bad_files_are_explained(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_latent_file(tmp_path / name, 3)


def test_particles_are_found_by_their_row_in_the_input_file(tmp_path):
    np.savez(tmp_path / "latents.npz", z=Z, z_std=Z, index=np.array([4, 9]))
    latents = read_run_latents(tmp_path)
    np.testing.assert_array_equal(latents.rows_of([9, 4, 9]), [1, 0, 1])
    with pytest.raises(InputError, match="particle 5 is not in the run"):
        latents.rows_of([4, 5])


def test_a_run_without_latents_is_explained(tmp_path):
    with pytest.raises(InputError, match="written when a heterogeneous run ends"):
        read_run_latents(tmp_path)
