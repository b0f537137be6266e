"""Bead models: packed as protein is, and without overlap."""

import pytest
import torch

from cryoem.simulate.beads import fill_ellipsoid, radius_of_gyration


def test_beads_lie_in_the_ellipsoid_and_keep_their_distance():
    axes = (38.0, 22.0, 18.0)
    beads = fill_ellipsoid(455, axes, seed=1)
    assert beads.shape == (455, 3)
    assert float((beads / torch.tensor(axes)).norm(dim=-1).max()) <= 1
    distance = torch.cdist(beads, beads) + 1e9 * torch.eye(455)
    assert float(distance.min()) >= 4.0


def test_a_uniform_ellipsoid_has_its_radius_of_gyration():
    # sqrt((a^2 + b^2 + c^2) / 5); 455 points sample it to about 2 %
    beads = fill_ellipsoid(455, (38.0, 22.0, 18.0), seed=1)
    expected = ((38.0**2 + 22.0**2 + 18.0**2) / 5) ** 0.5
    measured = float(radius_of_gyration(beads, torch.ones(455, dtype=torch.float64)))
    assert measured == pytest.approx(expected, rel=0.03)


def test_the_same_seed_gives_the_same_molecule():
    assert torch.equal(fill_ellipsoid(50, (20.0,) * 3, 3), fill_ellipsoid(50, (20.0,) * 3, 3))
    assert not torch.equal(fill_ellipsoid(50, (20.0,) * 3, 3), fill_ellipsoid(50, (20.0,) * 3, 4))


def test_too_many_beads_for_the_volume_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        fill_ellipsoid(100, (5.0, 5.0, 5.0), seed=0)
