"""Other people's samplers on the workloads of `pinnsim.benchmark`: Langevin steps and exact jumps.

Each function prepares a run and returns a function without arguments that does the work and returns final states,
(cell, species). Peers that are not installed raise `ImportError`: the extra `bench` has them.
"""

import os
import sysconfig
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax
import numpy as np

from pinnsim.benchmark import LEAK, Workload
from pinnsim.perturbation import Perturbation

Run = Callable[[], Any]


def diffrax_langevin(kinetics: Any, start: jax.Array, until: float, size: float, cells: int) -> Run:
    """The chemical Langevin equation by Euler's method in diffrax, one normal per species, clipped in the rates."""
    plain = Perturbation.none(kinetics.table)
    plain = jax.tree.map(lambda a: jnp.asarray(a, start.dtype), plain)
    change = jnp.asarray(kinetics.stoichiometry(), start.dtype)

    def rates(x: jax.Array) -> jax.Array:
        return jnp.maximum(kinetics.propensities(jnp.zeros((), start.dtype), jnp.maximum(x, 0.0), plain), 0.0)

    @jax.jit
    def run(start: jax.Array, key: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            noise = dfx.UnsafeBrownianPath(jax.ShapeDtypeStruct(start.shape, start.dtype), key)
            drift = dfx.ODETerm(lambda t, x, args: change @ rates(x))
            # Every reaction of this model changes one species, so one normal per species has the same law.
            spread = dfx.ControlTerm(
                lambda t, x, args: lineax.DiagonalLinearOperator(jnp.sqrt((change**2) @ rates(x) / size)), noise
            )
            found = dfx.diffeqsolve(
                dfx.MultiTerm(drift, spread),
                dfx.Euler(),
                *jnp.asarray([0.0, until, 0.01], start.dtype),
                start,
                saveat=dfx.SaveAt(t1=True),
                adjoint=dfx.DirectAdjoint(),
                max_steps=int(round(until / 0.01)) + 2,
            )
            return jnp.maximum(found.ys, 0.0)

        return jax.vmap(one)(jax.random.split(key, cells))

    key = jax.random.key(1)
    return lambda: run(start, key)


def gillespy_toggle(until: float, cells: int) -> Run:
    """gillespy2's compiled exact solver on the toggle; whole numbers at the end, (cell, species)."""
    import gillespy2

    model = gillespy2.Model(name="toggle")
    names = ["u", "v"]
    model.add_species([gillespy2.Species(name=name, initial_value=10, mode="discrete") for name in names])
    for one, other in (names, names[::-1]):
        birth = f"50.0 / (1.0 + ({other} / 20.0) * ({other} / 20.0))"
        model.add_reaction(gillespy2.Reaction(name=f"birth_{one}", products={one: 1}, propensity_function=birth))
        model.add_reaction(gillespy2.Reaction(name=f"death_{one}", reactants={one: 1}, propensity_function=one))
    return _gillespy(model, names, until, cells)


def gillespy_telegraph(until: float, cells: int) -> Run:
    """gillespy2's compiled exact solver on ten telegraph genes."""
    import gillespy2

    model, genes = gillespy2.Model(name="telegraph"), range(10)
    layers = {"off": 1, "on": 0, "m": 0, "p": 0}
    names = [f"{layer}{g}" for layer in layers for g in genes]
    begin = [
        gillespy2.Species(name=name, initial_value=layers[name.rstrip("0123456789")], mode="discrete") for name in names
    ]
    model.add_species(begin)
    values = {"kon": 0.05, "koff": 0.1, "km": 10.0, "dm": 1.0, "kp": 5.0, "dp": 0.1}
    rates = {name: gillespy2.Parameter(name=name, expression=value) for name, value in values.items()}
    model.add_parameter(list(rates.values()))
    for g in genes:
        off, on, m, p = (f"{layer}{g}" for layer in layers)
        steps = [
            ({off: 1}, {on: 1}, "kon"),
            ({on: 1}, {off: 1}, "koff"),
            ({on: 1}, {on: 1, m: 1}, "km"),
            ({m: 1}, {}, "dm"),
            ({m: 1}, {m: 1, p: 1}, "kp"),
            ({p: 1}, {}, "dp"),
        ]
        for used, made, rate in steps:
            name = f"{rate}_{g}"
            model.add_reaction(gillespy2.Reaction(name=name, reactants=used, products=made, rate=rates[rate]))
    return _gillespy(model, names, until, cells)


def _gillespy(model: Any, names: list[str], until: float, cells: int) -> Run:
    import gillespy2

    model.timespan(gillespy2.TimeSpan(np.array([0.0, until])))
    # It builds with the interpreter behind a virtual environment, which does not see what is installed in it.
    here = sysconfig.get_paths()["purelib"]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here]))
    solver = gillespy2.SSACSolver(model=model)

    def run() -> np.ndarray:
        found = solver.run(number_of_trajectories=cells, seed=1)
        return np.array([[course[name][-1] for name in names] for course in found])

    return run


def torch_langevin(work: Workload, start: np.ndarray, until: float, size: float, cells: int) -> Run:
    """The same equation by Euler's method in torchsde, its Brownian motion told the step beforehand, as it advises."""
    import torch
    import torchsde

    single = {"dtype": torch.float32}
    kd, sign = (torch.tensor(a, **single) for a in (work.kd, work.sign))
    source = torch.tensor(work.source)
    alpha, decay, kp, delta = (torch.tensor(work.rates[n][0], **single) for n in ("alpha", "gamma", "kp", "delta"))

    class Langevin(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def rates(self, y: Any) -> tuple[Any, Any]:
            m, p = torch.clamp(y, min=0.0).chunk(2, dim=1)
            x = (p[:, source] / kd) ** 2
            h = x / (1 + x)
            active = torch.where(sign > 0, h, 1 - h).mean(dim=2)
            return torch.cat([alpha * (LEAK + active), kp * m], 1), torch.cat([decay * m, delta * p], 1)

        def f(self, t: Any, y: Any) -> Any:
            gain, loss = self.rates(y)
            return gain - loss

        def g(self, t: Any, y: Any) -> Any:
            gain, loss = self.rates(y)
            return torch.sqrt((gain + loss) / size)

    equation, span = Langevin(), torch.tensor([0.0, until], **single)
    begin = torch.tensor(start, **single).expand(cells, -1).contiguous()

    def run() -> np.ndarray:
        with torch.no_grad():
            noise = torchsde.BrownianInterval(t0=0.0, t1=until, size=tuple(begin.shape), dt=0.01, **single)
            found = torchsde.sdeint(equation, begin, span, bm=noise, method="euler", dt=0.01)
        return torch.clamp(found[-1], min=0.0).numpy()

    return run
