"""Velocities that are expected, the pixels being given, instead of drawn with their noise."""

from torch import Tensor, nn

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.augmented_flow import Augmented
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.normal_pieces import NormalPieces
from rnode_dyn.flows.straight_paths import Leg
from rnode_dyn.flows.three_bells import ThreeBells


def check_pixels(model: nn.Module, event: Event | None) -> None:
    """Refuse what has no pixels whose noise could be averaged.

    Raises:
        TypeError: if the flow is augmented.
        ValueError: if nothing says what the data are.
    """
    if isinstance(model, Augmented):
        raise TypeError(
            'targets is "expected", and the data of an augmented flow have noise beside their '
            'pixels, of which nothing is known: write targets = "drawn".'
        )
    if event is None:
        raise ValueError(
            'targets is "expected", and nothing says which pixels the data are: write '
            "event=Event(shape, levels)."
        )


def pieces_of_pixels(model: MultiscaleFlow, u: Tensor, event: Event) -> NormalPieces:
    """Return the piece of a bell curve that the noise of each pixel is drawn from.

    Args:
        model: A flow that begins with :class:`~rnode_dyn.ThreeBells`.
        u: Dequantized pixels, ``(batch, *event)``.
        event: What one sample looks like.

    Returns:
        Pieces ``(batch, dimension)``.

    Raises:
        ValueError: if the flow begins otherwise, or samples are no pixels.
    """
    bells, levels = _only_step(model), event.levels
    if not isinstance(bells, ThreeBells) or levels is None:
        steps = [type(step).__name__ for step in model.preprocess.steps]
        begins = " and ".join(steps) or "its blocks"
        what = "continuous" if levels is None else f"of {levels} levels"
        raise ValueError(
            'targets = "expected" wants pixels behind ThreeBells alone, where their noise is a '
            f"piece of a bell curve; the data are {what}, and the flow begins with {begins}: write "
            'targets = "drawn".'
        )
    pixels = (u.flatten(1) * levels).long().clamp(0, levels - 1)
    pieces = bells.pieces(levels)
    return NormalPieces(*(part.to(u) for part in pieces)).at(pixels)


def _only_step(model: MultiscaleFlow) -> nn.Module | None:
    """Return what stands in front of the blocks, if it is one transform and no more."""
    steps = list(model.preprocess.steps)
    return steps[0] if len(steps) == 1 else None


def expected_velocity(leg: Leg, x: Tensor, t: Tensor, pieces: NormalPieces) -> Tensor:
    """Return how fast paths are expected to move that are at ``x``, the pixels being given.

    The mean over all that is unknown but the pixels is the same as with drawn velocities, so that
    what is learned is the same; what is left to average out is which pixels it may have been.

    Args:
        leg: The stretch of the paths.
        x: Where the paths are, ``(batch, *event)`` in the block's layout.
        t: Times within the block, ``(batch,)``.
        pieces: Of all coordinates, ``(batch, dimension)``.
    """
    left, speed = leg.progress(t)
    where = leg.coordinates.flatten()
    own = NormalPieces(*(part[:, where].reshape(x.shape) for part in pieces))
    return speed * own.velocity(x, 1 - left)
