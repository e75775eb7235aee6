"""A small recipe that trains in seconds, and a run of it that all tests share."""

import pytest

from rnode_dyn import Recipe, RunResult, run

TINY = {
    "name": "tiny",
    "seed": 3,
    "data": {"dataset": "digits", "batch_size": 64, "train_size": 256, "validation_size": 50,
             "test_size": 60},
    "model": {"logit_alpha": 0.01, "field": {"kind": "mlp", "hidden": [16]}},
    "solver": {"algorithm": "rk4", "step": 0.5, "sensitivity": "discrete"},
    "divergence": {"noise": "rademacher"},
    "regularizers": {"kinetic_energy": 0.01, "jacobian_frobenius": 0.01},
    "train": {"epochs": 2, "learning_rate": 2e-2},
    "samples": {"count": 4},
}  # fmt: skip


def tiny(**train: object) -> Recipe:
    """The small recipe, trained as asked."""
    return Recipe.model_validate({**TINY, "train": {**TINY["train"], **train}})  # type: ignore[dict-item]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run."""
    return run(tiny(), tmp_path_factory.mktemp("runs") / "tiny")
