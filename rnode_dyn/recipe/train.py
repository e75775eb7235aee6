"""The `[train]` table and its `[[train.stage]]` tables: what is minimised, how long, how fast."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rnode_dyn.flows.path_choices import excluded_choice
from rnode_dyn.recipe.names import (
    ENDING_SCHEDULES,
    LENGTH_KEYS,
    NO_STRATEGIES,
    PATH_KEYS,
    AcceleratorName,
    CouplingName,
    ObjectiveName,
    OnNonFiniteName,
    PrecisionName,
    ScheduleName,
    TargetsName,
    TimesName,
    WeightingName,
)
from rnode_dyn.recipe.plugins import LoggerRecipe, OptimizerRecipe, check_class
from rnode_dyn.recipe.tables import (
    MAX_THREADS,
    Count,
    Minutes,
    NonNegative,
    NonNegativeInt,
    Positive,
    Table,
    Text,
    broken_rule,
)


def _default_when_matching(value: str | float) -> Any:
    """A field with `value` as its default in a stage of flow matching."""

    def default(earlier: dict[str, Any]) -> str | float | None:
        return value if earlier.get("objective") == "flow-matching" else None

    return Field(default_factory=default)


class StageRecipe(Table):
    """One stage of a training; what it leaves out is as `[train]` has it."""

    objective: ObjectiveName = "likelihood"
    """What is minimised: bits/dim and penalties, or the error of the velocities, unsolved."""

    max_steps: Count | None = None
    """Optimizer steps after which the stage ends."""

    max_minutes: Minutes | None = None
    """Minutes after which the stage ends."""

    epochs: Count | None = None
    """Passes over the data after which the stage ends; absent, with no other end: `[train]`'s."""

    learning_rate: Positive | None = None
    """The optimizer's learning rate, once warm; absent: `[train]`'s."""

    warmup_steps: NonNegativeInt | None = None
    """Optimizer steps over which the learning rate rises from 0; absent: `[train]`'s."""

    schedule: ScheduleName | None = None
    """The learning rate after the warm-up; absent: `[train]`'s."""

    batch_size: Count | None = None
    """Training points per step, device and accumulated part; absent: `[data]`'s."""

    coupling: CouplingName | None = _default_when_matching("independent")
    """Which noise belongs to which sample: `"reflow"` takes the flow's own, of the stage before."""

    times: TimesName | None = _default_when_matching("stratified")
    """How times are drawn; only with `objective = "flow-matching"`."""

    pace: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = _default_when_matching(1.0)
    """How fast paths begin, 1 being even; only with `objective = "flow-matching"`."""

    weighting: WeightingName | None = _default_when_matching("even")
    """How much errors near the data count; only with `objective = "flow-matching"`."""

    targets: TargetsName | None = _default_when_matching("drawn")
    """What is regressed on; `"expected"` with `model.bells`."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of the running mean of the weights; absent: `[train]`'s."""

    @property
    def has_length(self) -> bool:
        """Whether the stage itself says when it ends."""
        return any(getattr(self, name) is not None for name in LENGTH_KEYS)

    @model_validator(mode="after")
    def _likelihood_draws_no_paths(self) -> Self:
        for key in PATH_KEYS:
            given = getattr(self, key)
            if self.objective == "likelihood" and given is not None:
                mend = 'drop it, or say objective = "flow-matching"'
                raise broken_rule(key, f"the likelihood draws no paths: {mend}", given)
        return self

    @model_validator(mode="after")
    def _paths_go_together(self) -> Self:
        if self.objective != "flow-matching":
            return self
        reason = excluded_choice(self.coupling, self.times, self.weighting, self.targets)
        if reason is not None:
            raise broken_rule(reason[0], reason[1], getattr(self, reason[0]))
        return self


class GovernorRecipe(Table):
    """Keeps `solver.step = "auto"` at the fewest steps that solve the flow while it trains."""

    tolerance: Positive = 0.003
    """Largest gap between n and 2n steps, summed over the blocks, in bits per dimension."""

    every: Count = 50
    """Optimizer steps between two looks at the gap."""

    points: Count | None = None
    """Validation points that are solved for it; absent: as many as a batch has, from 8 to 64."""

    max_steps: Count = 64
    """Most steps that a block is given."""


def _default_epochs(earlier: dict[str, Any]) -> int | None:
    """100, unless all ends are said otherwise."""
    stages = earlier.get("stage") or ()
    if stages and all(stage.has_length for stage in stages):
        return None
    ends_otherwise = any(earlier.get(name) is not None for name in ("max_steps", "max_minutes"))
    return None if ends_otherwise else 100


