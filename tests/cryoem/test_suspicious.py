"""Particles that are not like the others."""

import numpy as np
import pandas as pd

from cryoem.suspicious import suspicious_particles, worst_explained, write_suspicious


def test_large_errors_and_lonely_latents_are_found_and_hardly_anyone_else() -> None:
    rng = np.random.default_rng(0)
    error, z = rng.normal(1.0, 0.02, 5000), rng.normal(size=(5000, 4))
    error[[7, 4000]] = [1.5, 1.2]
    z[123] = 12.0
    found = suspicious_particles(error, z)
    assert found["particle"].tolist()[:1] == [7]
    assert set(found["particle"]) == {7, 4000, 123}
    reason = found.set_index("particle")["reason"]
    assert reason[123] == "far out in the latent space"
    assert reason[7] == "not explained by the model"


def test_a_fifth_of_bad_particles_does_not_hide_itself() -> None:
    error = np.random.default_rng(0).normal(1.0, 0.02, 1000)
    error[:200] += 1
    assert set(suspicious_particles(error)["particle"]) == set(range(200))


def test_who_was_not_seen_is_not_suspected() -> None:
    error = np.random.default_rng(0).normal(1.0, 0.02, 100)
    error[3], error[5] = np.nan, 2.0
    assert suspicious_particles(error)["particle"].tolist() == [5]
    assert worst_explained(error, 1).tolist() == [5]
    assert len(suspicious_particles(np.full(10, np.nan))) == 0


def test_the_table_names_rows_of_the_file(tmp_path) -> None:
    error = np.ones(50)
    error[10:] += np.linspace(0, 0.01, 40)
    error[4] = 9.0
    write_suspicious(tmp_path, suspicious_particles(error), np.arange(100, 150))
    assert pd.read_csv(tmp_path / "suspicious.csv")["particle"].tolist() == [104]
