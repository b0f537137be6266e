"""Rotations: the convention, by numbers that other programs gave, and every conversion and back."""

import math

import numpy as np
import pytest
import torch

from cryoem import rotations


@pytest.fixture
def many() -> torch.Tensor:
    return rotations.random_rotations(200, torch.Generator().manual_seed(0))


def euler_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's matrix element by element, as its documentation of Euler angles has it."""
    ca, cb, cg = (math.cos(math.radians(angle)) for angle in (rot, tilt, psi))
    sa, sb, sg = (math.sin(math.radians(angle)) for angle in (rot, tilt, psi))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def from_relion(rot: float, tilt: float, psi: float) -> torch.Tensor:
    angles = torch.tensor([rot, tilt, psi], dtype=torch.float64)
    return rotations.from_relion(*angles)


def test_relion_angles_give_the_matrix_that_relion_gives():
    expected = torch.tensor(
        [
            [0.90571941, 0.21306972, 0.36643367],
            [-0.27142096, 0.95553406, 0.11526193],
            [-0.32558103, -0.20385275, 0.92327734],
        ],
        dtype=torch.float64,
    )
    matrix = from_relion(-147.9485, 22.58999, 162.539)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("angles", [(10.0, 20.0, 30.0), (-170.0, 95.0, 260.0), (0.0, 180.0, 45.0)])
def test_relion_matrices_equal_the_formula_element_by_element(angles):
    np.testing.assert_allclose(from_relion(*angles).numpy(), euler_matrix(*angles), atol=1e-15)


def test_in_plane_rotation_turns_the_image_and_leaves_the_viewing_direction():
    still, turned = from_relion(40.0, 60.0, 0.0), from_relion(40.0, 60.0, 90.0)
    torch.testing.assert_close(turned[2], still[2])
    # what was seen along +x of the image is now seen along -y
    torch.testing.assert_close(turned[1], -still[0])


def test_relion_angles_round_trip(many):
    again = rotations.from_relion(*rotations.to_relion(many))
    torch.testing.assert_close(again, many, rtol=0, atol=1e-13)


@pytest.mark.parametrize("tilt", [0.0, 180.0, 1e-6, 1e-3, 180 - 1e-6, 179.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relion_angles_round_trip_at_and_near_the_poles(tilt, dtype):
    rot = torch.tensor([0.0, 33.0, -120.0], dtype=torch.float64)
    psi = torch.tensor([12.0, -77.0, 180.0], dtype=torch.float64)
    matrix = rotations.from_relion(rot, torch.full_like(rot, tilt), psi).to(dtype)
    again = rotations.from_relion(*rotations.to_relion(matrix))
    tolerance = {torch.float32: 5e-6, torch.float64: 1e-13}[dtype]
    torch.testing.assert_close(again, matrix, rtol=0, atol=tolerance)


def test_at_the_poles_rot_is_zero():
    for tilt in (0.0, 180.0):
        rot, _, _ = rotations.to_relion(from_relion(50.0, tilt, 20.0))
        assert float(rot) == 0.0


def test_cryosparc_vectors_are_the_transposed_exponential():
    # a quarter turn about z: exp([r]x) takes x to y, so A takes y to x
    matrix = rotations.from_cryosparc(torch.tensor([0.0, 0.0, math.pi / 2]))
    expected = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-6)


def test_cryosparc_zero_vector_is_the_identity_and_has_a_gradient():
    vector = torch.zeros(3, requires_grad=True)
    matrix = rotations.from_cryosparc(vector)
    torch.testing.assert_close(matrix, torch.eye(3))
    matrix[0, 1].backward()
    assert torch.isfinite(vector.grad).all()


def test_cryosparc_vectors_round_trip_also_for_half_turns(many):
    half_turns = torch.diag_embed(
        torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    )
    for matrices in (many, half_turns):
        vector = rotations.to_cryosparc(matrices)
        assert float(vector.norm(dim=-1).max()) <= math.pi + 1e-12
        again = rotations.from_cryosparc(vector)
        torch.testing.assert_close(again, matrices, rtol=0, atol=1e-7)


def test_quaternions_have_the_scalar_last_and_round_trip(many):
    quarter = torch.tensor([0.0, 0.0, math.sin(math.pi / 4), math.cos(math.pi / 4)])
    x_to_y = rotations.from_quaternion(quarter) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(x_to_y, torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    again = rotations.from_quaternion(rotations.to_quaternion(many))
    torch.testing.assert_close(again, many, rtol=0, atol=1e-13)


def test_six_numbers_are_the_first_two_rows_and_round_trip(many):
    six = rotations.to_six_numbers(many)
    torch.testing.assert_close(six, torch.cat([many[:, 0], many[:, 1]], dim=-1))
    torch.testing.assert_close(rotations.from_six_numbers(six), many, rtol=0, atol=1e-13)


def test_any_six_numbers_give_a_rotation():
    six = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = rotations.from_six_numbers(six)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(50, dtype=torch.float64))
    direction = six[:, :3] / six[:, :3].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(matrix[:, 0], direction)


def test_a_small_rotation_is_the_cross_product_to_first_order():
    vector = torch.tensor([1e-4, -2e-4, 3e-4], dtype=torch.float64)
    point = torch.tensor([0.3, 0.5, -0.7], dtype=torch.float64)
    moved = rotations.small_rotation(vector) @ point - point
    torch.testing.assert_close(moved, torch.linalg.cross(vector, point), rtol=0, atol=1e-7)


def test_random_rotations_are_proper_and_uniform():
    matrices = rotations.random_rotations(4000, torch.Generator().manual_seed(2))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(4000, dtype=torch.float64))
    angle = rotations.angle_between(matrices, torch.eye(3).double().expand_as(matrices))
    # Haar measure: mean pi/2 + 2/pi = 126.48 degrees, standard deviation about 37
    assert float(angle.mean()) == pytest.approx(math.degrees(math.pi / 2 + 2 / math.pi), abs=2.5)
    assert float(matrices[:, 2].mean(0).norm()) < 0.04  # viewing directions


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 1.0, 90.0, 179.99, 180.0])
def test_the_angle_between_rotations_is_the_angle_turned(many, degrees):
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    turned = rotations.small_rotation(axis * math.radians(degrees)) @ many
    angle = rotations.angle_between(turned, many)
    torch.testing.assert_close(angle, torch.full_like(angle, degrees), rtol=1e-6, atol=1e-5)
