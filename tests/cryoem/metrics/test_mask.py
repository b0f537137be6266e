import math

import pytest
import torch

from cryoem.metrics.mask import LOOSE, TIGHT, Outline, ball_mask, outline_mask, soft_mask


def one_voxel(side: int = 33) -> torch.Tensor:
    volume = torch.zeros(side, side, side)
    volume[side // 2, side // 2, side // 2] = 1
    return volume


def test_the_ball_is_a_ball_not_a_cylinder() -> None:
    mask = ball_mask(64, inner=0.7, outer=0.8)
    for order in ((1, 2, 0), (2, 0, 1), (0, 2, 1)):
        torch.testing.assert_close(mask.permute(order), mask)
    assert float(mask.sum()) == pytest.approx(4 / 3 * math.pi * (0.75 * 32) ** 3, rel=0.01)
    assert mask[32, 32, 32] == 1
    assert mask[0, 32, 32] == mask[32, 0, 32] == mask[32, 32, 0] == 0


def test_an_outline_reaches_so_many_angstrom_and_falls_off_as_a_cosine() -> None:
    mask = outline_mask(one_voxel(), 2.0, Outline(dilate_angstrom=8.0, edge_angstrom=12.0))
    row = mask[16, 16, 16:]
    assert (row[:5] == 1).all()  # up to 8 A
    assert float(row[7]) == pytest.approx(math.cos(math.pi / 2 * 0.5), abs=1e-6)  # 14 A
    assert (row[10:].abs() < 1e-6).all()  # from 20 A


def test_loose_contains_tight() -> None:
    loose, tight = (outline_mask(one_voxel(), 3.0, outline) for outline in (LOOSE, TIGHT))
    assert (loose >= tight).all()
    assert loose.sum() > tight.sum()


def test_a_soft_mask_keeps_the_density_it_follows() -> None:
    volume = torch.zeros(32, 32, 32)
    volume[10:22, 10:22, 12:20] = 1
    mask = soft_mask(volume)
    assert (mask[volume > 0] == 1).all()
    assert mask[0, 0, 0] == 0
    assert ((mask > 0.01) & (mask < 0.99)).any()
