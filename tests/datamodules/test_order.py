"""Who reads what when: every particle once per epoch, repeatably, on any number of ranks."""

import pytest
import torch

from datamodules.order import FileOrder, RankBatches, ShuffledOrder, shuffled


def _epoch(n: int, batch_size: int, world: int, epoch: int = 0) -> list[list[list[int]]]:
    """Batches of every rank: ``[rank][step]``."""
    ranks = []
    for rank in range(world):
        order = ShuffledOrder(torch.arange(n) % 2, seed=3)
        order.set_epoch(epoch)
        ranks.append(list(RankBatches(order, batch_size, rank, world)))
    return ranks


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    half = torch.arange(50) % 2
    torch.manual_seed(1)
    first = shuffled(half, seed=0, epoch=4)
    torch.manual_seed(2)
    assert torch.equal(first, shuffled(half, seed=0, epoch=4))
    assert not torch.equal(first, shuffled(half, seed=0, epoch=5))
    assert not torch.equal(first, shuffled(half, seed=1, epoch=4))


def test_one_rank_reads_every_particle_once_and_keeps_the_small_last_batch() -> None:
    (batches,) = _epoch(n=50, batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert sorted(row for batch in batches for row in batch) == list(range(50))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_each_global_batch_without_overlap(world: int) -> None:
    (together,) = _epoch(n=50, batch_size=8, world=1, epoch=2)
    apart = _epoch(n=50, batch_size=8, world=world, epoch=2)
    assert len({len(batches) for batches in apart}) == 1
    for step in range(len(apart[0])):
        joined = [row for rank in range(world) for row in apart[rank][step]]
        assert joined == together[step]


def test_half_sets_are_spread_evenly_along_the_order() -> None:
    half = (torch.arange(300) % 3 == 0).long()  # a third in one half, two thirds in the other
    order = shuffled(half, seed=0, epoch=0)
    for part in order.split(30):
        assert 9 <= int(half[part].sum()) <= 11


@pytest.mark.parametrize("world", [1, 3])
def test_in_the_order_of_the_file_no_particle_is_left_out(world: int) -> None:
    rows = []
    for rank in range(world):
        batches = RankBatches(FileOrder(19), 6, rank, world)
        listed = list(batches)
        assert len(listed) == len(batches)
        assert all(batch for batch in listed)
        rows += [row for batch in listed for row in batch]
    assert sorted(rows) == list(range(19))
