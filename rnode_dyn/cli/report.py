"""``rnode-dyn report``: runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnode_dyn.cli.completion import complete_run
from rnode_dyn.cli.options import AsJson, home_expanded
from rnode_dyn.cli.printing import note, print_json
from rnode_dyn.runs.columns import Against

if TYPE_CHECKING:
    from rnode_dyn.runs.record import RunRecord

REPORT = Path("report")
"""Where what is drawn of several runs lies, unless it is given a place."""


def report_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders.", autocompletion=complete_run)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            callback=home_expanded,
            help="Folder of what is drawn; default: the run's, or report.",
        ),
    ] = None,
    against: Annotated[
        Against, typer.Option("--x", help="What the curves are drawn against.")
    ] = "seconds",
    as_json: AsJson = False,
) -> None:
    """Compare runs of one task: tables in Markdown, a page for each, and one that compares."""
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.record import read_what_is_whole

    if len({path.resolve() for path in paths}) < len(paths):
        raise typer.BadParameter("a RUN is given twice: give each once")
    runs = [read_what_is_whole(find_run(path)) for path in paths]
    note(*(damage for run in runs for damage in run.damaged))
    from rnode_dyn.report.task import check_same_task

    check_same_task(runs)
    from rnode_dyn.report.curves import has_curve
    from rnode_dyn.report.html import write_report

    if output is not None and len(runs) == 1 and not any(has_curve(run, against) for run in runs):
        raise typer.BadParameter(
            f"--output is the folder of curves.png, and RUN has no figures against {against}: "
            "leave it out"
        )
    pages = [write_report(run.folder) for run in runs]
    curves = _write_curves(runs, against, output)
    comparison = _write_comparison(runs, output)
    if as_json:
        drawn = {"curves": curves, "comparison": comparison}
        named = {name: None if path is None else str(path) for name, path in drawn.items()}
        print_json({**_report_figures(runs, pages), **named})
        return
    typer.echo(_report_text(runs))
    written = (*pages, curves, comparison)
    note(*(f"written: {path}" for path in written if path is not None))


def _write_comparison(runs: list["RunRecord"], output: Path | None) -> Path | None:
    from rnode_dyn.report.compare import write_comparison

    return write_comparison(runs, (output or REPORT) / "report.html") if len(runs) > 1 else None


def _report_figures(runs: list["RunRecord"], pages: list[Path]) -> dict[str, Any]:
    from rnode_dyn.report.comparable import differences
    from rnode_dyn.report.reach import reach_figures
    from rnode_dyn.report.table import run_figures

    pairs = zip(runs, pages, strict=True)
    return {
        "runs": [{**run_figures(run), "report": str(page)} for run, page in pairs],
        "reached": reach_figures(runs) if len(runs) > 1 else None,
        "differences": differences(runs),
    }


def _report_text(runs: list["RunRecord"]) -> str:
    """Return the tables, and with them what keeps their figures from being compared."""
    from rnode_dyn.report.comparable import differences
    from rnode_dyn.report.reach import reach_table
    from rnode_dyn.report.table import runs_table

    reached = reach_table(runs) if len(runs) > 1 else None
    notes = "\n".join(f"- {line}" for line in differences(runs))
    return "\n\n".join(part for part in (runs_table(runs), reached, notes) if part)


def _write_curves(runs: list["RunRecord"], against: Against, output: Path | None) -> Path | None:
    """Draw the runs that have figures, and say which have none."""
    from rnode_dyn.report.curves import curves_png, has_curve
    from rnode_dyn.runs.record import labels

    named = zip(runs, labels(runs), strict=True)
    without = [name for run, name in named if not has_curve(run, against)]
    if without:
        note(f"no curve, since metrics.csv has nothing against {against}: {', '.join(without)}")
    if len(without) == len(runs):
        return None
    folder = output or (runs[0].folder.path if len(runs) == 1 else REPORT)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curves.png"
    path.write_bytes(curves_png(runs, against))
    return path
