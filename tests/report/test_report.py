"""Runs compared: what the tables, the curves and the page say of folders made by hand."""

import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from rnode_dyn import RunError
from rnode_dyn.report.comparable import differences
from rnode_dyn.report.curves import curves_png, has_curve, x_scale
from rnode_dyn.report.html import write_report
from rnode_dyn.report.reach import reach_figures, reach_table
from rnode_dyn.report.table import HEADS, run_figures, runs_table
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import HELD_OUT, SECONDS, STEP, RunRecord, labels, read_record

SUMMARY = {
    "bits_per_dim": 2.14331,
    "bits_per_dim_stderr": 0.0215,
    "bits_per_dim_bin_centre": 1.97453,
    "nfe_forward": 168.0,
    "kinetic_energy": 3.5428,
    "jacobian_frobenius": 0.88653,
    "protocol": {"split": "test", "samples": 400},
    "parameters": 67340,
    "train_steps": 3215,
    "wall_clock_s": 687.33,
    "training_s": 373.35,
    "versions": {"device": "cpu"},
}
METRICS = """\
epoch,stage,step,train/bits_per_dim,train/evaluations,train/jacobian_frobenius,training_s,validation/bits_per_dim
0,0,9,9.1,,,1.0,
0,0,10,,,,1.5,4.0
0,1,19,3.1,96.0,0.5,2.0,
0,1,20,,,,4.0,3.0
0,1,29,3.0,96.0,0.6,5.0,
0,1,30,,,,8.0,3.5
"""


def make_run(
    path: Path,
    name: str = "small",
    summary: dict | None = SUMMARY,
    metrics: str | None = METRICS,
    data: dict | None = None,
) -> RunRecord:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.samples.mkdir()
    folder.recipe.write_text(tomli_w.dumps({"name": name, "data": data or {}}))
    if summary is not None:
        folder.write_summary(summary)
    if metrics is not None:
        folder.metrics.write_text(metrics)
    return read_record(folder)


def without(*names: str) -> str:
    """The metrics as an older version wrote them: without some columns."""
    head, *rows = [line.split(",") for line in METRICS.splitlines()]
    kept = [number for number, name in enumerate(head) if name not in names]
    return "\n".join(",".join(row[number] for number in kept) for row in [head, *rows]) + "\n"


