"""The problems in torchdiffeq. A function's lines are what a user would write, and are counted."""

# ruff: noqa: D103
import torch
from networks import Net
from problems import (
    DRAG,
    GRAVITY,
    PROBLEMS,
    RATES,
    ROBERTSON,
    STIFFNESS,
    damping,
    samples,
    weights,
)  # fmt: skip
from torchdiffeq import odeint, odeint_event

P = PROBLEMS


def start(name):
    return torch.tensor([P[name].start], dtype=torch.float64)


def prey(see):
    @see
    def field(t, x):
        u, v = x.unbind(-1)
        return torch.stack([1.5 * u - u * v, u * v - 3 * v], -1)

    span = torch.tensor([0.0, P["prey"].end], dtype=torch.float64)
    how = {"method": "dopri5", "rtol": 1e-6, "atol": 1e-6}
    return lambda: (odeint(field, start("prey"), span, **how)[-1, 0], None)


def orbit(see):
    @see
    def field(t, x):
        q, p = x.split(2, -1)
        return torch.cat([p, -q / q.norm(dim=-1, keepdim=True) ** 3], -1)

    span = torch.tensor([0.0, P["orbit"].end], dtype=torch.float64)
    how = {"method": "dopri8", "rtol": 1e-10, "atol": 1e-10}
    return lambda: (odeint(field, start("orbit"), span, **how)[-1, 0], None)


def pol(see):
    @see
    def field(t, x):
        u, v = x.unbind(-1)
        return torch.stack([v, STIFFNESS * (1 - u**2) * v - u], -1)

    span = torch.tensor([0.0, P["pol"].end], dtype=torch.float64)
    how = {"method": "scipy_solver", "rtol": 1e-6, "atol": 1e-6, "options": {"solver": "Radau"}}
    return lambda: (odeint(field, start("pol"), span, **how)[-1, 0], None)


def robertson(see):
    slow, fast, back = ROBERTSON

    @see
    def field(t, x):
        u, v, w = x.unbind(-1)
        first, second = slow * u - back * v * w, fast * v**2
        return torch.stack([-first, first - second, second], -1)

    span = torch.tensor([0.0, P["robertson"].end], dtype=torch.float64)
    how = {"method": "scipy_solver", "rtol": 1e-6, "atol": 1e-10, "options": {"solver": "Radau"}}
    return lambda: (odeint(field, start("robertson"), span, **how)[-1, 0], None)


def fall(see):
    gravity = torch.tensor(GRAVITY, dtype=torch.float64, requires_grad=True)

    @see
    def field(t, x):
        return torch.stack([x[:, 1], -gravity + DRAG * x[:, 1] ** 2], -1)

    zero = torch.zeros((), dtype=torch.float64)
    how = {"method": "dopri5", "rtol": 1e-8, "atol": 1e-8}

    def go():
        time, _ = odeint_event(field, start("fall"), zero, event_fn=lambda t, x: x[:, 0], **how)
        return time, torch.autograd.grad(time.sum(), gravity)[0]

    return go


def batch(see):
    mu = torch.from_numpy(damping())[:, None]

    @see
    def field(t, x):
        u, v = x.split(1, -1)
        return torch.cat([v, mu * (1 - u**2) * v - u], -1)

    span = torch.tensor([0.0, P["batch"].end], dtype=torch.float64)
    how = {"method": "dopri5", "rtol": 1e-6, "atol": 1e-6}
    x0 = start("batch").expand(len(mu), 2)
    return lambda: (odeint(field, x0, span, **how)[-1, ::100], None)


def neural(see):
    net = Net(weights())
    parts, net = list(net.parameters()), see(net)
    x0, span = torch.from_numpy(samples()), torch.tensor([0.0, 1.0])
    how = {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5}

    def go():
        x = odeint(net, x0, span, **how)[-1]
        return x, torch.autograd.grad(x.square().mean(), parts)

    return go


def rates(see):
    p = torch.tensor(RATES, dtype=torch.float64, requires_grad=True)

    @see
    def field(t, x):
        (a, b, c, d), (u, v) = p, x.unbind(-1)
        return torch.stack([a * u - b * u * v, d * u * v - c * v], -1)

    span = torch.tensor([0.0, P["rates"].end], dtype=torch.float64)
    how = {"method": "dopri5", "rtol": 1e-6, "atol": 1e-6}

    def go():
        x = odeint(field, start("rates"), span, **how)[-1, 0]
        return x, torch.autograd.grad(x.sum(), p)[0]

    return go
