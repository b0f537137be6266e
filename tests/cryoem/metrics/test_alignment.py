import math

import pytest
import torch

from cryoem.batch import Pose
from cryoem.decoders.base import LinearDecoder
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.phantom import GaussianPhantom, random_phantom
from cryoem.grids import symmetry_group
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.metrics.alignment import (
    Alignment,
    align_decoder,
    align_poses,
    aligned_volumes,
)
from cryoem.metrics.fsc import fsc
from cryoem.metrics.mask import soft_mask
from cryoem.metrics.pose_error import pose_errors
from cryoem.rotations import angle_between, random_rotations, small_rotation
from cryoem.volume import evaluate_volumes

SIDE = 32
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
CPU = torch.device("cpu")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(truth: Pose, rotation: torch.Tensor, origin: torch.Tensor, flipped: bool) -> Pose:
    """The poses of the same images with respect to a volume that is turned, moved, mirrored."""
    found = truth.rotation @ rotation.T
    if flipped:
        found = MIRROR @ found @ MIRROR
    return Pose(found, truth.shift + (found @ origin)[:, :2])


@pytest.fixture
def truth() -> Pose:
    rotation = random_rotations(400, generator(0))
    return Pose(rotation, torch.randn(400, 2, generator=generator(1)).double())


FRAME = random_rotations(1, generator(2))[0]
ORIGIN = torch.tensor([1.5, -0.7, 2.2], dtype=torch.float64)


@pytest.mark.parametrize("flipped", [False, True])
def test_frame_hand_and_origin_are_recovered_exactly(truth: Pose, flipped: bool) -> None:
    found = moved(truth, FRAME, ORIGIN, flipped)
    alignment = align_poses(found, truth)
    assert alignment.flipped == flipped
    assert not alignment.hand_ambiguous
    assert float(angle_between(alignment.rotation, FRAME)) < 1e-6
    assert torch.allclose(alignment.origin, ORIGIN)
    errors = pose_errors(alignment.in_frame_of_truth(found), truth)
    assert float(errors.angle_degrees.max()) < 1e-5
    assert float(errors.shift_pixels.max()) < 1e-9


@pytest.mark.parametrize("flipped", [False, True])
def test_noise_of_five_degrees_is_reported_as_such(truth: Pose, flipped: bool) -> None:
    axis = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator(3)).double())
    noisy = Pose(small_rotation(axis * math.radians(5)) @ truth.rotation, truth.shift)
    found = moved(noisy, FRAME, ORIGIN, flipped)
    alignment = align_poses(found, truth)
    errors = pose_errors(alignment.in_frame_of_truth(found), truth)
    assert float(errors.angle_degrees.median()) == pytest.approx(5, abs=0.3)
    assert alignment.hand_medians_degrees[flipped] == pytest.approx(5, abs=0.3)
    # 400 turns of 5 degrees average to about 5 / sqrt(400) * 0.8
    assert float(angle_between(alignment.rotation, FRAME)) < 0.6


def test_wrong_poses_in_the_crowd_do_not_move_the_frame(truth: Pose) -> None:
    found = moved(truth, FRAME, ORIGIN, False)
    wrong = random_rotations(120, generator(4))
    rotation = torch.cat([found.rotation[:280], wrong])
    shift = torch.cat([found.shift[:280], 5 * torch.randn(120, 2, generator=generator(5)).double()])
    alignment = align_poses(Pose(rotation, shift), truth)
    # a handful of random poses lie within the ten degrees of the inliers by chance
    assert float(angle_between(alignment.rotation, FRAME)) < 0.2
    assert torch.allclose(alignment.origin, ORIGIN, atol=0.1)


def test_random_poses_leave_the_hand_open(truth: Pose) -> None:
    found = Pose(random_rotations(400, generator(6)), truth.shift)
    alignment = align_poses(found, truth)
    assert alignment.hand_ambiguous
    assert min(alignment.hand_medians_degrees) > 90


def test_poses_scattered_over_symmetric_copies_are_aligned(truth: Pose) -> None:
    group = symmetry_group("D3")
    pick = torch.randint(6, (400,), generator=generator(7))
    found = moved(Pose(truth.rotation @ group[pick], truth.shift), FRAME, 0 * ORIGIN, True)
    alignment = align_poses(found, truth, group)
    errors = pose_errors(alignment.in_frame_of_truth(found), truth, group)
    assert alignment.flipped
    assert float(errors.angle_degrees.max()) < 1e-5
    assert float(align_poses(found, truth).hand_medians_degrees[1]) > 20


def test_a_single_view_leaves_the_depth_of_the_origin_alone(truth: Pose) -> None:
    same = Pose(truth.rotation[:1].expand(20, 3, 3), truth.shift[:20])
    found = Pose(same.rotation, same.shift + torch.tensor([1.0, -2.0]))
    alignment = align_poses(found, same)
    errors = pose_errors(alignment.in_frame_of_truth(found), same)
    assert float(errors.shift_pixels.max()) < 1e-6
    assert float(alignment.origin.norm()) == pytest.approx(math.sqrt(5))


