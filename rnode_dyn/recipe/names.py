"""The names that a recipe may choose from: data sets, algorithms, activations and the like."""

from typing import Literal, get_args

DatasetName = Literal[
    "digits",
    "moons",
    "pinwheel",
    "checkerboard",
    "8gaussians",
    "spirals",
    "rings",
    "picture",
    "mnist",
    "cifar10",
    "svhn",
    "celeba",
    "celebahq",
    "imagenet64",
    "npy",
    "folder",
    "fake",
]
DATASETS: tuple[str, ...] = get_args(DatasetName)

BadFileName = Literal["refuse", "skip"]

ConditionName = Literal["label"]
DequantizationName = Literal["uniform", "variational"]
FieldKind = Literal["conv", "mlp", "unet"]
ActivationName = Literal["softplus", "tanh", "elu", "silu", "sigmoid"]

FixedAlgorithmName = Literal[
    "euler",
    "midpoint",
    "heun",
    "rk4",
    "rk38",
    "ralston2",
    "ralston3",
    "ralston4",
    "ssprk33",
    "ssprk54",
]
AdaptiveAlgorithmName = Literal[
    "adaptive_heun", "bosh3", "dopri5", "tsit5", "dopri8", "bs5", "vern7", "vern9"
]
AlgorithmName = Literal[FixedAlgorithmName, AdaptiveAlgorithmName]

FIXED_ALGORITHMS: tuple[str, ...] = get_args(FixedAlgorithmName)
"""Algorithms without an error estimate: they cannot choose their own steps."""

COMPARES_STAGES = ("rk4", "dopri5", "tsit5", "dopri8", "bs5", "vern7", "vern9")
"""Algorithms with two stages at the same time, whose difference tells how stiff a field is."""

ADAPTIVE_KEYS = ("rtol", "atol", "first_step", "max_steps", "norm", "per_sample")
"""Keys of a solver's table that only mean something without a fixed `step`."""

LENGTH_KEYS = ("max_steps", "max_minutes", "epochs")
"""Keys that say when a training or a stage of it ends."""

UNET_KEYS = ("width", "levels", "growth", "depth", "attention", "skip")
"""Keys of a field's table that only mean something with `kind = "unet"`."""

PATH_KEYS = ("coupling", "times", "pace", "weighting", "targets")
"""Keys of a stage that only mean something in flow matching."""

SensitivityName = Literal["discrete", "checkpointed", "backsolve", "interpolating", "reversible"]
BY_SAMPLE = ("discrete", "checkpointed")
"""Sensitivities that differentiate steps which every sample takes by itself."""

OF_THE_STEPS = ("discrete", "checkpointed")
"""Sensitivities that differentiate the very steps that the algorithm made."""

QuadratureName = Literal["stages", "gauss", "stratified"]
NormName = Literal["rms", "max"]
EstimatorName = Literal["hutchinson", "exact"]
NoiseName = Literal["gaussian", "rademacher"]
ScheduleName = Literal["constant", "cosine", "linear", "cooldown", "inverse-sqrt"]
ENDING_SCHEDULES = ("cosine", "linear", "cooldown")
"""Schedules that have to know at which step a training ends."""

OPTIMIZERS = (
    "adam",
    "adamw",
    "adamax",
    "nadam",
    "radam",
    "adagrad",
    "adadelta",
    "adafactor",
    "rmsprop",
    "rprop",
    "sgd",
    "asgd",
    "muon",
)
"""Muon, and torch's optimizers that take dense gradients, and one of each per step."""

LoggerKind = Literal["csv", "tensorboard", "wandb", "mlflow"]
ObjectiveName = Literal["likelihood", "flow-matching"]
CouplingName = Literal["independent", "minibatch-ot", "reflow"]
TimesName = Literal["uniform", "stratified", "logit-normal", "near-data"]
WeightingName = Literal["even", "likelihood"]
TargetsName = Literal["drawn", "expected"]
AcceleratorName = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
PrecisionName = Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"]
OnNonFiniteName = Literal["stop", "skip"]

_BY_FORKING = (
    "its processes are copies of one that has the run open, and what they learn does not come "
    'back to it: write "ddp", which starts the command once for each device'
)
_BY_SHARDING = (
    "it cuts the weights in pieces, and checkpoints, averaged weights and the governor need them "
    'whole: write "ddp"; flows whose weights do not fit on a device are not trained here'
)
NO_STRATEGIES = {
    "ddp_spawn": _BY_FORKING,
    "ddp_fork": _BY_FORKING,
    "ddp_notebook": _BY_FORKING,
    "fsdp": _BY_SHARDING,
    "deepspeed": _BY_SHARDING,
}
"""How the names of Lightning's strategies begin that make no run, and why."""
