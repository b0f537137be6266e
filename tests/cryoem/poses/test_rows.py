"""Per-particle tables: only the rows of a batch move, and they move as Adam says."""

import torch

from cryoem.poses.rows import RotationRows, VectorRows
from cryoem.rotations import angle_between, random_rotations


def _step(table: torch.nn.Module, index: torch.Tensor, target: torch.Tensor, scale: float = 1.0):
    (scale * (table(index) - target).square().sum()).backward()
    table.apply_gradients(torch.tensor(scale))


def test_a_row_follows_the_same_path_as_torch_adam() -> None:
    start, target = torch.randn(5, 3), torch.randn(1, 3)
    table = VectorRows(start, lr=0.1)
    row = start[2:3].clone().requires_grad_()
    adam = torch.optim.Adam([row], lr=0.1)
    for _ in range(20):
        _step(table, torch.tensor([2]), target)
        adam.zero_grad()
        (row - target).square().sum().backward()
        adam.step()
    torch.testing.assert_close(table.rows[2:3], row.detach(), rtol=1e-5, atol=1e-6)


def test_rows_outside_the_batch_stay_bitwise_the_same_even_with_momentum() -> None:
    start = torch.randn(6, 2)
    table = VectorRows(start, lr=0.1)
    _step(table, torch.tensor([0, 1]), torch.zeros(2, 2))
    before = {k: v.clone() for k, v in table.get_extra_state().items()}
    _step(table, torch.tensor([3, 5]), torch.zeros(2, 2))
    after = table.get_extra_state()
    for name, value in before.items():
        others = [0, 1, 2, 4]
        assert torch.equal(value[others], after[name][others]), name
    assert not torch.equal(before["rows"][[3, 5]], after["rows"][[3, 5]])


def test_the_loss_scale_of_half_precision_cancels_and_overflow_moves_nothing() -> None:
    start, target = torch.randn(4, 3), torch.randn(4, 3)
    plain, scaled = VectorRows(start, lr=0.1), VectorRows(start, lr=0.1)
    index = torch.arange(4)
    for _ in range(3):
        _step(plain, index, target)
        _step(scaled, index, target, scale=1024.0)
    torch.testing.assert_close(plain.rows, scaled.rows)
    before = {k: v.clone() for k, v in scaled.get_extra_state().items()}
    target[1] = torch.inf
    _step(scaled, index, target)
    for name, value in scaled.get_extra_state().items():
        assert name == "version" or torch.equal(value[1], before[name][1]), name
        assert value.isfinite().all()


def test_rotation_rows_reach_their_target_and_stay_rotations() -> None:
    generator = torch.Generator().manual_seed(0)
    target = random_rotations(8, generator).float()
    start = random_rotations(8, generator).float()
    table = RotationRows(start, lr=0.05)
    for _ in range(300):
        _step(table, torch.arange(8), target)
    assert angle_between(table.rows, target).max() < 1.0
    identity = table.rows @ table.rows.mT
    torch.testing.assert_close(identity, torch.eye(3).expand(8, 3, 3), atol=1e-6, rtol=0)


def test_evaluation_attaches_no_gradient() -> None:
    table = VectorRows(torch.randn(3, 2), lr=0.1).eval()
    assert not table(torch.tensor([1])).requires_grad
    table.train()
    with torch.no_grad():
        assert not table(torch.tensor([1])).requires_grad


def test_merging_ranks_takes_each_row_from_the_rank_that_stepped_it() -> None:
    start = torch.zeros(4, 2)
    ranks = [VectorRows(start, lr=0.1) for _ in range(2)]
    _step(ranks[0], torch.tensor([0, 2]), torch.ones(2, 2))
    _step(ranks[1], torch.tensor([1]), -torch.ones(1, 2))
    states = [rank.get_extra_state() for rank in ranks]

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        name = next(k for k, v in states[0].items() if v is tensor)
        return torch.stack([state[name] for state in states])

    ranks[0].merge(gather)
    torch.testing.assert_close(ranks[0].rows[:, 0], torch.tensor([0.1, -0.1, 0.1, 0.0]))
    torch.testing.assert_close(ranks[0].adam.state["steps"], torch.tensor([1.0, 1, 1, 0]))


def test_a_written_row_starts_anew_and_wins_over_an_older_one() -> None:
    rank_0, rank_1 = (VectorRows(torch.zeros(3, 2), 0.1) for _ in range(2))
    rank_0(torch.tensor([0, 1])).sum().backward()
    rank_0.apply_gradients()
    rank_1.write(torch.tensor([2]), torch.tensor([[7.0, 8.0]]))
    rank_0.write(torch.tensor([0]), torch.tensor([[5.0, 6.0]]))
    assert rank_0.adam.state["steps"].tolist() == [0, 1, 0]

    def gather(own: torch.Tensor) -> torch.Tensor:
        state = rank_1.get_extra_state()
        names = [name for name, value in rank_0.get_extra_state().items() if value is own]
        return torch.stack([own, state[names[0]]])

    stepped = rank_0.rows[1].clone()
    rank_0.merge(gather)
    expected = torch.stack([torch.tensor([5.0, 6.0]), stepped, torch.tensor([7.0, 8.0])])
    assert torch.equal(rank_0.rows, expected)
