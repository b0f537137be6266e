"""The geometry of the built-in motions, from the figures given for their design."""

import pytest
import torch

from cryoem.simulate.beads import radius_of_gyration
from cryoem.simulate.motions import MOTIONS, Motion, igg_circular_1d, spread


@pytest.fixture(scope="module", params=sorted(MOTIONS))
def motion(request) -> Motion:
    return MOTIONS[request.param]()


# clearance, radius of gyration, largest radius in angstrom; mass in dalton
GEOMETRY = {
    "igg_circular_1d": (8.5, (51.2, 54.9), 96.0, 150e3),
    "linear_1d": (10.0, (57.3, 59.9), 118.0, 250e3),
    "circular_1d": (4.0, (57.2, 59.7), 118.5, 250e3),
}


def test_domains_never_collide_and_the_size_is_as_designed(motion):
    clearance, (low, high), radius, mass = GEOMETRY[motion.name]
    conformations = motion.conformation(spread(motion, 72))
    domain = motion.beads.domain
    for positions in conformations:
        moving = domain == motion.moving_domain
        assert float(torch.cdist(positions[moving], positions[~moving]).min()) >= clearance
    gyration = radius_of_gyration(conformations, motion.beads.weights)
    assert low - 0.1 <= float(gyration.min())
    assert float(gyration.max()) <= high + 0.1
    assert float(conformations.norm(dim=-1).max()) == pytest.approx(radius, abs=1.0)
    assert float(motion.beads.weights.sum()) == pytest.approx(mass, rel=0.01)


def test_only_the_moving_domain_moves_and_as_a_rigid_body(motion):
    conformations = motion.conformation(spread(motion, 5))
    moving = motion.beads.domain == motion.moving_domain
    static = conformations[:, ~moving]
    torch.testing.assert_close(static, static[:1].expand_as(static), rtol=0, atol=0)
    gram = conformations[:, moving] - conformations[:, moving].mean(1, keepdim=True)
    gram = gram @ gram.mT  # all distances and angles
    torch.testing.assert_close(gram, gram[:1].expand_as(gram), rtol=0, atol=1e-8)
    assert float((conformations[0, moving] - conformations[1, moving]).norm(dim=-1).max()) > 5


def test_the_centroid_averaged_over_the_motion_is_the_origin(motion):
    centroid = motion.conformation(spread(motion, 720)).mean((0, 1))
    assert float(centroid.norm()) < 0.05


def test_the_igg_arm_sweeps_a_ring_and_neighbouring_states_are_close():
    motion = igg_circular_1d()
    moving = motion.beads.domain == motion.moving_domain
    start, end = motion.conformation(torch.tensor([0.0, 360.0]))
    torch.testing.assert_close(start, end, rtol=0, atol=1e-9)
    first, second = motion.conformation(torch.tensor([0.0, 3.6]))[:, moving]
    assert float((first - second).square().sum(-1).mean().sqrt()) == pytest.approx(2.3, abs=0.1)
    sweep = motion.conformation(spread(motion, 36))[:, moving]
    travel = (sweep[:, None] - sweep[None]).norm(dim=-1).max()
    assert float(travel) == pytest.approx(124, abs=4)


def test_look_alike_domains_differ():
    motion = igg_circular_1d()
    domains = [motion.beads.positions[motion.beads.domain == k] for k in range(3)]
    spectra = [torch.cdist(body, body).flatten().sort().values for body in domains]
    assert float((spectra[1] - spectra[2]).abs().max()) > 0.1
