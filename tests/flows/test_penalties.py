"""``penalty`` gives the loss what belongs to it: of the last forward pass, each call once."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnode_dyn import KineticEnergy, MLPField, RegularizedODE, penalty
from tests.flows.cases import FEW_STEPS, randomize


def speeding(weight: float = 1.0) -> RegularizedODE:
    """A layer whose penalty is weight · ½ mean x(0)² (e² − 1)/2, up to its steps."""
    return RegularizedODE(Growth(), FEW_STEPS, [KineticEnergy(weight)])


class Growth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.rate * x


def alone(layer: RegularizedODE, x: Tensor) -> Tensor:
    """The penalty of one call, by a layer that has seen no other."""
    fresh = copy.deepcopy(layer)
    fresh(x)
    return penalty(fresh)


def test_nothing_is_zero() -> None:
    for network in (nn.Linear(2, 2), nn.Identity(), speeding(), nn.Sequential(speeding())):
        total = penalty(network)
        assert total.shape == ()
        assert total == 0
    assert penalty(nn.Linear(2, 2).half()).dtype == torch.float16
    with pytest.raises(TypeError, match="network is 3"):
        penalty(3)  # type: ignore[arg-type]


def test_no_regularizers_are_zero_too() -> None:
    layer = RegularizedODE(MLPField(2), FEW_STEPS)
    layer(torch.randn(3, 2))
    assert penalty(layer) == 0


def test_layers_at_any_depth_are_added() -> None:
    x = torch.randn(5, 2)
    first, second = speeding(0.1), speeding(0.3)
    network = nn.Sequential(nn.Sequential(first), nn.ModuleDict({"inner": second})["inner"])
    network(x)
    by_hand = alone(first, x) + alone(second, copy.deepcopy(first)(x))
    torch.testing.assert_close(penalty(network), by_hand)


def test_calls_of_one_layer_in_a_pass_are_added() -> None:
    x, layer = torch.randn(5, 2), speeding()
    by_hand = alone(layer, x) + alone(layer, copy.deepcopy(layer)(x))
    result = nn.Sequential(layer, nn.Identity(), layer)(x)
    torch.testing.assert_close(penalty(layer), by_hand)
    result = layer(layer(x))
    torch.testing.assert_close(penalty(layer), by_hand)
    one, other = layer(x), layer(2 * x)  # siblings, both alive
    torch.testing.assert_close(penalty(layer), alone(layer, x) + alone(layer, 2 * x))
    del result, one, other


def test_an_earlier_pass_does_not_count() -> None:
    layer = speeding()
    network = nn.Sequential(layer, nn.Linear(2, 1))
    x, y = torch.randn(5, 2), torch.randn(7, 2)
    network(x)  # thrown away
    network(y)
    torch.testing.assert_close(penalty(network), alone(layer, y))
    torch.testing.assert_close(penalty(network), alone(layer, y))  # asked again
    result = network(x)  # asked for in the meantime
    torch.testing.assert_close(penalty(network), alone(layer, x))
    result.sum().backward()  # and differentiated
    kept = network(y)
    kept.sum().backward()
    network(x)
    torch.testing.assert_close(penalty(network), alone(layer, x))


def test_an_earlier_pass_of_two_layers_does_not_count() -> None:
    network = nn.Sequential(speeding(), speeding())
    x, y = torch.randn(5, 2), torch.randn(7, 2)
    network(x)
    network(y)
    found, fresh = penalty(network), copy.deepcopy(network)
    fresh(y)
    torch.testing.assert_close(found, penalty(fresh))


def test_training_steps_do_not_meet() -> None:
    network = nn.Sequential(nn.Linear(2, 2), speeding(0.1))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (network(torch.randn(5, 2)).square().mean() + penalty(network)).backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            network(torch.randn(9, 2))
            network(torch.randn(9, 2))
        network.train()
    x = torch.randn(5, 2)
    kept = network(x)
    torch.testing.assert_close(penalty(network), alone(network[1], network[0](x)))  # type: ignore[arg-type]
    del kept


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_value_is_the_same(context: type) -> None:
    layer, x = speeding(), torch.randn(5, 2)
    layer(x)
    with_graph = penalty(layer)
    with context():
        layer(x)
        value = penalty(layer)
    torch.testing.assert_close(value, with_graph.detach())
    assert not value.requires_grad
    assert with_graph.requires_grad


def test_copies_begin_without_calls() -> None:
    layer, x = randomize(speeding()), torch.randn(5, 2)
    result = layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert penalty(copied) == 0
        torch.testing.assert_close(copied(x), result)
        torch.testing.assert_close(penalty(copied), penalty(layer))
    assert set(layer.state_dict()) == {"field.module.rate"}


def test_replicas_give_the_mean_over_the_whole_batch() -> None:
    layer, x = speeding(), torch.randn(6, 2)
    network = nn.Sequential(layer, layer)
    kept = network(x)
    whole = penalty(network)
    replicas = [network._replicate_for_data_parallel() for _ in range(2)]
    for replica in replicas:
        shared = layer._replicate_for_data_parallel()
        for name in replica._modules:
            replica._modules[name] = shared
    results = [replica(part) for replica, part in zip(replicas, (x[:2], x[2:]), strict=True)]
    torch.testing.assert_close(penalty(network), whole)
    del kept, results


def test_checkpointing_does_not_count_twice() -> None:
    layer, x = speeding(), torch.randn(5, 2, requires_grad=True)
    network = nn.Sequential(layer, nn.Linear(2, 1))
    (network(x).sum() + penalty(network)).backward()
    expected = copy.deepcopy(layer.field.module.rate.grad)  # type: ignore[union-attr]
    for _ in range(2):
        network.zero_grad()
        (checkpoint(network, x, use_reentrant=False).sum() + penalty(network)).backward()  # type: ignore[union-attr]
        torch.testing.assert_close(layer.field.module.rate.grad, expected)  # type: ignore[union-attr]
    network(x)
    torch.testing.assert_close(penalty(network), alone(layer, x))
