"""Two examples for the end of each command's help, short enough for a narrow terminal."""

_EXAMPLES = {
    "": ("rnode-dyn run moons", "rnode-dyn show mnist"),
    "run": (
        "rnode-dyn run moons --set train.epochs=5",
        "rnode-dyn run --resume runs/moons-20260101-120000",
    ),
    "evaluate": (
        "rnode-dyn evaluate moons",
        "rnode-dyn evaluate moons --exact --split validation",
    ),
    "sample": (
        "rnode-dyn sample moons -n 1000",
        "rnode-dyn sample quickstart --temperature 0.7 --strip",
    ),
    "score": (
        "rnode-dyn score power rows.csv",
        "rnode-dyn score power rows.npy --json",
    ),
    "export": (
        "rnode-dyn export moons --step 0.05",
        "rnode-dyn export moons --step 0.05 --format onnx",
    ),
    "report": (
        "rnode-dyn report moons",
        "rnode-dyn report runs/one runs/other --x steps",
    ),
    "sweep": (
        "rnode-dyn sweep moons --seeds 3",
        "rnode-dyn sweep moons --grid train.learning_rate=1e-3,3e-3",
    ),
    "show": (
        "rnode-dyn show mnist",
        "rnode-dyn show mnist --set model.blocks=4 --flops 1e13",
    ),
    "bench": (
        "rnode-dyn bench moons",
        "rnode-dyn bench mnist --batch-size 50 --rounds 3",
    ),
    "recipes": ("rnode-dyn recipes", "rnode-dyn recipes --json"),
}


def examples_of(command: str) -> str:
    r"""Return what a command's help ends with; lines are parted as rich parts them.

    Example:
        >>> examples_of("recipes").split("\n\n")
        ['Examples:', 'rnode-dyn recipes', 'rnode-dyn recipes --json']
    """
    return "\n\n".join(["Examples:", *_EXAMPLES[command]])
