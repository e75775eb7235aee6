"""What has been found of an event so far."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.events.moment import Moment
from rnode_dyn.numerics.stepping.by_sample.step import rows


@dataclass
class Found:
    """The occurrences of one event, each sample's in their order.

    Attributes:
        counts: How many each sample has had, ``(batch,)``.
        places: Places in the batch, and the number of each occurrence, of each entry of the rest.
        times: The times.
        states: The states.
    """

    counts: np.ndarray
    places: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def note(self, samples: np.ndarray, moment: Moment) -> None:
        """Note one occurrence of each of these samples."""
        self.places.append((self.counts[samples], samples))
        self.counts[samples] += 1
        self.times.append(moment.t)
        self.states.append(moment.x)

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return times ``(count, batch)`` and states ``(count, batch, *event)``, NaN for none."""
        batch, most = len(like), int(self.counts.max())
        times = like.new_full((most * batch,), torch.nan)
        states = like.new_full((most * batch, *like.shape[1:]), torch.nan)
        if self.places:
            flat = np.concatenate([number * batch + samples for number, samples in self.places])
            index = rows(flat, like)
            times = times.index_copy(0, index, torch.cat(self.times))
            states = states.index_copy(0, index, torch.cat(self.states))
        return times.reshape(most, batch), states.reshape(most, *like.shape)