def phantoms(flipped: bool) -> tuple[GaussianPhantom, GaussianPhantom]:
    """The truth, and the same molecule turned by Q, moved by the origin, mirrored."""
    truth = random_phantom(20, 8.0, 1.2, SIDE, generator(8))
    # the same image: A x - t_A = B y - t_B with A = B Q and t_B = t_A + B u, so y = Q x + u
    centres = truth.centres.double() @ FRAME.T
    if flipped:
        centres = centres @ MIRROR
    found = GaussianPhantom((centres + ORIGIN).float(), truth.weights, truth.sigma, SIDE)
    return truth, found


@pytest.mark.parametrize("flipped", [False, True])
def test_moved_poses_see_the_moved_molecule_as_the_true_ones_see_the_truth(
    truth: Pose, flipped: bool
) -> None:
    """The images fix the signs: nothing here uses the code under test but the test's own frame."""
    original, copy = phantoms(flipped)
    found = moved(truth, FRAME, ORIGIN, flipped)
    freqs = FourierLattice(SIDE, 8).freqs

    def images(phantom: GaussianPhantom, pose: Pose) -> torch.Tensor:
        slices = phantom(freqs @ pose.rotation[:8].float())
        return slices * shift_phases(freqs, pose.shift[:8].float()).conj()

    assert torch.allclose(images(copy, found), images(original, truth), atol=1e-4)


@pytest.mark.parametrize("flipped", [False, True])
def test_an_aligned_decoder_is_the_true_volume(flipped: bool) -> None:
    original, copy = phantoms(flipped)
    decoder = align_decoder(copy, Alignment(FRAME, flipped, ORIGIN, (0.0, 0.0)))
    volume = evaluate_volumes(decoder, SIDE, None, CPU)[0]
    expected = evaluate_volumes(original, SIDE, None, CPU)[0]
    assert torch.allclose(volume, expected, atol=1e-5 * float(expected.max()))


def test_poses_alone_put_a_decoder_into_the_frame_of_the_truth(truth: Pose) -> None:
    original, copy = phantoms(True)
    alignment = align_poses(moved(truth, FRAME, ORIGIN, True), truth)
    volume = evaluate_volumes(align_decoder(copy, alignment), SIDE, None, CPU)[0]
    expected = evaluate_volumes(original, SIDE, None, CPU)[0]
    assert torch.allclose(volume, expected, atol=1e-4 * float(expected.max()))


def test_an_aligned_linear_decoder_stays_linear() -> None:
    grid = FourierGrid(16, latent_dim=2)
    decoder = align_decoder(grid, Alignment(FRAME, True, ORIGIN, (0.0, 0.0)))
    assert isinstance(decoder, LinearDecoder)
    assert decoder.latent_dim == 2
    freqs = FourierLattice(16).freqs[None].expand(3, -1, -1)
    z = torch.randn(3, 2, generator=generator(9))
    basis = decoder.basis(freqs)
    combined = basis[..., 0] + (basis[..., 1:] * z[:, None]).sum(-1)
    assert torch.allclose(combined, decoder(freqs, z), atol=1e-5)


def test_a_grid_decoder_is_aligned_as_well_as_it_is_known_on_its_grid() -> None:
    original, copy = phantoms(True)
    grid = FourierGrid(SIDE)
    density = evaluate_volumes(copy, SIDE, None, CPU)[0]
    fill(grid, density)
    alignment = Alignment(FRAME, True, ORIGIN, (0.0, 0.0))
    (volume,) = aligned_volumes([grid], SIDE, None, alignment, data_scale=2.0, device=CPU)
    expected = evaluate_volumes(original, SIDE, None, CPU)[0]
    curve = fsc(2 * torch.from_numpy(volume), expected, soft_mask(expected))
    assert curve.correlation.min() > 0.998


def fill(grid: FourierGrid, density: torch.Tensor) -> None:
    """Set the values on the grid, in place of training."""
    side, reach = grid.box_size, grid.reach
    z, yx = torch.arange(reach + 1), torch.arange(-reach, reach + 1)
    cells = torch.stack(torch.meshgrid(z, yx, yx, indexing="ij"), dim=-1).flatten(0, -2)
    cells = cells[cells.float().norm(dim=-1) < side // 2 + 3**0.5]
    spectrum = torch.fft.fftn(torch.fft.ifftshift(density / grid.real_space_window(side))) / side
    z, y, x = (cells % side).unbind(-1)
    grid.table.data[:] = torch.view_as_real(spectrum[z, y, x]) / grid.gain


def test_a_decoder_without_a_grid_is_aligned_by_its_frequencies_alone() -> None:
    original, copy = phantoms(False)
    alignment = Alignment(FRAME, False, ORIGIN, (0.0, 0.0))
    (volume,) = aligned_volumes([copy, copy], SIDE, None, alignment, data_scale=1.0, device=CPU)
    expected = evaluate_volumes(original, SIDE, None, CPU)[0]
    assert torch.allclose(torch.from_numpy(volume), expected, atol=1e-5 * float(expected.max()))