class TrainRecipe(Table):
    """The training: how long, how fast, on what.

    Example:
        >>> warm = {"objective": "flow-matching", "epochs": 5, "learning_rate": 5e-3}
        >>> train = TrainRecipe(stage=[warm, {}], epochs=20)
        >>> [(s.objective, s.epochs, s.learning_rate) for s in train.stages]
        [('flow-matching', 5, 0.005), ('likelihood', 20, 0.001)]
    """

    stage: Annotated[tuple[StageRecipe, ...], Field(strict=False)] = ()
    """The stages one after another, as `[[train.stage]]` tables; absent: one, the likelihood."""

    max_steps: Count | None = None
    """Optimizer steps after which training ends."""

    max_minutes: Minutes | None = None
    """Minutes after which training ends."""

    epochs: Count | None = Field(default_factory=_default_epochs)
    """Passes over the data after which training ends; 100 where no other end is given."""

    learning_rate: Positive = 1e-3
    """The optimizer's learning rate, once warm."""

    warmup_steps: NonNegativeInt = 0
    """Optimizer steps over which the learning rate rises from 0."""

    schedule: ScheduleName = "constant"
    """The learning rate after the warm-up: as it is, or falling in one of these ways."""

    weight_decay: NonNegative = 0.0
    """Decoupled weight decay of AdamW."""

    optimizer: OptimizerRecipe | None = None
    """What steps, with keys of its own; absent: AdamW."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of a mean of the weights that is evaluated, less at first; absent: none."""

    clip: Positive | None = None
    """Largest norm of the gradient, longer ones are shortened to it; absent: any."""

    validate_every: Count = 1
    """Epochs between two validations."""

    validate_every_steps: Count | None = None
    """Optimizer steps between two validations, instead of epochs."""

    checkpoint_every_steps: Count | None = None
    """Optimizer steps between two saves, apart from validations; absent: no matter how many."""

    checkpoint_every_minutes: Minutes | None = 10.0
    """Minutes between two saves, apart from validations."""

    governor: GovernorRecipe | None = None
    """How `solver.step = "auto"` is watched over; absent: as the table's defaults say."""

    micro_batch: Count | Literal["auto"] | None = None
    """Samples of a batch that are solved at once, or "auto": by the memory there; absent: all."""

    devices: Count | Literal["auto"] = 1
    """Devices per node."""

    nodes: Count = 1
    """Machines."""

    accelerator: AcceleratorName = "auto"
    """Lightning's accelerator."""

    accumulate: Count = 1
    """Parts of `data.batch_size` points that a step takes one after another."""

    on_nonfinite: OnNonFiniteName = "stop"
    """What a step does whose loss or gradient is not finite: stops the training, or is skipped."""

    strategy: Text = "auto"
    """Lightning's strategy for several devices, such as `ddp`."""

    precision: PrecisionName = "32-true"
    """Lightning's floating-point precision."""

    compile: bool = False
    """Whether torch compiles the field: its product for the likelihood, its call for matching."""

    logger: LoggerRecipe | None = None
    """Where the figures go beside `metrics.csv`; absent: nowhere."""

    callbacks: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Lightning's callbacks, classes that can be imported and made without arguments."""

    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] | Literal["auto"] | None = "auto"
    """Threads of torch on the CPU; "auto": one or all, the faster by the first batch's step."""

    @property
    def given_threads(self) -> int | None:
        """The number of threads, where it is given."""
        return None if self.threads == "auto" else self.threads

    @property
    def stages(self) -> tuple[StageRecipe, ...]:
        """The stages, each complete."""
        return tuple(self._completed(stage) for stage in self.stage or (StageRecipe(),))

    def _completed(self, stage: StageRecipe) -> StageRecipe:
        shared = ["learning_rate", "warmup_steps", "schedule", "ema"]
        names = shared if stage.has_length else [*shared, *LENGTH_KEYS]
        absent = [name for name in names if getattr(stage, name) is None]
        return stage.model_copy(update={name: getattr(self, name) for name in absent})

    @model_validator(mode="after")
    def _strategy_makes_one_run(self) -> Self:
        for start, reason in NO_STRATEGIES.items():
            if self.strategy.startswith(start):
                raise broken_rule("strategy", reason, self.strategy)
        return self

    @model_validator(mode="after")
    def _there_is_a_flow_to_match_again(self) -> Self:
        if self.stage and self.stage[0].coupling == "reflow":
            reason = "there is no flow yet that has pairs: a stage before it has to train one"
            raise broken_rule("stage.0.coupling", reason, "reflow")
        return self

    @model_validator(mode="after")
    def _lengths_are_used(self) -> Self:
        if self.stage and all(stage.has_length for stage in self.stage):
            for key in LENGTH_KEYS:
                given = getattr(self, key)
                if given is not None:
                    reason = "each [[train.stage]] says itself when it ends: drop it"
                    raise broken_rule(key, reason, given)
        return self

    @model_validator(mode="after")
    def _pieces_are_not_scaled(self) -> Self:
        if self.micro_batch is not None and self.precision == "16-mixed":
            reason = "scaled gradients are not computed in pieces: say bf16-mixed or 32-true"
            raise broken_rule("precision", reason, self.precision)
        return self

    @model_validator(mode="after")
    def _callbacks_are_classes(self) -> Self:
        for number, given in enumerate(self.callbacks):
            check_class(f"callbacks.{number}", given)
        return self

    @model_validator(mode="after")
    def _weight_decay_is_adamws(self) -> Self:
        if self.optimizer is not None and self.weight_decay:
            reason = "it is AdamW's: say it in [train.optimizer], if that one has it"
            raise broken_rule("weight_decay", reason, self.weight_decay)
        return self

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> Self:
        for number, stage in enumerate(self.stages):
            endless = stage.epochs is None and stage.max_steps is None
            if stage.schedule in ENDING_SCHEDULES and endless:
                own = self.stage and self.stage[number].schedule is not None
                key = f"stage.{number}.schedule" if own else "schedule"
                ends = f"at which step a {stage.schedule} ends"
                reason = f"minutes do not say {ends}: add epochs or max_steps"
                raise broken_rule(key, reason, stage.schedule)
        return self
