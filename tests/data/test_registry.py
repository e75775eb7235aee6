"""A data set's module is imported when the set is asked for, and no other's."""

import json
import subprocess
import sys

import pytest

from rnode_dyn.data import DATA_SETS
from rnode_dyn.data.synthetic import DRAWS

MODULES = {
    "celeba", "celebahq", "cifar10", "digits", "fake", "folder", "imagenet64", "mnist", "npy",
    "picture", "svhn", "synthetic",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    telling = f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", telling], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("from rnode_dyn.data import DATA_SETS", set()),
        ("from rnode_dyn import load_data; load_data('moons')", {"synthetic"}),
        ("from rnode_dyn.data import describe_data as d; d('npy', columns=3)", {"npy"}),
        ("from rnode_dyn import load_recipe, build_model; build_model(load_recipe('moons'))",
         {"synthetic"}),
    ],
)  # fmt: skip
def test_only_what_is_asked_for_is_imported(code: str, loaded: set[str]) -> None:
    found = modules_after(code)
    assert {name for name in MODULES if f"rnode_dyn.data.{name}" in found} == loaded


def test_the_list_of_data_sets_needs_no_torch() -> None:
    assert "torch" not in modules_after("import rnode_dyn.data.registry")


def test_every_density_of_the_plane_is_a_data_set() -> None:
    assert set(DRAWS) <= set(DATA_SETS)
