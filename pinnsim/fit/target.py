"""What samplers, profiles and outside optimisers see of a fit: a cost of one vector, and coordinates in which it is
nearly round.

    cost(theta) = -log p(readings | theta) - log prior(theta) + constants    (nats; `objective`, of free numbers)

With a normal posterior at hand (`Laplace`: estimate m, prior widths S, directions V, curvatures l) the coordinates

    theta = m + S (I - V diag(1 - 1 / sqrt(1 + l)) V') z

make it the unit normal; where the posterior is not normal, they only have to be good enough to walk in.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinnsim.fit.cultures import Cultures
from pinnsim.fit.free import FreeVector, Vector, free_vector
from pinnsim.fit.laplace import Laplace
from pinnsim.fit.objective import Predictor, collocation_readings, objective, trajectory_readings
from pinnsim.fit.plan import FitPlan, Settings
from pinnsim.fit.stages import solved
from pinnsim.model import CellModel, ModelPrior
from pinnsim.shapes import Scalar

Predict = Literal["trajectories", "collocation"]


class Cost(NamedTuple):
    """Objective in nats, and how many cultures that count could not be solved."""

    total: Scalar
    failed: Int[Array, ""]


class Target(eqx.Module):
    """A posterior as a cost of the free numbers.

    **Arguments:** `free`: which they are; `prior`, `data`, `settings`: of the fit; `predict`: how readings are
    predicted.
    """

    free: FreeVector
    prior: ModelPrior
    data: Cultures
    settings: Settings
    predict: Predictor = eqx.field(static=True)

    def __call__(self, vector: Vector) -> Cost:
        """The cost of these unconstrained numbers, (free,)."""
        found = objective(self.free.with_values(vector), self.prior, self.data, self.settings, self.predict)
        return Cost(found.total, found.failed)


def target(
    model: CellModel, prior: ModelPrior, data: Cultures, plan: FitPlan, predict: Predict | None = None
) -> Target:
    """The posterior that a fit minimises.

    **Arguments:** `model`: a member of the fit, not resolved: what is not free is taken from it; `predict`: by default
    as the fit's last stage did.

    **Raises** `E_FIT` where no parameter is free.
    """
    stage = predict or ("trajectories" if solved(plan) else "collocation")
    readings = trajectory_readings if stage == "trajectories" else collocation_readings
    return Target(free_vector(model, prior), prior, data.anonymous(), plan.settings(), readings)


class White(eqx.Module):
    """Coordinates in which a normal posterior is the unit normal.

    **Arguments:** `center`, `scale`: (free,), estimate and prior widths; `basis`: (free, direction); `narrowed`:
    (direction,), posterior over prior width along each.
    """

    center: Vector
    scale: Vector
    basis: Float[Array, "free direction"]
    narrowed: Float[Array, " direction"]

    def vector(self, z: Vector) -> Vector:
        """Unconstrained numbers at these coordinates."""
        return self.center + self.scale * self._squeezed(z)

    def row(self, number: Int[Array, ""]) -> Vector:
        """How one number depends on the coordinates, (free,)."""
        unit = jnp.where(jnp.arange(self.center.shape[0]) == number, self.scale, 0.0)
        return self._squeezed(unit)

    def _squeezed(self, z: Vector) -> Vector:
        return z - self.basis @ ((1.0 - self.narrowed) * (z @ self.basis))


def white(posterior: Laplace) -> White:
    """The coordinates of a normal posterior."""
    kind = posterior.free.center.dtype
    return White(
        jnp.asarray(posterior.estimate, kind),
        jnp.asarray(posterior.scale, kind),
        jnp.asarray(posterior.basis, kind),
        jnp.asarray(1.0 / (1.0 + posterior.eigenvalues) ** 0.5, kind),
    )
