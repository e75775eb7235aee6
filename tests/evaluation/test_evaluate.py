"""An evaluation says what it measured, and how; the exact trace is exact."""

import json
import math

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    ConvField,
    Dopri5,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    evaluate,
)
from rnode_dyn.data import Event
from rnode_dyn.evaluation.errors import TooManyDimensionsError
from rnode_dyn.evaluation.evaluate import first_of
from rnode_dyn.evaluation.exact import batches_for_exact, check_exact

SHAPE = (1, 4, 4)
EVENT = Event(SHAPE, levels=16)
PENALTIES = (KineticEnergy(0.0), JacobianFrobenius(0.0))
COARSE = Solver(RK4(), FixedStep(0.25))
FINE = Solver(Dopri5(), AdaptiveStep(1e-5, 1e-6))


def awake(field: torch.nn.Module) -> torch.nn.Module:
    torch.nn.init.normal_(field.layers[-1].weight, std=0.3)  # type: ignore[union-attr]
    return field


def conv_model(probes: int = 1) -> MultiscaleFlow:
    """Two scales that differ in solver and noise."""
    first = RegularizedFlow(
        awake(ConvField(1, (8,))), COARSE, HutchinsonDivergence(), PENALTIES, eval_solver=FINE
    )
    noise = HutchinsonDivergence("rademacher", probes)
    second = RegularizedFlow(awake(ConvField(2, (8,))), COARSE, noise, PENALTIES)
    scales = [Scale([first], squeeze=True, split=True), Scale([second])]
    return MultiscaleFlow(SHAPE, scales, LogitTransform(0.05)).eval()


def mlp_model() -> MultiscaleFlow:
    flow = RegularizedFlow(awake(MLPField(SHAPE, (12,))), FINE, regularizers=PENALTIES)
    return MultiscaleFlow(SHAPE, [Scale([flow])], LogitTransform(0.05)).eval()


def pixels(count: int) -> Tensor:
    return torch.randint(0, 16, (count, *SHAPE), dtype=torch.uint8)


def test_the_protocol_names_all_that_the_figures_depend_on() -> None:
    batches = [pixels(5), pixels(3)]
    result = evaluate(conv_model(4), batches, EVENT, seed=7, split="test", split_samples=90)
    protocol = result.protocol
    assert (protocol.split, protocol.samples, protocol.split_samples) == ("test", 8, 90)
    assert (protocol.levels, protocol.dequantization) == (16, "uniform")
    assert protocol.solvers == ["Dopri5, rtol 1e-05, atol 1e-06", "RK4, step 0.25"]
    assert protocol.divergences == [
        "Hutchinson, gaussian noise, 1 probe",
        "Hutchinson, rademacher noise, 4 probes",
    ]
    assert (protocol.batch_size, protocol.seed) == (5, 7)


def test_each_block_says_how_it_was_solved_and_what_it_cost() -> None:
    result = evaluate(conv_model(), [pixels(4), pixels(4)], EVENT)
    first, second = result.blocks
    assert (first.scale, first.shape, first.solver) == (0, (1, 4, 4), result.protocol.solvers[0])
    assert (second.scale, second.shape, second.solver) == (1, (2, 2, 2), "RK4, step 0.25")
    assert (second.nfe, second.accepted, second.rejected) == (16, 4, 0)
    assert first.nfe >= 6 * (first.accepted + first.rejected)
    assert result.nfe_forward == first.nfe + second.nfe


def test_costs_are_means_over_the_batches() -> None:
    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(5 * x)

    flow = RegularizedFlow(field, Solver(Dopri5(), AdaptiveStep(1e-6, 1e-6)))
    model, batches = MultiscaleFlow((2,), [Scale([flow])]), [torch.zeros(2, 2), torch.ones(2, 2)]
    resting, moving = (evaluate(model, [batch], Event((2,))).blocks[0] for batch in batches)
    both = evaluate(model, batches, Event((2,))).blocks[0]
    assert resting.accepted < moving.accepted
    for name in ("nfe", "accepted", "rejected"):
        mean = (getattr(resting, name) + getattr(moving, name)) / 2
        # The noise of the divergence, which takes part in the error control, differs a little.
        assert getattr(both, name) == pytest.approx(mean, rel=0.2, abs=1.0)


def test_nats_and_bits_are_the_same_figure() -> None:
    result = evaluate(mlp_model(), [pixels(50)], EVENT)
    per_bit = 16 * math.log(2)
    assert result.log_likelihood_nats == pytest.approx(-result.bits_per_dim * per_bit)
    assert result.log_likelihood_nats_stderr == pytest.approx(
        (result.bits_per_dim_stderr or 0) * per_bit
    )
    assert result.bits_per_dim_bin_centre_stderr is not None
    assert result.bits_per_dim_bin_centre_stderr > 0


