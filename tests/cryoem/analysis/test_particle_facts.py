from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cryoem.analysis.particle_facts import describe, find_problems
from cryoem.batch import CTFParams, Pose
from cryoem.io.table import ParticleTable
from cryoem.rotations import random_rotations

N = 40


def good_table() -> ParticleTable:
    ones = torch.ones(N)
    ctf = CTFParams(
        defocus_u_angstrom=15_000 + 100.0 * torch.arange(N),
        defocus_v_angstrom=15_000 * ones,
        defocus_angle_degrees=30 * ones,
        voltage_kilovolts=300 * ones,
        spherical_aberration_mm=2.7 * ones,
        amplitude_contrast=0.1 * ones,
        phase_shift_degrees=0 * ones,
        b_factor_angstrom2=0 * ones,
        scale=ones,
    )
    rotation = random_rotations(N, torch.Generator().manual_seed(0)).float()
    return ParticleTable(
        path=Path("x.star"),
        stacks=(Path("x.mrcs"),),
        stack=np.zeros(N, dtype=np.int64),
        frame=np.arange(N),
        row=np.arange(100, 100 + N),
        n_rows=500,
        box_size=64,
        pixel_size_angstrom=np.full(N, 2.5),
        ctf=ctf,
        pose=Pose(rotation, torch.ones(N, 2)),
        half=np.arange(N) % 2,
        micrograph=np.array(["a", "b"] * (N // 2), dtype=object),
        origin={"rotation": "x.star:_rlnAngleRot"},
    )


def with_ctf(name: str, row: int, value: float) -> ParticleTable:
    table = good_table()
    changed = getattr(table.ctf, name).clone()
    changed[row] = value
    return replace(table, ctf=replace(table.ctf, **{name: changed}))


def test_a_good_table_has_no_problems():
    assert find_problems(good_table()) == []


def test_the_numbers_are_those_of_the_table():
    facts = describe(good_table())
    assert facts["n_particles"] == N
    assert facts["rows_in_file"] == 500
    assert facts["micrographs"] == 2
    assert facts["half_sets"] == [20, 20]
    assert facts["ctf"]["defocus_u_angstrom"] == [15_000, 15_000 + 100 * (N - 1)]
    assert facts["largest_shift_pixels"] == 1


def test_defocus_in_micrometres_or_not_a_number_is_named_with_its_row_in_the_file():
    (problem,) = find_problems(with_ctf("defocus_v_angstrom", 3, float("nan")))
    assert problem == "defocus_v_angstrom is not finite: 1 of 40 rows, the first is row 103"
    (problem,) = find_problems(with_ctf("voltage_kilovolts", 5, 300_000))
    assert problem.startswith("voltage_kilovolts is outside 60 to 1250: 1 of 40 rows")


def test_a_matrix_that_does_not_rotate_is_found():
    table = good_table()
    rotation = table.pose.rotation.clone()
    rotation[2] *= 1.1
    rotation[3, 0, 0] = float("nan")
    (problem,) = find_problems(replace(table, pose=replace(table.pose, rotation=rotation)))
    assert problem == "the rotation is no rotation matrix: 2 of 40 rows, the first is row 102"


def test_shifts_out_of_the_box_and_equal_rotations_are_found():
    table = good_table()
    pose = Pose(table.pose.rotation[:1].expand(N, 3, 3), 20 * torch.ones(N, 2))
    problems = find_problems(replace(table, pose=pose))
    assert any("quarter of the box" in problem for problem in problems)
    assert any("same rotation" in problem for problem in problems)


def test_an_image_that_is_used_twice_is_found_once():
    table = good_table()
    frame = table.frame.copy()
    frame[7] = 2
    (problem,) = find_problems(replace(table, frame=frame))
    assert problem.endswith("earlier row: 1 of 40 rows, the first is row 107")


def test_missing_poses_and_ctf_are_said():
    problems = find_problems(replace(good_table(), pose=None, ctf=None))
    assert [problem.split(":")[0] for problem in problems] == ["no CTF", "no poses"]
    assert describe(replace(good_table(), pose=None, ctf=None))["ctf"] is None


def test_odd_boxes_mixed_pixel_sizes_and_uneven_halves_are_found():
    table = replace(
        good_table(),
        box_size=65,
        pixel_size_angstrom=np.linspace(2, 3, N),
        half=np.zeros(N, dtype=np.int64),
    )
    problems = " ".join(find_problems(table))
    assert "pixel sizes differ" in problems
    assert "65 pixels is odd" in problems
    assert "half-sets differ" in problems
