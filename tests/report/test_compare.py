"""Runs compared on one page: what differs, means with their errors, what says nothing left out."""

import math
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from rnode_dyn import RunError
from rnode_dyn.report.compare import groups_table, write_comparison
from rnode_dyn.report.contrasts import bars_png, jacobian_png
from rnode_dyn.report.groups import differing_keys, groups_of, run_labels
from rnode_dyn.report.task import check_same_task
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import RunRecord, read_record
from tests.report.test_report import METRICS, SUMMARY


def made(path: Path, bits: float | None, metrics: str = "", **recipe: Any) -> RunRecord:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.samples.mkdir()
    table = {"name": "small", "data": {"dataset": "moons"}, **recipe}
    folder.recipe.write_text(tomli_w.dumps(table))
    if bits is not None:
        folder.write_summary({**SUMMARY, "bits_per_dim": bits})
    folder.metrics.write_text(metrics)
    return read_record(folder)


def weighed(tmp_path: Path, metrics: str = "") -> list[RunRecord]:
    """Two weights, two seeds each."""
    return [
        made(tmp_path / f"{w}-{s}", w + s, metrics, seed=s, regularizers={"kinetic_energy": w})
        for w in (0.5, 0.0)
        for s in (1, 2)
    ]


def test_seeds_are_taken_together_with_the_error_of_their_mean(tmp_path: Path) -> None:
    groups = groups_of(weighed(tmp_path))
    assert [(g.label, len(g.runs)) for g in groups] == [
        ("kinetic_energy 0.5", 2),
        ("kinetic_energy 0", 2),
    ]
    figure = groups[0].figure("bits_per_dim")
    assert figure == (2.0, pytest.approx(math.sqrt(0.5) / math.sqrt(2)))
    assert "| kinetic_energy 0 | 2 | 1.500 ± 0.5 |" in groups_table(groups)


def test_a_single_run_has_the_error_of_its_own(tmp_path: Path) -> None:
    (group,) = groups_of([made(tmp_path / "a", 2.0)])
    assert group.figure("bits_per_dim") == (2.0, SUMMARY["bits_per_dim_stderr"])
    assert group.figure("parameters") == (67340, None)


def test_runs_of_one_recipe_stay_apart(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, 2.0) for name in "ab"]
    assert [group.label for group in groups_of(runs)] == ["small (a)", "small (b)"]
    assert differing_keys(runs) == {}


def test_labels_say_what_differs(tmp_path: Path) -> None:
    runs = weighed(tmp_path)
    assert differing_keys(runs)["regularizers.kinetic_energy"] == [0.5, 0.5, 0.0, 0.0]
    assert run_labels(runs)[:2] == ["seed 1, kinetic_energy 0.5", "seed 2, kinetic_energy 0.5"]


def test_an_unfinished_run_has_no_part_in_a_mean(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 2.0, seed=1), made(tmp_path / "b", None, seed=2)]
    (group,) = groups_of(runs)
    assert group.figure("bits_per_dim") == (2.0, SUMMARY["bits_per_dim_stderr"])


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    runs = weighed(tmp_path, METRICS)
    (runs[0].folder.samples / "samples.png").write_bytes(b"\x89PNG picture")
    page = write_comparison(runs, tmp_path / "new" / "report.html").read_text()
    for title in ("What differs", "Figures", "Training", "Samples"):
        assert f"<h2>{title}</h2>" in page
    assert "regularizers.kinetic_energy" in page
    assert "samples of seed 1, kinetic_energy 0.5" in page
    assert "http" not in page
    assert "<script" not in page


def test_a_panel_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, None, seed=n) for n, name in enumerate("ab")]
    page = write_comparison(runs, tmp_path / "report.html").read_text()
    assert "<img" not in page
    assert "Figures" not in page
    assert jacobian_png(runs, ["a", "b"]) is None
    assert bars_png(groups_of(runs)) is None
    assert bars_png(groups_of(weighed(tmp_path / "more"))[:1]) is None


def test_evaluations_that_change_are_drawn_against_the_jacobian_norm(tmp_path: Path) -> None:
    changing = METRICS.replace("3.0,96.0", "3.0,120.0")
    runs = [made(tmp_path / "a", 2.0, changing), made(tmp_path / "b", 2.0, METRICS)]
    picture = jacobian_png(runs, ["a", "b"])
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert jacobian_png(runs[1:], ["b"]) is None


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"dataset": "moons"}, {"dataset": "rings"}, "learns moons; .* learns rings"),
        (
            {"dataset": "mnist", "image_size": 14},
            {"dataset": "mnist", "image_size": 28},
            "learns mnist, image_size 14",
        ),
    ],
)
def test_runs_of_different_tasks_are_refused(
    one: dict, other: dict, says: str, tmp_path: Path
) -> None:
    runs = [made(tmp_path / "a", 1.0, data=one), made(tmp_path / "b", 1.0, data=other)]
    with pytest.raises(RunError, match=says):
        write_comparison(runs, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    check_same_task(runs[:1])
