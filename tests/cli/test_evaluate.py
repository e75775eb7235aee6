"""`evaluate`: the figures of a run, and what they were measured by."""

import json

import pytest

from rnode_dyn import RunResult
from tests.cli.calling import call, words_of


def test_evaluate_repeats_the_summary(finished: RunResult) -> None:
    printed = json.loads(call("evaluate", finished.folder, "--seed", 3, "--json").stdout)
    assert printed["bits_per_dim"] == pytest.approx(finished.summary["bits_per_dim"])
    assert (printed["samples"], printed["checkpoint"]) == (60, "best")
    assert [block["rejected"] >= 0 for block in printed["blocks"]] == [True]


def test_evaluate_shows_what_each_block_cost(finished: RunResult) -> None:
    output = call("evaluate", finished.folder, "--split", "validation").stdout
    assert "evaluations" in output
    assert "1×8×8" in output


def test_evaluate_says_how_it_measured(finished: RunResult) -> None:
    output = words_of(call("evaluate", finished.folder, "--limit", 7).stdout)
    for words in (
        "the first 7 of the 60 of the test split",
        "17, uniform dequantization",
        "Hutchinson, rademacher noise, 1 probe",
        "Dopri5, rtol 1e-05, atol 1e-05",
        "no likelihood of the pixels",
        "nats",
        "reconstruction error",
    ):
        assert words in output


def test_evaluate_leaves_the_bins_centres_out(finished: RunResult) -> None:
    both = call("evaluate", finished.folder, "--json")
    one = call("evaluate", finished.folder, "--no-bin-centre", "--json")
    both_figures, figures = json.loads(both.stdout), json.loads(one.stdout)
    assert figures["bits_per_dim_bin_centre"] is None
    assert figures["bits_per_dim"] == both_figures["bits_per_dim"]


def test_training_and_evaluate_measure_alike(finished: RunResult) -> None:
    printed = json.loads(call("evaluate", finished.folder, "--seed", 3, "--json").stdout)
    assert {name: printed[name] for name in finished.summary if name in printed} == {
        name: value for name, value in finished.summary.items() if name in printed
    }
    assert printed["protocol"]["seed"] == finished.summary["protocol"]["seed"] == 3


def test_exact_scores_without_noise_of_the_trace(finished: RunResult) -> None:
    arguments = ("evaluate", finished.folder, "--limit", 5, "--exact", "--json")
    one, two = (json.loads(call(*arguments, "--seed", seed).stdout) for seed in (1, 2))
    assert one["protocol"]["divergences"] == ["exact trace"]
    assert one["samples"] == 5
    centre = "bits_per_dim_bin_centre"
    assert one[centre] == pytest.approx(two[centre], abs=1e-6)
    assert one["bits_per_dim"] != two["bits_per_dim"]


def test_evaluate_measures_as_it_is_told(finished: RunResult) -> None:
    told = ("solver.eval.algorithm=rk4", "solver.eval.step=0.5", "data.test_size=20")
    options = [option for override in told for option in ("--set", override)]
    printed = json.loads(call("evaluate", finished.folder, *options, "--json").stdout)
    assert printed["protocol"]["solvers"] == ["RK4, step 0.5"]
    assert printed["nfe_forward"] == 8
    assert (printed["samples"], printed["protocol"]["split_samples"]) == (20, 20)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=3", "--set train.epochs=3 says nothing about measuring a trained flow"),
        ("solver.step=0.5", "write a key of [data], [solver.eval] or [divergence.eval]"),
        ("solver.eval.rtoll=1e-3", "did you mean solver.eval.rtol?"),
        ("solver.eval", "not an override"),
    ],
)
def test_evaluate_is_not_told_what_it_does_not_measure(
    override: str, says: str, finished: RunResult
) -> None:
    result = call("evaluate", finished.folder, "--set", override)
    assert (result.exit_code, says in words_of(result.stderr)) == (2, True)
