"""Other people's solvers, and a loop of our own in another compiler, on the workloads of `pinnsim.benchmark`.

Each function prepares a run and returns a function without arguments that does the work and returns states, (lane,
time, species), in the workload's own units. Peers that are not installed raise `ImportError`: the extra `bench` has
them.
"""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from pinnsim.benchmark import LEAK, Workload
from pinnsim.lanes import lanes_last

Run = Callable[[], Any]


def field(index: jax.Array, sign: jax.Array, kd: jax.Array, rates: dict[str, jax.Array], into: jax.Array, y: jax.Array):
    """The right-hand side of one lane as anyone would write it."""
    u, s, p = jnp.split(y, 3)
    x = jnp.square(p[index] / kd)
    h = x / (1 + x)
    active = jnp.mean(jnp.where(sign > 0, h, 1 - h), axis=1)
    return jnp.concatenate(
        [
            rates["alpha"] * (LEAK + active) - rates["beta"] * u,
            into * u - rates["gamma"] * s,
            rates["kp"] * s - rates["delta"] * p,
        ]
    )


def diffrax_vmap(work: Workload, times: np.ndarray, rtol: float, atol: float, solver: Any = None) -> Run:
    """An adaptive diffrax solve of one lane, under vmap."""
    given = jax.tree.map(jnp.asarray, (work.source, work.sign, work.kd))
    saved, chosen = jnp.asarray(times), dfx.Tsit5() if solver is None else solver

    @jax.jit
    def run(rates: dict[str, jax.Array], into: jax.Array, begin: jax.Array) -> jax.Array:
        def one(rates: dict[str, jax.Array], into: jax.Array, y: jax.Array) -> jax.Array:
            return dfx.diffeqsolve(
                dfx.ODETerm(lambda t, y, args: field(*given, rates, into, y)),
                chosen,
                saved[0],
                saved[-1],
                None,
                y,
                saveat=dfx.SaveAt(ts=saved),
                stepsize_controller=dfx.PIDController(rtol=rtol, atol=atol),
                max_steps=100_000,
                throw=False,
            ).ys

        return jax.vmap(one)(rates, into, begin)

    arguments = jax.tree.map(jnp.asarray, (work.rates, work.into, work.begin))
    return lambda: run(*arguments)


def diffrax_gradient(
    field: Callable[..., jax.Array],
    numbers: Any,
    rates: Any,
    begin: jax.Array,
    times: jax.Array,
    target: jax.Array,
    max_steps: int,
    how: str,
) -> Callable[[float], Run]:
    """By tolerance, the mean-square loss and its gradient for `field(numbers, rates, y)`: lanes by `vmap`, with one
    step for all of them ("shared", lanes last), or by `vmap` with the adjoint equation ("backsolve")."""

    def solved(slope: Any, rates: Any, y: jax.Array, rtol: jax.Array, norm: Any, adjoint: Any) -> jax.Array:
        return dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, args: slope(*args, y)),
            dfx.Tsit5(),
            times[0],
            times[-1],
            None,
            y,
            args=rates,
            saveat=dfx.SaveAt(ts=times[1:]),
            stepsize_controller=dfx.PIDController(rtol=rtol, atol=0.01 * rtol, norm=norm),
            adjoint=adjoint,
            max_steps=max_steps,
        ).ys

    def rms(error: Any) -> jax.Array:
        return jnp.sqrt(jnp.mean(ravel_pytree(error)[0] ** 2))

    def states(numbers: Any, rates: Any, rtol: jax.Array) -> jax.Array:
        if how == "shared":
            every = lanes_last(lambda shared, lane: field(shared, *lane))
            given = (numbers, jax.tree.map(jnp.transpose, rates))
            worst = jax.vmap(rms, -1)
            norm, adjoint = lambda error: jnp.max(worst(error)), dfx.RecursiveCheckpointAdjoint()
            slope = lambda numbers, rates, y: every(numbers, (rates, y))  # noqa: E731
            return jnp.moveaxis(solved(slope, given, begin.T, rtol, norm, adjoint), -1, 0)
        adjoint = dfx.BacksolveAdjoint() if how == "backsolve" else dfx.RecursiveCheckpointAdjoint()
        return jax.vmap(lambda r, y: solved(field, (numbers, r), y, rtol, rms, adjoint))(rates, begin)

    def loss(numbers: Any, rates: Any, rtol: jax.Array) -> jax.Array:
        return jnp.mean((states(numbers, rates, rtol) - target) ** 2)

    asked = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return lambda rtol: lambda: asked(numbers, rates, jnp.asarray(rtol))