def cells(table: str) -> list[list[str]]:
    """The rows below the heads."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]


def test_a_finished_run_has_all_figures(tmp_path: Path) -> None:
    (row,) = cells(runs_table([make_run(tmp_path / "a")]))
    assert dict(zip(HEADS, row, strict=True)) == {
        "run": "small",
        "bits/dim": "2.143 ± 0.021",
        "bin centre": "1.975",
        "evaluations": "168",
        "Jacobian norm": "0.8865",
        "kinetic energy": "3.543",
        "parameters": "67,340",
        "steps": "3,215",
        "training s": "373",
        "device": "cpu",
    }


def test_what_a_summary_does_not_know_is_a_dash(tmp_path: Path) -> None:
    summary = {**SUMMARY, "bits_per_dim_bin_centre": None, "bits_per_dim_stderr": None}
    del summary["training_s"], summary["versions"]
    (row,) = cells(runs_table([make_run(tmp_path / "a", summary=summary)]))
    assert (row[1], row[2], row[-2], row[-1]) == ("2.143", "–", "687 with validation", "–")


@pytest.mark.parametrize(
    ("metrics", "known"),
    [
        (METRICS, ["3.500 held out", *"–––––", "30", "8", "–"]),
        (without(SECONDS), ["3.500 held out", *"–––––", "30", "–", "–"]),
        (None, ["–"] * 9),
    ],
    ids=["now", "older", "nothing yet"],
)
def test_an_unfinished_run_shows_what_there_is(
    metrics: str | None, known: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", summary=None, metrics=metrics)
    assert cells(runs_table([run])) == [["small, unfinished", *known]]
    assert run_figures(run)["finished"] is False


def test_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / "one" / "x", tmp_path / "two" / "x", tmp_path / "y", tmp_path / "z"]
    names = ["mnist", "mnist", "mnist", "moons"]
    runs = [make_run(path, name) for path, name in zip(paths, names, strict=True)]
    assert labels(runs) == [f"mnist ({paths[0]})", f"mnist ({paths[1]})", "mnist (y)", "moons"]


@pytest.mark.parametrize("tail", ["0,1,3", "0,1,31,,,,9.0,2.", "0,1,31,,,,nan,nan", "0,1,,x"])
def test_a_line_that_is_being_written_does_no_harm(tail: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", metrics=METRICS + tail)
    assert [score.bits for score in run.held_out][:3] == [4.0, 3.0, 3.5]
    assert run.best is not None
    assert run.best.bits in (3.0, 2.0)


def test_curves_are_where_both_figures_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    assert run.curve(SECONDS, HELD_OUT) == [(1.5, 4.0), (4.0, 3.0), (8.0, 3.5)]
    assert run.stage_starts(SECONDS) == [1.5]
    assert run.stage_starts(STEP) == [10.0]


def test_the_time_until_as_good_is_that_of_the_best_weights(tmp_path: Path) -> None:
    slow = make_run(tmp_path / "a")
    fast = make_run(tmp_path / "b", metrics=METRICS.replace("1.5,4.0", "1.0,2.9"))
    worse = make_run(tmp_path / "c", metrics=METRICS.replace("4.0,3.0", "4.0,3.1"))
    older = make_run(tmp_path / "d", metrics=without(SECONDS))
    figures = reach_figures([slow, fast, worse, older])
    assert figures is not None
    assert figures["bits_per_dim"] == 3.0
    assert [(r["seconds"], r["times_as_fast"]) for r in figures["runs"]] == [
        (4.0, 1.0),
        (1.0, 4.0),
        (None, None),
        (None, None),
    ]
    table = reach_table([slow, fast, worse, older])
    assert table is not None
    assert "training s until 3.000" in table
    assert [row[2:] for row in cells(table)] == [
        ["4", "1.00"],
        ["1", "4.00"],
        ["not reached", "–"],
        ["not recorded", "–"],
    ]


def test_without_a_held_out_figure_there_is_nothing_to_reach(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", metrics=None), make_run(tmp_path / "b")]
    assert reach_figures(runs) is reach_table(runs) is None


def test_what_was_measured_differently_is_said(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "one", data={"validation_size": 100}),
        make_run(tmp_path / "b", "two", {**SUMMARY, "protocol": {"split": "test", "samples": 60}}),
        make_run(tmp_path / "c", "old", {k: v for k, v in SUMMARY.items() if k != "protocol"}),
        make_run(tmp_path / "d", "new", summary=None),
    ]
    assert differences(runs) == [
        "data.validation_size is not the same: one 100; two does not say; old does not say; "
        "new does not say",
        "protocol.samples is not the same: one 400; two 60",
        "how it was measured is not written down: old",
    ]
    assert differences(runs[:1]) == []


def test_figures_in_other_units_are_no_comparison(tmp_path: Path) -> None:
    table = {"dataset": "npy", "standardize": True}
    now = {**SUMMARY, "log_likelihood_nats_standardised": -2.6}
    runs = [
        make_run(tmp_path / "a", "old", data=table),
        make_run(tmp_path / "b", "new", now, data=table),
        make_run(tmp_path / "c", "plain", data={"dataset": "npy"}),
    ]
    said = "figures.units is not the same: old of a deviation; new of the data"
    assert differences(runs[:2]) == [said]
    assert differences(runs[1:]) == []


@pytest.mark.parametrize("against", ["seconds", "steps"])
def test_the_picture_is_legible_and_shows_each_run(against: str, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", "_$x^$"), make_run(tmp_path / "b", "other")]
    one, two = (curves_png(some, against) for some in (runs[:1], runs))  # type: ignore[arg-type]
    assert one != two
    assert 990 <= Image.open(BytesIO(two)).width <= 1010


def test_a_run_without_seconds_has_curves_against_steps_only(tmp_path: Path) -> None:
    older = make_run(tmp_path / "a", metrics=without(SECONDS))
    assert [has_curve(older, "seconds"), has_curve(older, "steps")] == [False, True]
    new = make_run(tmp_path / "b", "new")
    assert x_scale([older, new], SECONDS) == "linear"
    assert curves_png([new, older], "seconds") == curves_png([new], "seconds")


class Seen(HTMLParser):
    """Gathers the tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_all_and_loads_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    Image.new("RGB", (3, 2)).save(run.folder.samples / "samples.png")
    path = write_report(run.folder)
    assert path == tmp_path / "a" / "report.html"
    page = Seen(path.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe"} & set(tags)
    sources = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2  # the samples and the curves
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert not re.search(r"url\(|@import|https?:", path.read_text(encoding="utf-8"))
    for words in ("2.143", "67,340", "bits per dim bin centre", 'name = "small"', "samples"):
        assert words in page.text


def test_a_recipe_is_text_and_never_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "</title><script>alert(1)</script> & <b>é")
    page = Seen(write_report(run.folder).read_text(encoding="utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert "</title><script>alert(1)</script> & <b>é" in page.text


def test_a_page_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", summary=None, metrics=None)
    page = Seen(write_report(run.folder).read_text(encoding="utf-8"))
    assert "unfinished" in page.text
    assert "img" not in [tag for tag, _ in page.tags]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("recipe.toml", None, "is no run folder"),
        ("recipe.toml", "name = ", "damaged"),
        ("summary.json", '{"bits', "damaged"),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(
    file: str, text: str | None, says: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a")
    path = run.folder.path / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(RunError, match=says) as caught:
        read_record(run.folder)
    assert str(run.folder.path) in str(caught.value)


def test_the_summary_is_given_as_it_is(tmp_path: Path) -> None:
    figures = run_figures(make_run(tmp_path / "a"))
    assert json.loads(json.dumps(figures)) == {
        "run": str(tmp_path / "a"),
        "name": "small",
        "finished": True,
        "held_out_bits_per_dim": 3.5,
        "best_held_out_bits_per_dim": 3.0,
        "summary": SUMMARY,
    }
