"""An evaluation as people read it: figures by name, how they were measured, and each block."""

from rich.console import Group
from rich.table import Table

from rnode_dyn.evaluation.evaluate import Evaluation
from rnode_dyn.evaluation.protocol import BlockCost, Protocol

_NAMES = {None: "", "uniform": ", uniform dequantized", "variational": ", variational bound"}
"""What bits per dimension and likelihoods are, by how pixels were dequantized."""


def evaluation_text(evaluation: Evaluation) -> Group:
    """Return an evaluation as tables."""
    return Group(
        _rows(_figures(evaluation)), "", _rows(_measured(evaluation)), "", _blocks(evaluation)
    )


def _figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    e, known = evaluation, _NAMES[evaluation.protocol.dequantization]
    rows = [(f"bits per dim{known}", _with_error(e.bits_per_dim, e.bits_per_dim_stderr))]
    if e.bits_per_dim_bin_centre is not None:
        centre = _with_error(e.bits_per_dim_bin_centre, e.bits_per_dim_bin_centre_stderr)
        rows.append(("bits per dim, bin centre", f"{centre}  (no likelihood of the pixels)"))
    nats = _with_error(e.log_likelihood_nats, e.log_likelihood_nats_stderr)
    rows.append(("log-likelihood of a sample", f"{nats} nats{known}"))
    if e.log_likelihood_nats_standardised is not None:
        nats = _with_error(e.log_likelihood_nats_standardised, e.log_likelihood_nats_stderr)
        rows.append(("the same, in standardised units", f"{nats} nats"))
    if e.kinetic_energy is not None:
        rows.append(("kinetic energy", f"{e.kinetic_energy:.4g}"))
    if e.jacobian_frobenius is not None:
        rows.append(("jacobian frobenius", f"{e.jacobian_frobenius:.4g}"))
    rows.append(("evaluations of a forward pass", f"{e.nfe_forward:.5g}"))
    rows.append(("reconstruction error", f"{e.reconstruction_error:.2g}, largest of a batch"))
    return rows


def _measured(evaluation: Evaluation) -> list[tuple[str, str]]:
    protocol = evaluation.protocol
    rows = [("samples", _samples(protocol))]
    if protocol.levels is not None:
        rows.append(("levels", f"{protocol.levels}, {protocol.dequantization} dequantization"))
    rows.append(("trace", "; ".join(protocol.divergences)))
    rows.append(("solver", "; ".join(protocol.solvers)))
    rows.append(("batch", str(protocol.batch_size)))
    rows.append(("seed", str(protocol.seed)))
    return rows


def _samples(protocol: Protocol) -> str:
    split = "" if protocol.split is None else f" of the {protocol.split} split"
    if protocol.split_samples is None or protocol.samples == protocol.split_samples:
        return f"all {protocol.samples:,}{split}" if split else f"{protocol.samples:,}"
    return f"the first {protocol.samples:,} of the {protocol.split_samples:,}{split}"


def _blocks(evaluation: Evaluation) -> Table:
    """Return the table of blocks; how one was solved is said where they differ."""
    protocol = evaluation.protocol
    by_solver, by_trace = len(protocol.solvers) > 1, len(protocol.divergences) > 1
    how = [*(["solver"] if by_solver else []), *(["trace"] if by_trace else [])]
    table = Table("block", "scale", "shape", "accepted", "rejected", "evaluations", *how, box=None)
    for number, block in enumerate(evaluation.blocks):
        words = [*([block.solver] if by_solver else []), *([block.divergence] if by_trace else [])]
        table.add_row(str(number), *_cells(block), *words)
    return table


def _cells(block: BlockCost) -> list[str]:
    shape = "×".join(map(str, block.shape))
    counts = (f"{count:.4g}" for count in (block.accepted, block.rejected, block.nfe))
    return [str(block.scale), shape, *counts]


def _rows(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _with_error(value: float, error: float | None) -> str:
    """Return a figure to the second digit of its standard error.

    Example:
        >>> _with_error(2.12345, 0.0162), _with_error(-94.1234, 1.23), _with_error(2.12345, None)
        ('2.123 ± 0.016', '-94.1 ± 1.2', '2.123')
    """
    if error is None or error <= 0:
        return f"{value:.4g}"
    digits = max(0, -int(f"{error:e}".split("e")[1]) + 1)
    return f"{value:,.{digits}f} ± {error:.{digits}f}"
