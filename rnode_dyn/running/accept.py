"""Whether a run can go on with what has changed since it was left."""

import re
from collections.abc import Callable
from typing import Any

from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.running.fingerprint import other_data
from rnode_dyn.runs.changes import Change, changes_in, step_size, table_of
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside


def accept_changes(
    checkpoint: dict[str, Any],
    recipe: Recipe,
    about: dict[str, Any],
    folder: RunFolder,
    tell: Callable[[str], None],
) -> list[Change]:
    """Tell what has changed since a checkpoint was written, if the run can go on so.

    Args:
        checkpoint: The checkpoint.
        recipe: The recipe now.
        about: What the run's checkpoints tell of it now: recipe, data, versions.
        folder: The run.
        tell: Takes a sentence for each change.

    Raises:
        RunError: if it would be another training.
    """
    kept = kept_beside(checkpoint)
    if "recipe" not in kept:  # an older version's checkpoint tells nothing
        return []
    before, now = table_of(kept["recipe"]), table_of(about["recipe"])
    changes = changes_in(before, now)
    # Steps of as many samples are the same, in however many parts they are taken.
    same_steps = step_size(before) == step_size(now)
    _refuse_another_training(
        [c for c in changes if not (same_steps and c.key == "data.batch_size")], folder
    )
    _refuse_a_stage_that_is_over(checkpoint, changes, folder)
    difference = other_data(kept["data"], about["data"])
    if difference is not None:
        raise RunError(
            f"{folder.path} cannot go on with other data: {difference} when its checkpoint was "
            "written. Put the data back, or begin a new run."
        )
    _refuse_an_end_that_is_past(checkpoint, recipe, folder)
    for name, version in about["versions"].items():
        was = kept["versions"].get(name, version)
        if was != version:
            tell(f"{name} was {was} when the checkpoint was written, and is {version} now")
    for change in changes:
        tell(f"from here on {change}")
    return changes


def _refuse_another_training(changes: list[Change], folder: RunFolder) -> None:
    for change in changes:
        if change.makes_another_training:
            raise RunError(
                f"{folder.path} cannot go on with {change}: it would be another training. "
                "Leave it as it was, or begin a new run."
            )


def _refuse_a_stage_that_is_over(
    checkpoint: dict[str, Any], changes: list[Change], folder: RunFolder
) -> None:
    reached = checkpoint["rnode_dyn"]["stage"]
    for change in changes:
        stage = re.match(r"train\.stage\.(\d+)\.", change.key)
        if stage is not None and int(stage[1]) < reached:
            raise RunError(
                f"{folder.path} cannot go on with {change}: that stage is over, and nothing would "
                f"come of it. Leave it as it was, or change train.stage.{reached}."
            )


def _refuse_an_end_that_is_past(
    checkpoint: dict[str, Any], recipe: Recipe, folder: RunFolder
) -> None:
    number = checkpoint["rnode_dyn"]["stage"]
    stage, place = recipe.train.stages[number], kept_beside(checkpoint)["place"]
    ended = place["batch"] >= place["batches"] > 0 and not place["validation_due"]
    own = f"train.stage.{number}" if recipe.train.stage else "train"
    for key, done in (("max_steps", checkpoint["global_step"]), ("epochs", place["epoch"] + ended)):
        wanted = getattr(stage, key)
        if wanted is not None and done > wanted:
            raise RunError(
                f"{folder.path} cannot end at {own}.{key} = {wanted}: it is at {done} already. "
                "Write a larger number."
            )
