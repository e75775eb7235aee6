"""Rows of a batch that others share: their noise is what one process would have drawn for them."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import ExactDivergence, HutchinsonDivergence, MLPField, RegularizedFlow
from rnode_dyn.flows.share import Share, drawn, sharing

WHOLE, SEED = 5, 11
ROWS = [range(2), range(2, 5)]


def parts(make: object, like: Tensor, times: int) -> list[list[Tensor]]:
    """What each part draws, several times in a row."""
    found = []
    for rows in ROWS:
        with sharing(Share(rows.start, len(rows), WHOLE, SEED)):
            found.append([drawn(make, like[rows.start : rows.stop]) for _ in range(times)])  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("probes", [1, 2, 3, 5])
@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_parts_draw_the_rows_of_the_whole(probes: int, noise: str) -> None:
    """Also with as many probes as rows, in the part or in the whole."""
    divergence, x = HutchinsonDivergence(noise, probes), torch.zeros(WHOLE, 3)  # type: ignore[arg-type]
    first, second = parts(divergence.draw, x, times=2)
    torch.manual_seed(SEED)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(torch.cat([one, other], dim=1), divergence.draw(x))


def test_a_flow_of_parts_is_the_flow_of_the_whole() -> None:
    flow, x = RegularizedFlow(MLPField(3, (8,))), torch.randn(WHOLE, 3)
    torch.nn.init.normal_(flow.field.layers[-1].weight)  # type: ignore[union-attr]
    torch.manual_seed(SEED)
    whole = flow(x).log_det
    for rows in ROWS:
        with sharing(Share(rows.start, len(rows), WHOLE, SEED)):
            part = flow(x[rows.start : rows.stop]).log_det
        # Adaptive steps are chosen for the rows that are solved together.
        torch.testing.assert_close(part, whole[rows.start : rows.stop], atol=1e-3, rtol=1e-3)


def test_what_is_drawn_beside_is_each_parts_own() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with sharing(Share(0, 2, WHOLE, SEED)):
        drawn(torch.randn_like, torch.zeros(2, 3))
        assert torch.equal(torch.rand(2), expected)


def test_the_whole_and_other_rows_draw_as_ever() -> None:
    for share, count in [(Share(0, WHOLE, WHOLE, SEED), WHOLE), (Share(0, 2, WHOLE, SEED), 4)]:
        torch.manual_seed(3)
        expected = torch.randn(count, 3)
        torch.manual_seed(3)
        with sharing(share):
            assert torch.equal(drawn(torch.randn_like, torch.zeros(count, 3)), expected)


def test_nothing_is_drawn_where_nothing_is_random() -> None:
    with sharing(Share(0, 2, WHOLE, SEED)):
        assert drawn(ExactDivergence().draw, torch.zeros(2, 3)) is None


def test_noise_without_an_axis_of_samples_is_refused() -> None:
    with (
        sharing(Share(0, 2, WHOLE, SEED)),
        pytest.raises(ValueError, match=r"noise of shape \(3, 3\) was drawn for 5 samples"),
    ):
        drawn(lambda like: torch.randn(3, 3), torch.zeros(2, 3))
