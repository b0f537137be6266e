import torch

from cryoem.analysis.gallery import gallery_images
from cryoem.batch import CTFParams, ParticleBatch, Pose
from cryoem.decoders.phantom import random_phantom
from cryoem.forward_model import ForwardModel
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.rotations import random_rotations

SIDE, PIXEL, N = 32, 3.0, 4


def constant_ctf(defocus: float) -> CTFParams:
    values = (defocus, defocus, 0.0, 300.0, 2.7, 0.1, 0.0, 0.0, 1.0)
    return CTFParams(*(torch.full((N,), value) for value in values))


def test_the_prediction_of_the_truth_is_the_centred_image_and_light():
    generator = torch.Generator().manual_seed(0)
    model = ForwardModel(random_phantom(9, 6.0, 2.0, SIDE, generator), FourierLattice(SIDE), PIXEL)
    pose = Pose(random_rotations(N, generator).float(), 4 * torch.rand(N, 2, generator=generator))
    pixel_size = torch.full((N,), PIXEL)
    blank = torch.zeros(N, model.lattice.n_freqs, dtype=torch.complex64)
    batch = ParticleBatch(torch.arange(N), blank, pixel_size, constant_ctf(15_000.0))
    clean = model.slices(pose.rotation, pixel_size) * model.transfer(batch)
    moved = clean * shift_phases(model.lattice.freqs, -pose.shift)
    batch = ParticleBatch(batch.index, moved, pixel_size, batch.ctf)
    centred, predicted = gallery_images(model, batch, pose)
    torch.testing.assert_close(centred, predicted, atol=1e-5, rtol=1e-4)
    # with the phases flipped, the molecule is light: its projection correlates with the image
    projection = model.lattice.scatter(model.slices(pose.rotation, pixel_size))
    assert ((predicted * projection).sum((1, 2)) > 0).all()
