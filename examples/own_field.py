"""A field of one's own, with its vector-Jacobian product written out."""

import torch
from torch import Tensor, nn

from rnode_dyn import ExactDivergence, KineticEnergy, RegularizedFlow


class PotentialField(nn.Module):
    """f(t, x) = −∇φ(x) for φ(x) = Σ log cosh(Wx + b): its Jacobian −Wᵀ diag(σ') W is symmetric.

    Args:
        dim: Size of the state.
        hidden: Terms of the sum.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, hidden)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        return -torch.tanh(self.linear(x)) @ self.linear.weight

    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        weight = self.linear.weight
        tanh = torch.tanh(self.linear(x))
        return -tanh @ weight, -((1 - tanh**2) * (v @ weight.T)) @ weight


torch.manual_seed(0)
field = PotentialField(dim=3, hidden=8)
t, x, v = torch.tensor(0.5), torch.randn(4, 3), torch.randn(4, 3)

# The product by hand is what automatic differentiation says.
value, product = field.value_and_vjp(t, x, v)
expected, pull_back = torch.func.vjp(lambda state: field(t, state), x)
torch.testing.assert_close(value, expected)
torch.testing.assert_close(product, pull_back(v)[0])

flow = RegularizedFlow(field, divergence=ExactDivergence(), regularizers=[KineticEnergy(0.01)])
z, log_det, penalties = flow(x)
print(log_det, penalties["kinetic_energy"])
