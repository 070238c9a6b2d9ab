"""The methods of `pinnsim simulate` by their names, and which options belong to which.

Rate equations give the one course of very many molecules; linear noise adds the covariance of cells around it; samplers
draw single cells. An option that a method has no use for is refused, not passed over: who gives `--seed` to rate
equations expects something that will not happen.
"""

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pinnsim.errors import Problems

if TYPE_CHECKING:
    import numpy as np

    from pinnsim.simulate import ODE, AbstractInitial, AbstractSampler, Ensemble, LinearNoise, Moments, Simulation
    from pinnsim.simulate.initial import Model
    from pinnsim.treatment import Treatment

    Result: TypeAlias = Simulation | Moments | Ensemble
    Solver: TypeAlias = ODE | LinearNoise | AbstractSampler

RTOL, CELLS, SEED = 1e-6, 100, 0
_SEEDS = 2**32


class Method(enum.StrEnum):
    """How it is solved."""

    AUTO = "auto"
    TSIT5 = "tsit5"
    KVAERNO5 = "kvaerno5"
    LINEAR_NOISE = "linear-noise"
    SSA = "ssa"
    LANGEVIN = "langevin"
    TAU_LEAPING = "tau-leaping"


EQUATIONS = (Method.AUTO, Method.TSIT5, Method.KVAERNO5)
SAMPLED = (Method.SSA, Method.LANGEVIN, Method.TAU_LEAPING)
_COUNTING = (Method.LINEAR_NOISE, *SAMPLED)

_OWNERS: dict[str, tuple[Method, ...]] = {
    "size": _COUNTING,
    "cells": SAMPLED,
    "seed": SAMPLED,
    "dt": (Method.LANGEVIN,),
    "rtol": (*EQUATIONS, Method.LINEAR_NOISE),
}
_REASONS = {
    "size": "which solves rate equations and knows no molecules",
    "cells": "which samples no cells",
    "seed": "which draws no random numbers",
    "dt": "which chooses its own steps",
    "rtol": "which has no error per step to control",
}


class Settings(NamedTuple):
    """A method and what was given for it; `None` where nothing was."""

    method: Method
    size: float | None = None
    cells: int | None = None
    seed: int | None = None
    dt: float | None = None
    rtol: float | None = None

    def check(self, problems: Problems) -> None:
        """Every option that is missing, out of bounds, or of another method (`E_USAGE`)."""
        for name, owners in _OWNERS.items():
            if getattr(self, name) is not None and self.method not in owners:
                problems.add(
                    "E_USAGE",
                    f"--{name} is unsuitable for --method {self.method}, {_REASONS[name]}; leave it out, or choose "
                    f"--method {_either(owners)}.",
                )
        if self.size is None and self.method in _COUNTING:
            problems.add(
                "E_USAGE",
                f"--method {self.method} needs --size OMEGA, the number of molecules that make one unit of abundance, "
                "for example --size 100.",
            )
        for name in ("size", "dt"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                problems.add("E_USAGE", f"--{name} {value:g} must be a number above 0.")
        if self.cells is not None and self.cells < 1:
            problems.add("E_USAGE", f"--cells {self.cells} must be at least 1.")
        if self.seed is not None and not 0 <= self.seed < _SEEDS:
            problems.add("E_USAGE", f"--seed {self.seed} must be from 0 to {_SEEDS - 1}.")
        if self.rtol is not None and not 0 < self.rtol < 1:
            problems.add("E_USAGE", f"--rtol {self.rtol:g} must be between 0 and 1.")

    def completed(self, models: "Sequence[Model]") -> "Settings":
        """With defaults for what the method uses; `dt` as short as the fastest of the models asks for."""
        full = self
        if full.method in _OWNERS["cells"]:
            full = full._replace(
                cells=CELLS if full.cells is None else full.cells, seed=SEED if full.seed is None else full.seed
            )
        if full.method in _OWNERS["rtol"] and full.rtol is None:
            full = full._replace(rtol=RTOL)
        if full.method in _OWNERS["dt"] and full.dt is None:
            full = full._replace(dt=min(_step(model) for model in models))
        return full

    def notes(self) -> dict[str, str | float | int]:
        """What a result says of how it was made: the method and the settings that it uses."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return given | {"method": self.method.value}


def counting(settings: Settings) -> "LinearNoise | AbstractSampler":
    """The method object of one that counts molecules; settings completed."""
    from pinnsim.simulate import SSA, Langevin, LinearNoise, TauLeaping

    size = math.nan if settings.size is None else settings.size
    if settings.method == Method.LINEAR_NOISE:
        return LinearNoise(size, RTOL if settings.rtol is None else settings.rtol)
    if settings.method == Method.LANGEVIN:
        return Langevin(size) if settings.dt is None else Langevin(size, settings.dt)
    return SSA(size) if settings.method == Method.SSA else TauLeaping(size)


def run_one(
    model: "Model",
    times: "np.ndarray",
    treatments: "Sequence[Treatment]",
    initial: "AbstractInitial",
    solver: "Solver",
    settings: Settings,
) -> "Result":
    """One model under all treatments. Samplers get the same random numbers for every model."""
    import jax

    from pinnsim.simulate import ODE, LinearNoise, simulate
    from pinnsim.simulate.initial import Bare

    cell = model.kinetics if isinstance(model, Bare) else model
    if isinstance(solver, LinearNoise):
        return simulate(cell, times, treatments, initial=initial, method=solver)
    if isinstance(solver, ODE):
        return simulate(cell, times, treatments, initial=initial, method=solver)
    key = jax.random.key(SEED if settings.seed is None else settings.seed)
    cells = CELLS if settings.cells is None else settings.cells
    return simulate(cell, times, treatments, initial=initial, method=solver, key=key, cells=cells)


def _step(model: "Model") -> float:
    """A tenth of the fastest time constant of the untreated model at its default state, to two digits."""
    import jax.numpy as jnp

    from pinnsim.parameter import resolve
    from pinnsim.simulate.adaptive import Field
    from pinnsim.simulate.stiffness import fastest_rate
    from pinnsim.treatment import NONE, resolve_lanes
    from pinnsim.tree import lane

    kinetics = resolve(model.kinetics)
    untreated = lane(resolve_lanes([NONE], model.table), 0)
    rate = float(fastest_rate(Field(kinetics, untreated), jnp.zeros(()), kinetics.default_state()))
    return float(f"{0.1 / rate:.2g}") if rate > 0 else 0.01


def _either(methods: Sequence[Method]) -> str:
    *most, last = methods
    return f"{', '.join(most)} or {last}" if most else str(last)