WIDTH = 8  # lanes of a numba block: a vector register's worth, twice


def numba_loop(work: Workload, times: np.ndarray, rtol: float, atol: float) -> Run:
    """Tsitouras' pair in plain loops over blocks of lanes, compiled for this processor and spread over its cores: what
    a careful programmer gets without a library. Steps end at saved times."""
    loop = _compiled_loop()
    genes, lanes = work.genes, work.lanes
    blocks = -(-lanes // WIDTH)

    def blocked(values: np.ndarray) -> np.ndarray:
        rows = np.concatenate([values, np.repeat(values[-1:], blocks * WIDTH - lanes, axis=0)])
        return np.ascontiguousarray(rows.reshape(blocks, WIDTH, -1).transpose(0, 2, 1))

    rates = np.stack([blocked(work.rates[name]) for name in ("alpha", "beta", "gamma", "kp", "delta")], axis=1)
    begin, saved = blocked(work.begin), np.asarray(times, float)
    flips = np.where(work.sign > 0, 0.0, 1.0)

    def run() -> np.ndarray:
        out = np.empty((blocks, len(saved), 3 * genes, WIDTH))
        loop(work.source, flips, 1 / work.kd, rates, begin, saved, rtol, atol, out)
        return out.transpose(0, 3, 1, 2).reshape(blocks * WIDTH, len(saved), 3 * genes)[:lanes]

    return run


def _compiled_loop() -> Callable[..., None]:
    import numba

    stages = np.zeros((7, 7))
    stages[1, :1] = (0.161,)
    stages[2, :2] = (-0.008480655492356989, 0.335480655492357)
    stages[3, :3] = (2.8971530571054935, -6.359448489975075, 4.3622954328695815)
    stages[4, :4] = (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525)
    stages[5, :5] = (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383)
    stages[6, :6] = (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
                     2.324710524099774)  # fmt: skip
    errors = np.array([0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629,
                       -0.5823571654525552, 0.45808210592918697, -0.015151515151515152])  # fmt: skip

    @numba.njit(fastmath=True, inline="always")
    def slope(index, flips, inverse, rates, y, k, scratch):
        genes, regulators = index.shape
        for g in range(genes):
            for lane in range(WIDTH):
                scratch[lane] = 0.0
            for r in range(regulators):
                source, scale, flip = 2 * genes + index[g, r], inverse[g, r], flips[g, r]
                for lane in range(WIDTH):
                    x = y[source, lane] * scale
                    x = x * x
                    scratch[lane] += (flip + (1.0 - flip) * x) / (1.0 + x)
            for lane in range(WIDTH):
                u, s, p = y[g, lane], y[genes + g, lane], y[2 * genes + g, lane]
                made = rates[0, g, lane] * (LEAK + scratch[lane] / regulators)
                k[g, lane] = made - rates[1, g, lane] * u
                k[genes + g, lane] = rates[1, g, lane] * u - rates[2, g, lane] * s
                k[2 * genes + g, lane] = rates[3, g, lane] * s - rates[4, g, lane] * p

    @numba.njit(fastmath=True, parallel=True)
    def loop(index, flips, inverse, rates, begin, saved, rtol, atol, out):
        blocks, species = begin.shape[0], begin.shape[1]
        for b in numba.prange(blocks):
            y, new = begin[b].copy(), np.empty((species, WIDTH))
            k, scratch = np.empty((7, species, WIDTH)), np.empty(WIDTH)
            time, step, before = np.full(WIDTH, saved[0]), np.full(WIDTH, 0.05), np.ones(WIDTH)
            h, error = np.empty(WIDTH), np.empty(WIDTH)
            slope(index, flips, inverse, rates[b], y, k[0], scratch)
            out[b, 0] = y
            for save in range(1, len(saved)):
                end = saved[save]
                while time.min() < end:
                    for lane in range(WIDTH):
                        left = end - time[lane]
                        h[lane] = (
                            left if step[lane] >= left else (0.5 * left if step[lane] > 0.5 * left else step[lane])
                        )
                        error[lane] = 0.0
                    for stage in range(1, 7):
                        for i in range(species):
                            for lane in range(WIDTH):
                                total = 0.0
                                for j in range(stage):
                                    total += stages[stage, j] * k[j, i, lane]
                                new[i, lane] = y[i, lane] + h[lane] * total
                        slope(index, flips, inverse, rates[b], new, k[stage], scratch)
                    for i in range(species):
                        for lane in range(WIDTH):
                            total = 0.0
                            for j in range(7):
                                total += errors[j] * k[j, i, lane]
                            size = atol + rtol * max(abs(y[i, lane]), abs(new[i, lane]))
                            error[lane] += (h[lane] * total / size) ** 2
                    for lane in range(WIDTH):
                        worst = max(np.sqrt(error[lane] / species), 1e-8)
                        good = worst < 1.0
                        factor = 0.9 * worst**-0.14 * before[lane] ** 0.08 if good else 0.9 * worst**-0.2
                        if h[lane] > 0.0:
                            wish = h[lane] * min(max(factor, 0.2), 10.0 if good else 1.0)
                            step[lane] = max(wish, step[lane]) if good and h[lane] < step[lane] else wish
                        if good:
                            before[lane] = worst
                            time[lane] = end if h[lane] >= end - time[lane] else time[lane] + h[lane]
                        error[lane] = 1.0 if good else 0.0
                    for i in range(species):
                        for lane in range(WIDTH):
                            if error[lane] > 0.0:
                                y[i, lane] = new[i, lane]
                                k[0, i, lane] = k[6, i, lane]
                out[b, save] = y

    return loop


def roadrunner_loop(work: Workload, times: np.ndarray, rtol: float, atol: float) -> Run:
    """libroadrunner's CVODE, lane after lane, on one core."""
    import roadrunner

    model = roadrunner.RoadRunner(_sbml(work))
    model.integrator = "cvode"
    model.integrator.setValue("relative_tolerance", rtol)
    model.integrator.setValue("absolute_tolerance", atol)
    model.integrator.setValue("maximum_num_steps", 1_000_000)
    genes = work.genes
    names = [f"{layer}{g}" for layer in "usp" for g in range(genes)]
    model.timeCourseSelections = names
    constants = {name: i for i, name in enumerate(model.model.getGlobalParameterIds())}
    places = [
        constants[f"{rate}{g}"] for rate in ("alpha", "beta", "gamma", "kp", "delta", "into") for g in range(genes)
    ]
    own = np.concatenate([*work.rates.values(), work.into], axis=1)
    begins = [constants[name] for name in names if name in constants]

    def run() -> np.ndarray:
        out = np.empty((work.lanes, len(times), 3 * genes))
        for lane in range(work.lanes):
            model.reset()
            model.model.setGlobalParameterValues(places, own[lane])
            model.model.setGlobalParameterValues(begins, work.begin[lane])
            out[lane] = np.asarray(model.simulate(times[0], times[-1], len(times)))
        return out

    return run


def _sbml(work: Workload) -> str:
    """The workload as SBML: parameters with rate rules."""

    def apply(operator: str, *parts: str) -> str:
        return f"<apply><{operator}/>{''.join(parts)}</apply>"

    def number(value: float) -> str:
        return f"<cn>{value!r}</cn>"

    def name(value: str) -> str:
        return f"<ci> {value} </ci>"

    genes, regulators = work.source.shape
    rules, parameters = [], []
    for g in range(genes):
        shares = []
        for r in range(regulators):
            x = apply("divide", name(f"p{work.source[g, r]}"), number(float(work.kd[g, r])))
            square = apply("times", x, x)
            top = square if work.sign[g, r] > 0 else number(1.0)
            shares.append(apply("divide", top, apply("plus", number(1.0), square)))
        active = apply("plus", number(LEAK), apply("divide", apply("plus", *shares), number(float(regulators))))
        flows = {
            f"u{g}": (apply("times", name(f"alpha{g}"), active), apply("times", name(f"beta{g}"), name(f"u{g}"))),
            f"s{g}": tuple(
                apply("times", name(f"{k}{g}"), name(f"{v}{g}")) for k, v in (("into", "u"), ("gamma", "s"))
            ),
            f"p{g}": tuple(apply("times", name(f"{k}{g}"), name(f"{v}{g}")) for k, v in (("kp", "s"), ("delta", "p"))),
        }
        for variable, (gain, loss) in flows.items():
            math = f'<math xmlns="http://www.w3.org/1998/Math/MathML">{apply("minus", gain, loss)}</math>'
            rules.append(f'<rateRule variable="{variable}">{math}</rateRule>')
        parameters += [f'<parameter id="{rate}{g}" value="1" constant="true"/>' for rate in (*work.rates, "into")]
        parameters += [f'<parameter id="{layer}{g}" value="0.1" constant="false"/>' for layer in "usp"]
    return (
        '<?xml version="1.0" encoding="UTF-8"?><sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" '
        f'version="1"><model id="network"><listOfParameters>{"".join(parameters)}</listOfParameters>'
        f"<listOfRules>{''.join(rules)}</listOfRules></model></sbml>"
    )
