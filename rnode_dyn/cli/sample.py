"""``rnode-dyn sample``: draw from a trained flow."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rnode_dyn.cli.device import DeviceName, move
from rnode_dyn.cli.options import AsJson, CheckpointName, RunPath, Seed, home_expanded
from rnode_dyn.cli.printing import announce, note, out, print_json

if TYPE_CHECKING:
    from rnode_dyn.data.splits import Event
    from rnode_dyn.flows.multiscale import MultiscaleFlow
    from rnode_dyn.recipe.schema import Recipe
    from rnode_dyn.report.sampling import Drawing


HalfName = Literal["left", "right", "top", "bottom"]

_PICTURES = {"--strip": "a strip", "--interpolate": "a picture of ways"}


def sample_command(
    run_path: RunPath,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=1, help="How many samples: 64, or 8 in a strip."),
    ] = None,
    temperatures: Annotated[
        list[float] | None,
        typer.Option(
            "--temperature",
            help="Below 1: more typical samples. Given several times: a panel for each.",
        ),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            "--condition",
            metavar="LABEL",
            help="Of a conditional flow: a class, such as 3, or numbers, 0.1,-0.2.",
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            help="How far samples go beyond their class: 1 not at all, 2 usual.",
        ),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Show the samples on their way from noise to image.")
    ] = False,
    ways: Annotated[
        bool,
        typer.Option("--interpolate", help="Show samples on the way from one to another."),
    ] = False,
    half: Annotated[
        HalfName | None,
        typer.Option("--inpaint", help="Draw this half of test images anew, given the other."),
    ] = None,
    checkpoint: CheckpointName = None,
    device: DeviceName = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            callback=home_expanded,
            help="File; default: in the run's samples folder.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples: a picture of images, a .npy file of vectors, or both of points in the plane."""
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.recipe_of import recipe_of

    _check_temperatures(temperatures or [])
    kind = _kind({"--strip": strip, "--interpolate": ways, "--inpaint": half is not None})
    folder = find_run(run_path)
    folder.checkpoint(checkpoint)
    announce(recipe_of(folder), folder)
    from rnode_dyn.recipe.build import describe_event
    from rnode_dyn.runs.weights import load_flow

    recipe, model = load_flow(folder, checkpoint, tell=note)
    event = describe_event(recipe)
    drawing = _drawing(recipe, event, count, tuple(temperatures or ()), kind)
    if half is not None:
        drawing = replace(drawing, half=half)  # type: ignore[call-arg]
    drawing = replace(drawing, condition=_condition(event, condition), guidance=guidance)
    move(model, recipe, device)
    model = model if guidance is None else _guided(event, model, guidance)
    path = output or folder.samples / drawing.file_name
    if path.suffix.lower() not in drawing.suffixes:
        raise typer.BadParameter(f"--output is {path}: its name must end in {drawing.suffixes[0]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        notes = drawing.draw(recipe, model, event, seed, path)
    except ValueError as error:
        if half is None:
            raise
        raise typer.BadParameter(f"--inpaint is {half}: {error}") from error
    note(*notes)
    picture = drawing.picture_beside(path, event)
    if as_json:
        said = {"picture": None if picture is None else str(picture), **asdict(drawing)}
        there = {name: value for name, value in said.items() if value is not None}
        print_json({"file": str(path), **there, "seed": seed})
    else:
        files = path if picture is None else f"{path}, {picture}"
        out().print(f"{_how_many(drawing, event)} samples: {files}", soft_wrap=True)


def _how_many(drawing: "Drawing", event: "Event") -> int:
    from rnode_dyn.report.given import row_length
    from rnode_dyn.report.sampling import Panels, Vectors

    turns = isinstance(drawing, Panels | Vectors)
    if event.classes is None or drawing.condition is not None or not turns:
        return drawing.count
    return event.classes * row_length(event, drawing.count)


def _check_temperatures(temperatures: list[float]) -> None:
    for temperature in temperatures:
        if not 0 < temperature < math.inf:
            raise typer.BadParameter(f"--temperature is {temperature}: write a positive number")


def _condition(event: "Event", given: str | None) -> int | tuple[float, ...] | None:
    """Read --condition as the flow takes it, or refuse it."""
    if given is None:
        if event.columns is not None:
            raise typer.BadParameter(
                f"this flow is conditional on {event.columns} numbers: say which, --condition "
                f"{','.join(['0.0'] * event.columns)}"
            )
        return None
    if not event.is_conditional:
        raise typer.BadParameter("--condition is given, and this flow takes none: leave it out")
    if event.classes is not None:
        return _label(given, event.classes)
    numbers = _numbers(given)
    if len(numbers) != event.columns:
        raise typer.BadParameter(
            f"--condition has {len(numbers)} numbers, and this flow takes {event.columns}"
        )
    return numbers


def _guided(event: "Event", model: "MultiscaleFlow", guidance: float) -> "MultiscaleFlow":
    from rnode_dyn.flows.guidance import GuidedFlow

    if event.classes is None:
        raise typer.BadParameter(
            "--guidance goes beyond a sample's class, and this flow's samples have none: leave it "
            "out"
        )
    try:
        return GuidedFlow(model, guidance)
    except ValueError as error:
        raise typer.BadParameter(f"--guidance is {guidance:g}: {error}") from error


def _label(given: str, classes: int) -> int:
    if not given.isdecimal() or int(given) >= classes:
        raise typer.BadParameter(
            f"--condition is {given}: write one of the classes, from 0 to {classes - 1}"
        )
    return int(given)


def _numbers(given: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, given.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"--condition is {given}: write numbers with commas between them")
    return numbers


def _drawing(
    recipe: "Recipe",
    event: "Event",
    count: int | None,
    temperatures: tuple[float, ...],
    kind: str | None,
) -> "Drawing":
    """Return what suits the samples: panels, where nothing else is asked, at the recipe's own."""
    from rnode_dyn.report.pictures import shows_as_image
    from rnode_dyn.report.sampling import Panels, Strip, Vectors
    from rnode_dyn.report.ways import Halves, Ways

    image = shows_as_image(event)
    if kind is not None and not image:
        raise typer.BadParameter(
            f"{kind} shows grey or coloured images, and this flow's samples are none"
        )
    if image and kind is None:
        return Panels(count or 64, temperatures or recipe.samples.temperatures)
    if kind == "--inpaint" and temperatures:
        raise typer.BadParameter(
            "--temperature is given, and --inpaint draws at temperature 1: leave it out"
        )
    if len(temperatures) > 1:
        what = "a file of vectors" if kind is None else _PICTURES[kind]
        raise typer.BadParameter(f"{what} has one --temperature: give the others to commands apart")
    kinds = {"--strip": Strip, "--interpolate": Ways, "--inpaint": Halves}
    made, usual = (Vectors, 64) if kind is None else (kinds[kind], 8)
    return made(count or usual, temperatures or (1.0,))


def _kind(asked: dict[str, bool]) -> str | None:
    """Return the option that asks for another picture than the usual one."""
    there = [name for name, given in asked.items() if given]
    if len(there) > 1:
        raise typer.BadParameter(f"{' and '.join(there)} are different pictures: ask for one")
    return there[0] if there else None
