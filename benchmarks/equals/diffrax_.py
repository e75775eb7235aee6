"""The problems in diffrax, each compiled as a whole by jax."""

# ruff: noqa: D103
import diffrax as dfx
import jax
import optimistix
from problems import DRAG, GRAVITY, RATES, ROBERTSON, STIFFNESS, damping, samples, weights
from problems import PROBLEMS as P

jax.config.update("jax_enable_x64", True)
jnp = jax.numpy


def start(name):
    return jnp.array(P[name].start)


def solve(field, method, tolerance, end, x0, args=None, atol=None, **more):
    control = dfx.PIDController(tolerance, tolerance if atol is None else atol)
    term, end = dfx.ODETerm(field), jnp.asarray(end, x0.dtype)
    how = {"stepsize_controller": control, "max_steps": 16**4, **more}
    return dfx.diffeqsolve(term, method, 0.0 * end, end, None, x0, args, **how)


def prey(see):
    @see
    def field(t, x, args):
        u, v = x
        return jnp.array([1.5 * u - u * v, u * v - 3 * v])

    @jax.jit
    def end(x0):
        return solve(field, dfx.Tsit5(), 1e-6, P["prey"].end, x0).ys[-1]

    return lambda: (end(start("prey")), None)


def orbit(see):
    @see
    def field(t, x, args):
        q, p = x[:2], x[2:]
        return jnp.concatenate([p, -q / jnp.linalg.norm(q) ** 3])

    @jax.jit
    def end(x0):
        return solve(field, dfx.Dopri8(), 1e-10, P["orbit"].end, x0).ys[-1]

    return lambda: (end(start("orbit")), None)


def pol(see):
    @see
    def field(t, x, args):
        u, v = x
        return jnp.array([v, STIFFNESS * (1 - u**2) * v - u])

    @jax.jit
    def end(x0):
        return solve(field, dfx.Kvaerno5(), 1e-6, P["pol"].end, x0).ys[-1]

    return lambda: (end(start("pol")), None)


def robertson(see):
    slow, fast, back = ROBERTSON

    @see
    def field(t, x, args):
        u, v, w = x
        first, second = slow * u - back * v * w, fast * v**2
        return jnp.array([-first, first - second, second])

    @jax.jit
    def end(x0):
        return solve(field, dfx.Kvaerno5(), 1e-6, P["robertson"].end, x0, atol=1e-10).ys[-1]

    return lambda: (end(start("robertson")), None)


def fall(see):
    @see
    def field(t, x, gravity):
        return jnp.array([x[1], -gravity + DRAG * x[1] ** 2])

    def ground(t, y, args, **kwargs):
        return y[0]

    @jax.jit
    @jax.value_and_grad
    def time(gravity):
        event = dfx.Event(ground, optimistix.Newton(1e-10, 1e-10))
        end, x0 = P["fall"].end, start("fall")
        return solve(field, dfx.Tsit5(), 1e-8, end, x0, gravity, event=event).ts[-1]

    return lambda: time(GRAVITY)


def batch(see):
    @see
    def field(t, x, mu):
        u, v = x
        return jnp.array([v, mu * (1 - u**2) * v - u])

    @jax.jit
    @jax.vmap
    def end(mu):
        return solve(field, dfx.Tsit5(), 1e-6, P["batch"].end, start("batch"), mu).ys[-1]

    mu = jnp.asarray(damping())
    return lambda: (end(mu)[::100], None)


def neural(see):
    @see
    def field(t, x, parts):
        a, b, c, d, e, f = parts
        return jnp.tanh(jnp.tanh(x @ a + b) @ c + d) @ e + f

    @jax.jit
    def both(parts, x0):
        def loss(parts):
            x = solve(field, dfx.Tsit5(), 1e-5, 1.0, x0, parts).ys[-1]
            return jnp.square(x).mean(), x

        found, x = jax.grad(loss, has_aux=True)(parts)
        return x, found

    parts, x0 = [jnp.asarray(part) for part in weights()], jnp.asarray(samples())
    return lambda: both(parts, x0)


def rates(see):
    @see
    def field(t, x, p):
        (a, b, c, d), (u, v) = p, x
        return jnp.array([a * u - b * u * v, d * u * v - c * v])

    @jax.jit
    def both(p):
        def total(p):
            x = solve(field, dfx.Tsit5(), 1e-6, P["rates"].end, start("rates"), p).ys[-1]
            return x.sum(), x

        found, x = jax.grad(total, has_aux=True)(p)
        return x, found

    return lambda: both(jnp.array(RATES))