def test_pixels_are_scored_in_the_precision_of_the_model() -> None:
    model, data = mlp_model(), [pixels(5)]
    single = evaluate(model, data, EVENT, divergence=ExactDivergence())
    double = evaluate(model.double(), data, EVENT, divergence=ExactDivergence())
    assert double.bits_per_dim_bin_centre == pytest.approx(single.bits_per_dim_bin_centre, rel=1e-4)


def test_nats_of_vectors_are_their_log_density() -> None:
    # The field starts at zero, so that the flow is the standard normal.
    model = MultiscaleFlow((3,), [Scale([RegularizedFlow(MLPField(3, (4,)))])])
    x = torch.randn(40, 3)
    result = evaluate(model, [x], Event((3,)))
    log_prob = torch.distributions.Normal(0, 1).log_prob(x).sum(1).double()
    assert result.log_likelihood_nats == pytest.approx(float(log_prob.mean()), rel=1e-5)
    stderr = float(log_prob.std()) / math.sqrt(40)
    assert result.log_likelihood_nats_stderr == pytest.approx(stderr, rel=1e-4)
    assert (result.protocol.levels, result.protocol.dequantization) == (None, None)
    assert result.bits_per_dim_bin_centre is result.bits_per_dim_bin_centre_stderr is None


def test_a_single_sample_has_no_standard_error() -> None:
    result = evaluate(mlp_model(), [pixels(1)], EVENT)
    assert result.bits_per_dim_stderr is result.log_likelihood_nats_stderr is None


def test_all_of_it_is_json() -> None:
    result = evaluate(conv_model(), [pixels(3)], EVENT, split="test", split_samples=3)
    written = json.loads(json.dumps(result.as_dict()))
    assert written["protocol"] == result.as_dict()["protocol"]
    assert written["blocks"][1]["shape"] == [2, 2, 2]


@pytest.mark.parametrize("make", [conv_model, mlp_model])
def test_the_exact_trace_leaves_the_dequantization_as_the_only_noise(make) -> None:
    model, data = make(), pixels(4)
    exact = [
        evaluate(model, [data], EVENT, seed, divergence=ExactDivergence()) for seed in (1, 1, 2)
    ]
    assert exact[0].bits_per_dim == exact[1].bits_per_dim != exact[2].bits_per_dim
    assert exact[0].bits_per_dim_bin_centre == pytest.approx(
        exact[2].bits_per_dim_bin_centre, abs=1e-6
    )
    assert exact[0].protocol.divergences == ["exact trace"]


@pytest.mark.parametrize("make", [conv_model, mlp_model])
def test_estimates_are_around_the_exact_figure(make) -> None:
    model, data = make(), pixels(2)
    exact = evaluate(model, [data], EVENT, divergence=ExactDivergence()).bits_per_dim_bin_centre
    repeats = [evaluate(model, [data], EVENT, seed).bits_per_dim_bin_centre for seed in range(24)]
    estimates = torch.tensor(repeats, dtype=torch.float64)
    stderr = float(estimates.std()) / math.sqrt(len(estimates))
    assert stderr > 1e-4
    assert float(estimates.mean()) == pytest.approx(exact, abs=4 * stderr)


def test_the_model_keeps_its_own_divergences() -> None:
    model = conv_model()
    before = [block.eval_divergence for block in model.blocks]
    evaluate(model, [pixels(2)], EVENT, divergence=ExactDivergence())
    assert [block.eval_divergence for block in model.blocks] == before


def test_the_exact_trace_of_a_large_block_is_refused_with_its_cost() -> None:
    flow = RegularizedFlow(ConvField(3, (4,)), COARSE)
    model = MultiscaleFlow((3, 32, 32), [Scale([flow])])
    with pytest.raises(TooManyDimensionsError, match=r"3,072.*more than 1,024 are refused.*probes"):
        evaluate(model, [], Event((3, 32, 32), 256), divergence=ExactDivergence())
    check_exact(MultiscaleFlow((4, 16, 16), [Scale([flow])]))


def test_batches_are_cut_so_that_jacobians_fit() -> None:
    flow = RegularizedFlow(MLPField(1024, (4,)))
    wide = MultiscaleFlow((1024,), [Scale([flow])])
    assert [len(b) for b in batches_for_exact(wide, [torch.zeros(3, 1024)])] == [1, 1, 1]
    data = [pixels(7)]
    assert [len(b) for b in batches_for_exact(mlp_model(), data)] == [7]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])]
)
def test_the_first_samples_are_always_the_same(count: int, sizes: list[int]) -> None:
    data = torch.arange(9.0)
    taken = list(first_of(data.split(4), count))
    assert [len(batch) for batch in taken] == sizes
    assert torch.equal(torch.cat(taken), data[:count])
