"""Eight problems in five packages: lines of code, evaluations, errors, times.

    python benchmarks/equals/run.py [--only NAME] [--json equals.json] [--page docs/equals.md]

It needs an environment that has this package, torchdiffeq, torchode, diffrax and scipy. Each
package solves the problems in a process of its own, on one thread. A page gets the tables between
two marks.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import networks
import numpy as np
from problems import PROBLEMS, reference
from tables import markdown

PACKAGES = {
    "here": "rnode-dyn",
    "torchdiffeq_": "torchdiffeq",
    "torchode_": "torchode",
    "diffrax_": "diffrax",
    "scipy_": "scipy",
}
ALONE = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
START, END = "<!-- tables -->", "<!-- end of tables -->"


def write_known(names: list[str], path: Path) -> None:
    """Write down what the answers should be."""
    known = {}
    for name in names:
        state, gradient = networks.reference() if name == "neural" else reference(name)
        known[name] = np.asarray(state)
        if gradient is not None:
            known[f"{name}.gradient"] = np.asarray(gradient)
    np.savez(path, **known)


def measured(package: str, names: list[str], known: Path) -> dict[str, dict]:
    """Return one package's figures by problem."""
    command = [sys.executable, Path(__file__).with_name("measure.py"), package, known, *names]
    process = subprocess.Popen(command, env=os.environ | ALONE, stdout=subprocess.PIPE, text=True)
    found = {}
    for line in process.stdout or ():
        if line.startswith("FOUND "):
            name, figures = json.loads(line.removeprefix("FOUND "))
            print(package, name, figures, flush=True)
            found[name] = figures
    process.wait()
    return found


def measure_all(names: list[str], known: Path) -> dict[str, dict[str, dict]]:
    """Return the figures by problem and package."""
    by_package = {shown: measured(package, names, known) for package, shown in PACKAGES.items()}
    died = {"failure": "the process ended"}
    return {n: {shown: found.get(n, died) for shown, found in by_package.items()} for n in names}


def versions() -> dict[str, str]:
    """Of all that takes part."""
    return {name: version(name) for name in (*PACKAGES.values(), "torch", "jax")}


def put_into(page: Path, tables: str) -> None:
    """Put the tables between the page's marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(START)
    page.write_text(f"{before}{START}\n{tables}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    """Measure, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PROBLEMS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(PROBLEMS)
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.npz"
        write_known(names, known)
        found = {"versions": versions(), "problems": measure_all(names, known)}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tables = markdown(found)
    if arguments.page:
        put_into(arguments.page, tables)
    print(tables)


if __name__ == "__main__":
    main()
