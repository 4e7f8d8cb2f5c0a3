"""A projection that matrices share: by hand, against numpy, and exact where the rank is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.tensor import projection
from engine.types import SlimscopeError


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_states_summed_up_in_one_by_hand() -> None:
    """W_h sees (3, 4) / 5 alone. Of W_x = (1, 0) the summary tells 3/5, and Z_x P is 3/5 (3/5, 4/5)."""
    recurrent = torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0], [-3.0, -4.0]])
    joint = projection.joint(recurrent, [torch.tensor([[1.0, 0.0]])], False)
    p = joint.projection(1)
    assert torch.allclose(p.abs(), torch.tensor([[0.6, 0.8]]))
    z_h, z_x = (projection.thin(matrix, p) * p[0, 0].sign() for matrix in joint.matrices)
    assert z_h.flatten().tolist() == pytest.approx([5, 10, 0, -5], rel=1e-6)
    assert z_x.item() == pytest.approx(0.6, rel=1e-6)
    assert [projection.kept(matrix, p) for matrix in joint.matrices] == pytest.approx([1, 0.36], rel=1e-6)
    # 10 weights; a rank costs 2 of P, 4 of Z_h and 1 of Z_x.
    assert (joint.weights, joint.weights_per_rank) == (10, 7)


@pytest.mark.parametrize("seed", [1, 2])
def test_thin_matrices_are_the_least_squares_of_numpy(seed: int) -> None:
    """Also where the rows of P are neither of length 1 nor at right angles."""
    w, p = random(20, 9, seed=seed), random(4, 9, seed=seed + 10)
    expected = np.linalg.lstsq(p.T.numpy(), w.T.numpy(), rcond=None)[0].T
    assert np.allclose(projection.thin(w, p).numpy(), expected, rtol=0, atol=1e-12)


def test_of_all_projections_each_loses_least_of_what_it_is_cut_from() -> None:
    recurrent, reader = random(32, 8), 3 * random(5, 8, seed=1)

    def lost(stacked: bool) -> tuple[float, float]:
        p = projection.joint(recurrent, [reader], stacked).projection(3)
        own, other = (float(w.square().sum()) * (1 - projection.kept(w, p)) for w in (recurrent, reader))
        return own, own + other

    (own, both), (own_stacked, both_stacked) = lost(False), lost(True)
    assert own < own_stacked
    assert both_stacked < both
    values = torch.linalg.svdvals(torch.cat([recurrent, reader]))
    assert both_stacked == pytest.approx(float(values[3:].square().sum()), rel=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_at_exact_rank_an_lstm_with_a_projection_gives_the_same(dtype: torch.dtype, bound: float) -> None:
    """Two layers and a head whose matrices see three directions of ten states alone."""
    states, rank = 10, 3
    wide = nn.LSTM(6, states, 2, batch_first=True, dtype=torch.float64)
    thin = nn.LSTM(6, states, 2, batch_first=True, proj_size=rank, dtype=torch.float64)
    head = random(4, rank, seed=7) @ random(rank, states, seed=4)
    state = {name: random(*p.shape, seed=i) / 3 for i, (name, p) in enumerate(wide.named_parameters())}
    new, heads = dict(state), head
    for level, reader in ((0, "weight_ih_l1"), (1, "")):
        directions = random(rank, states, seed=3 + level)
        own, behind = f"weight_hh_l{level}", head if level else state["weight_ih_l1"]
        state[own] = state[own] @ directions.T @ directions / states
        behind = behind[:, :rank] @ directions / 3
        joint = projection.joint(state[own], [behind], False)
        p = joint.parts.right[:rank]
        new |= {own: projection.thin(state[own], p), f"weight_hr_l{level}": p}
        if reader:
            state[reader], new[reader] = behind, projection.thin(behind, p)
        else:
            head, heads = behind, projection.thin(behind, p)
    wide.load_state_dict(state)
    thin.load_state_dict(new)
    x = random(5, 12, 6, seed=9).to(dtype)
    with torch.no_grad():
        one = wide.to(dtype)(x)[0] @ head.to(dtype).T
        other = thin.to(dtype)(x)[0] @ heads.to(dtype).T
    assert float(one.abs().max()) > 0.1
    assert float((one - other).abs().max()) < bound


def test_ranks_for_an_energy_and_for_a_share() -> None:
    """Squares 16, 9, 4, 1: two keep 25 of 30. All 20 weights; a rank costs 4 + 4 + 1."""
    joint = projection.joint(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])), [torch.ones(1, 4)], False)
    assert [projection.rank_for_energy([joint], x) for x in (0.5, 0.83, 0.84, 0.999)] == [1, 2, 3, 3]
    assert [projection.rank_for_share([joint], x) for x in (0.1, 0.89, 0.9, 1.0)] == [1, 1, 2, 2]
    flat = projection.joint(torch.eye(4), [], False)
    assert projection.rank_for_energy([joint, flat], 0.75) == 3
    for rank in (0, 4):
        with pytest.raises(SlimscopeError, match=f"rank is {rank}: allowed is 1 to 3 for 4 states"):
            joint.projection(rank)


@pytest.mark.parametrize("stacked", [False, True])
def test_what_is_kept_at_all_ranks_is_what_each_projection_keeps(stacked: bool) -> None:
    rng = torch.Generator().manual_seed(3)
    joint = projection.joint(
        torch.randn(12, 4, generator=rng), [torch.randn(5, 4, generator=rng), torch.zeros(2, 4)], stacked
    )
    for rank in (1, 2, 3):
        told = [projection.kept(matrix, joint.projection(rank)) for matrix in joint.matrices[:2]]
        assert joint.kept[:2, rank - 1].tolist() == pytest.approx(told, abs=1e-6)
    assert joint.kept[:2, 3].tolist() == pytest.approx([1.0, 1.0])
