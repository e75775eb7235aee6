"""The `[data]` table: which set, how much of it, and how it is batched."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rnode_dyn.recipe.names import BadFileName, ConditionName, DatasetName, DequantizationName
from rnode_dyn.recipe.tables import Count, NonNegativeInt, Table, Text, broken_rule

_ONLY_WITH = {
    "channels": ("has its own", ("fake", "folder")),
    "columns": ("has as many as it has", ("npy",)),
    "condition": ("has no labels here", ("digits", "mnist", "moons")),
    "condition_columns": ("is no table", ("npy",)),
    "on_bad_file": (
        "reads no picture files one by one",
        ("folder", "celeba", "celebahq", "imagenet64"),
    ),
    "standardize": ("has a scale of its own", ("npy",)),
    "variant": ("has only one", ("imagenet64",)),
}
"""Keys of `[data]` that belong to some data sets: what is said of others, and those sets."""


class DataRecipe(Table):
    """The data: which set, how much of it, and how it is batched."""

    dataset: DatasetName
    """The data set's name."""

    variant: Text | None = None
    """The published variant that the files have to be; only with `dataset = "imagenet64"`."""

    root: Text = "data"
    """Folder of the data; with `dataset = "picture"` an image file."""

    image_size: Count | None = None
    """Height and width of the images, in pixels; absent: the data set's own."""

    levels: Annotated[int, Field(ge=2)] | None = None
    """Values a pixel can take, such as 256; absent: the data set's own, if it has any."""

    dequantization: DequantizationName | None = None
    """How pixels become continuous: `"variational"` learns the noise; absent: uniformly."""

    channels: Count | None = None
    """Channels of the images; only with `dataset = "fake"` or `"folder"`."""

    columns: Count | None = None
    """Columns that the files have to have; only with `dataset = "npy"`; absent: any number."""

    condition: ConditionName | None = None
    """What the density is conditional on: `"label"`, the class of each sample."""

    condition_columns: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] = ()
    """Columns, from 0, that are no part of a sample but its condition; only with `"npy"`."""

    standardize: bool = False
    """Whether the flow first brings columns to mean 0 and deviation 1; only with `"npy"`."""

    batch_size: Count = 200
    """Training points per step, device and accumulated part."""

    eval_batch_size: Count | None = None
    """Points per batch in evaluation; absent: `batch_size`."""

    train_size: Count | None = None
    """Training points to use or draw; absent: all, or the data set's own number."""

    validation_size: NonNegativeInt | None = None
    """Validation points to use or draw; 0: none, the last weights are the best; absent: all."""

    test_size: Count | None = None
    """Test points to use or draw; absent: all, or the data set's own number."""

    flips: bool = False
    """Whether half of the training images are mirrored left to right, at random."""

    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Processes that decode images or read mapped ones; 0: the training process does."""

    on_bad_file: BadFileName = "refuse"
    """What becomes of a picture that cannot be read rightly; `"skip"` for folders of pictures."""

    checksums: dict[str, Text] = Field(default_factory=dict)
    """For files below `root` the `md5:`, `sha256:` or `images:` that they have to have."""

    @property
    def is_conditional(self) -> bool:
        """Whether samples have a condition."""
        return self.condition is not None or bool(self.condition_columns)

    @model_validator(mode="after")
    def _has_no_others_keys(self) -> Self:
        for key, (what, sets) in _ONLY_WITH.items():
            given = getattr(self, key)
            usual = type(self).model_fields[key].default
            if given != usual and self.dataset not in sets:
                reason = f"{self.dataset} {what}: drop it (it goes with {' and '.join(sets)})"
                raise broken_rule(key, reason, given)
        return self
