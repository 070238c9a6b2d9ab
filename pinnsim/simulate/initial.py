"""Where a simulation starts: at rest, at rest as a sample shows it, as the model says, or at a given state."""

import abc
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.rest import infer_at_rest
from pinnsim.errors import PinnsimError, Problems, first
from pinnsim.model import CellModel
from pinnsim.perturbation import Perturbation
from pinnsim.shapes import Numbers, PerGene, State
from pinnsim.simulate.steady import steady_state
from pinnsim.table import Table

_NO_INSTRUMENT = "Kinetics alone have no readings to start from; start from FromState(...) or AtRest()."


def _numbers(values: Numbers | None) -> Array | None:
    """Tables give numpy arrays and lists; only device arrays are stacked into lanes."""
    return None if values is None else jnp.asarray(values, dtype=float)


class Bare(eqx.Module):
    """Kinetics that nobody reads: no instrument, no readings."""

    kinetics: AbstractKinetics

    @property
    def table(self) -> Table:
        """Names."""
        return self.kinetics.table


Model: TypeAlias = CellModel | Bare


class AbstractInitial(eqx.Module):
    """A rule that gives one cell's initial state. It sees the phases of the perturbation that act since ever
    (`start = -inf`)."""

    @abc.abstractmethod
    def state(self, model: Model, perturbation: Perturbation) -> State:
        """(species,); NaN where there is none, which the solver reports as outcome `NOT_FINITE`."""

    @abc.abstractmethod
    def check(self, model: Model) -> None:
        """Raises `E_INIT` with all problems for this model, on the host."""


class AtRest(AbstractInitial):
    """The steady state before the first switch: the culture was at rest. `guess`: (species,) or `None`, where the
    search starts."""

    guess: State | None = eqx.field(default=None, converter=_numbers)

    def state(self, model: Model, perturbation: Perturbation) -> State:
        return steady_state(model.kinetics, perturbation, self.guess).state

    def check(self, model: Model) -> None:
        if self.guess is not None:
            _check_state(self.guess, model)


class AsWritten(AbstractInitial):
    """The state that the model itself starts from, `default_state()`: for imported models what the file says, worked
    out from the model's own numbers."""

    def state(self, model: Model, perturbation: Perturbation) -> State:
        return model.kinetics.default_state()

    def check(self, model: Model) -> None:
        pass


class FromSample(AbstractInitial):
    """At rest as a first sample shows it: readings, (gene,), are inverted to abundances, hidden activities inferred
    through the network."""

    readings: PerGene = eqx.field(converter=_numbers)

    def state(self, model: Model, perturbation: Perturbation) -> State:
        edits = perturbation.acting(jnp.asarray(-jnp.inf)).at(jnp.zeros(()))
        if isinstance(model, Bare):
            raise PinnsimError.of("E_INIT", _NO_INSTRUMENT)
        return infer_at_rest(model.kinetics, model.observation.readout.invert(self.readings), edits)

    def check(self, model: Model) -> None:
        readings = np.asarray(self.readings)
        with Problems() as problems:
            if isinstance(model, Bare):
                problems.add("E_INIT", _NO_INSTRUMENT)
            if readings.shape != (len(model.table.genes),):
                problems.add(
                    "E_INIT",
                    f"A first sample needs one reading per gene, shape ({len(model.table.genes)},), but has shape "
                    f"{readings.shape}.",
                )
            elif not np.isfinite(readings).all():
                bad = [model.table.genes[i] for i in np.flatnonzero(~np.isfinite(readings))]
                problems.add(
                    "E_INIT",
                    f"The first sample has {len(bad)} readings that are not finite (first: {first(bad)}); fill them or "
                    "drop these genes.",
                )


class FromState(AbstractInitial):
    """A given state, (species,), in the order of `model.table.species`."""

    given: State = eqx.field(converter=_numbers)

    def state(self, model: Model, perturbation: Perturbation) -> State:
        return self.given

    def check(self, model: Model) -> None:
        _check_state(self.given, model)


def _check_state(state: Array, model: Model) -> None:
    values, species = np.asarray(state), model.table.species
    with Problems() as problems:
        if values.shape != (len(species),):
            problems.add(
                "E_INIT",
                f"An initial state needs one number per species, shape ({len(species)},), but has shape "
                f"{values.shape}; see model.table.species.",
            )
            return
        material = np.asarray(model.kinetics.material())
        for bad, what in ((~np.isfinite(values), "not finite"), (material & (values < 0), "negative")):
            if bad.any():
                shown = first(f"{species[i]} = {values[i]:g}" for i in np.flatnonzero(bad))
                problems.add(
                    "E_INIT",
                    f"The initial state has {int(bad.sum())} values that are {what} (first: {shown}); abundances must "
                    "be finite and >= 0.",
                )
