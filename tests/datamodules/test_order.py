"""Who reads what when: every particle once per epoch, repeatably, on any number of ranks."""

import pytest
import torch

from datamodules.order import FileOrder, RankBatches, ShuffledOrder, shuffled


def _order(n: int, block: int = 4, window: int = 16, epoch: int = 0, **given) -> ShuffledOrder:
    half = given.get("half", torch.arange(n) % 2)
    on_disk = given.get("on_disk", torch.arange(n))
    order = ShuffledOrder(half, on_disk, seed=3, block_size=block, window_size=window)
    order.set_epoch(epoch)
    return order


def _ranks(order: ShuffledOrder | FileOrder, batch_size: int, world: int) -> list[list[list[int]]]:
    """Rows of every batch of every rank: ``[rank][step]``."""
    return [_rows(RankBatches(order, batch_size, rank, world)) for rank in range(world)]


def _rows(batches: RankBatches, skip: int = 0) -> list[list[int]]:
    return [rows.tolist() for window in batches.windows(skip) for rows in window]


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    half = torch.arange(50) % 2
    torch.manual_seed(1)
    first = shuffled(half, seed=0, epoch=4)
    torch.manual_seed(2)
    assert torch.equal(first, shuffled(half, seed=0, epoch=4))
    assert not torch.equal(first, shuffled(half, seed=0, epoch=5))
    assert not torch.equal(first, shuffled(half, seed=1, epoch=4))
    assert not torch.equal(first, shuffled(half, seed=0, epoch=4, part=1))


def test_a_window_holds_blocks_of_neighbours_on_disk_in_an_order_of_its_own() -> None:
    on_disk = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    place = torch.argsort(on_disk)
    windows = list(_order(64, on_disk=on_disk).windows(0))
    assert [len(rows) for rows in windows] == [16] * 4
    for rows in windows:
        blocks = place[rows].sort().values.reshape(4, 4)
        assert (blocks.diff() == 1).all()
        assert (blocks[:, 0] % 4 == 0).all()
        assert not torch.equal(place[rows], place[rows].sort().values)
    first = [int(place[rows].min()) for rows in windows]
    assert first != sorted(first)


def test_what_fits_into_one_window_is_shuffled_completely() -> None:
    (rows,) = _order(50, window=64, epoch=2).windows(0)
    assert torch.equal(rows, shuffled(torch.arange(50) % 2, seed=3, epoch=2))


@pytest.mark.parametrize("window", [16, 64])
def test_one_rank_reads_every_particle_once_and_keeps_the_small_last_batch(window: int) -> None:
    (batches,) = _ranks(_order(50, window=window), batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert sorted(row for batch in batches for row in batch) == list(range(50))


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("n", [50, 48, 35])
def test_ranks_share_each_global_batch_without_overlap(world: int, n: int) -> None:
    (together,) = _ranks(_order(n, epoch=2), 8, 1)
    apart = _ranks(_order(n, epoch=2), 8, world)
    assert {len(batches) for batches in apart} == {len(RankBatches(_order(n), 8, 0, world))}
    for step in range(len(apart[0])):
        joined = [row for rank in range(world) for row in apart[rank][step]]
        assert joined == together[step]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("skip", range(8))
def test_an_epoch_goes_on_behind_any_step_as_if_it_had_not_stopped(world: int, skip: int) -> None:
    for rank in range(world):
        batches = RankBatches(_order(50), 8, rank, world)
        assert _rows(batches, skip) == _rows(batches)[skip:]


def test_going_on_needs_only_the_window_of_that_step() -> None:
    (rest, *_) = RankBatches(_order(64), 8).windows(skip=3)
    assert len(rest) == 1  # of the two batches of window 1, the second


def test_half_sets_are_spread_evenly_along_the_order() -> None:
    half = (torch.arange(300) % 3 == 0).long()  # a third in one half, two thirds in the other
    order = shuffled(half, seed=0, epoch=0)
    for part in order.split(30):
        assert 9 <= int(half[part].sum()) <= 11


def test_batches_hold_both_halves_though_they_lie_apart_on_disk() -> None:
    half = (torch.arange(640) >= 320).long()
    order = _order(640, block=8, window=64, half=half)
    for window in RankBatches(order, 16).windows():
        for rows in window:
            assert 4 <= int(half[rows].sum()) <= 12


@pytest.mark.parametrize("world", [1, 3])
def test_in_the_order_of_the_file_no_particle_is_left_out(world: int) -> None:
    batches = _ranks(FileOrder(19, window_size=12), 6, world)
    assert all(rows for rank in batches for rows in rank)
    assert sorted(row for rank in batches for rows in rank for row in rows) == list(range(19))
    if world == 1:
        assert [row for rows in batches[0] for row in rows] == list(range(19))
