"""A landscape learned from snapshots through its stochastic differential equation.

Simulated populations (`landscape_pairs`) are matched with measured ones in many moments at once: of the features

    phi(x) = (z, z z', cos(omega_k z + b_k)),      z = (x - mean) / sd,      omega random, of three scales,

the differences of means over cells, whitened by their covariance, are residuals of expected square 1,

    r = W (mean_sim phi - mean_measured phi),      W W' = (C (1 / n_measured + 1 / n_simulated))^-1,

C the features' covariance among the measured cells, n_simulated no more than the cells they started from. With enough
features this tells two laws apart wherever the data can (a whitened maximum mean discrepancy), and the weighting is
that of efficient estimates (the generalised method of moments, simulated). To r come the logarithm of the mass, where
it is known, and the parameters over their prior spread; damped Gauss-Newton steps minimise |r|^2 / 2. A fit that the
model allows ends near 1 per feature: `misfit`.

Where snapshots are few, many landscapes lead from one to the next; then `action` times the relative entropy of a cell's
way to that of pure noise, the mean of int |f|^2 / (4 D) dt per pair, is added, which prefers the one of least action:
in the limit of a small weight that is the Schroedinger bridge, as far as one landscape for all times can be it.

Sources: L. P. Hansen, Econometrica 50:1029 (1982); D. McFadden, Econometrica 57:995 (1989), simulated moments;
A. Rahimi and B. Recht, NIPS (2007), random features; J. Nocedal and S. Wright, Numerical Optimization (2006), 10.3.
"""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float
from tqdm import tqdm

from pinnsim.data.snapshots import Snapshots
from pinnsim.dynamics.gradient import GradientField
from pinnsim.errors import PinnsimError
from pinnsim.fit.landscape_bridge import Bridges, bridge_residuals, bridges_of
from pinnsim.fit.landscape_pairs import Arrived, Pairs, efforts, pairs_of
from pinnsim.fit.landscape_priors import moves, spreads_of
from pinnsim.fit.landscape_slopes import arrivals
from pinnsim.fit.least_squares import Squares, least_squares
from pinnsim.parameter import resolve
from pinnsim.shapes import State
from pinnsim.tree import brief

_SCALES = (0.5, 1.0, 2.0)  # of features' wavelengths over 2 pi, in standard deviations of all cells
_RIDGE = 1e-6
_PACED = 64  # cells of a pair whose ways an action is a mean of: enough for what hundreds of parameters may do


class Probes(eqx.Module):
    """What populations are compared by.

    **Arguments:** `centre`, `width`: of all cells, (species,); `waves`: omega, (wave, species); `phases`: b, (wave,);
    `seen`: measured means, (pair, feature); `whiten`: W', (pair, feature, feature); `told`: how many
    features differ from one another, (pair,); `mass_sd`: of a logarithm of mass.
    """

    centre: Float[Array, " species"]
    width: Float[Array, " species"]
    waves: Float[Array, "wave species"]
    phases: Float[Array, " wave"]
    seen: Float[Array, "pair feature"]
    whiten: Float[Array, "pair feature feature"]
    told: Float[Array, " pair"]
    mass_sd: Float[Array, ""]


class Problem(eqx.Module):
    """What residuals need beside the parameters: the field's fixed part, pairs, probes, the weight of the action."""

    rest: GradientField
    pairs: Pairs
    probes: Probes
    action: Float[Array, ""] | None = None


@dataclasses.dataclass(frozen=True)
class LandscapeFit:
    """A learned landscape.

    **Arguments:** `field`: fitted, resolved; `misfit`: a row per pair of snapshots: mean square of its residuals, about
    1 where the field says all that the cells tell, much more where it cannot; `parameters`, `covariance`: of what was
    fitted, (parameter,) and (parameter, parameter), by the curvature of |r|^2 / 2 at the end; `like`: the unresolved
    field, for `draw`; `value`: |r|^2 / 2; `steps`; `converged`; `interrupted`: whether Ctrl-C ended it; `finite`:
    whether derivatives were finite to the end (where not, the fit stopped there and its covariance is the prior's).
    """

    __repr__ = brief

    field: GradientField
    misfit: pd.DataFrame
    parameters: np.ndarray
    covariance: np.ndarray
    like: GradientField
    value: float
    steps: int
    converged: bool
    interrupted: bool = False
    finite: bool = True

    def draw(self, count: int, seed: int = 0) -> list[GradientField]:
        """Fields drawn from the normal law with the fit's covariance: how sure we are."""
        rng = np.random.default_rng(seed)
        drawn = rng.multivariate_normal(self.parameters, self.covariance, size=count, method="eigh")
        return [resolve(_with(self.like, jnp.asarray(row))) for row in drawn]


def fit_landscape(
    field: GradientField,
    snapshots: Snapshots,
    *,
    masses: ArrayLike | None = None,
    cells: int = 500,
    steps: int = 40,
    waves: int = 36,
    spread: float | int = 300.0,
    swirl_spread: float | int = 10.0,
    growth_spread: float | int = 10.0,
    mass_sd: float | int = 0.05,
    action: float | int = 0.0,
    warm: int = 10,
    most: int = 30,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
) -> LandscapeFit:
    """Fits energy, tilt, swirl, growth and noise of a field to populations at several times, under several signals.

    **Arguments:** `field`: where to begin; frozen parameters and its kinetic `drift` stay; `masses`: (condition, time),
    sizes of populations, needed for growth; `cells`, `steps`: simulated per pair of snapshots; `waves`: random
    features; `spread`: prior standard deviation of every unconstrained parameter about where it begins, in units of the
    noise; `swirl_spread`, `growth_spread`: those of the swirl, in units of the field's first D, and of the growth rate,
    in units of the measured rates (`landscape_priors`); `mass_sd`: error of a logarithm of mass; `action`: weight of
    the least action, in cells per pair (`landscape_pairs.efforts`); `warm`: steps of the simulation-free fit to bridges
    (`landscape_bridge`), with which it begins; `most`: steps of the fit through the equation; `checkpoint`: a path;
    `<path>.landscape.safetensors` is written after every step, and a fit of the same problem goes on from it.

    Good values: 500 to 2000 cells; two or more signals, or the tilt is not seen; up to some hundred parameters; a
    spread well above the heights of U in the box (hundreds, in units of the noise: it counts for every polynomial's
    weight), smaller where cells are few and the landscape comes out rough. An `action` of 1 where snapshots are few and
    far apart: of all landscapes that lead from one to the next, it prefers the one that adds least to pure noise, so
    that cells are on their way all the time, not first in a rush and then at rest; 0 where times are many.

    **Returns** a `LandscapeFit`, the same for the same seed, interrupted and resumed or not.

    **Raises** `E_FIT` where the first field cannot be simulated or has no finite derivatives, `E_CKPT_MODEL` for a
    checkpoint of another fit, `E_USAGE`, and what `pairs_of` raises.
    """
    pairs, names = pairs_of(snapshots, field.table, cells=cells, steps=steps, masses=masses, seed=seed)
    if field.growth is not None and masses is None:
        raise PinnsimError.of("E_USAGE", "A growth rate shows only in sizes of populations; give `masses`.")
    sizes = {
        "spread": spread, "swirl_spread": swirl_spread, "growth_spread": growth_spread, "mass_sd": mass_sd
    }  # fmt: skip
    if any(not value > 0 for value in sizes.values()) or waves < 0 or not action >= 0:
        raise PinnsimError.of(
            "E_USAGE", f"Spreads must be > 0, waves and action >= 0, but got {sizes}, {waves} and {action}."
        )
    moving, rest = eqx.partition(field, moves(field))
    probes = probes_of(pairs, waves, float(mass_sd), seed)
    priors = (pairs, float(spread), float(swirl_spread), float(growth_spread))
    sd = spreads_of(field, moves(field), *priors)
    problem = Problem(rest, pairs, probes, jnp.asarray(float(action)) if action else None)
    with tqdm(total=warm + most, desc="landscape", unit="step", disable=None if progress else True) as bar:
        saved = None if checkpoint is None else Path(f"{checkpoint}.landscape.safetensors")
        resumed = saved is not None and saved.exists()
        still = spreads_of(field, moves(field, noise=False), *priors)
        begun = _warmed(field, pairs, still, warm, seed, bar) if warm and not resumed else field
        found = least_squares(
            _matched,
            eqx.filter(begun, moves(field)),
            Squares(problem, sd, moving),
            most=most,
            bar=bar,
            checkpoint=saved,
        )
    if not np.isfinite(found.value):
        raise PinnsimError.of(
            "E_FIT",
            "The field cannot be simulated from the first snapshots to the next; raise `steps`, or lower its D.",
        )
    if not found.finite and not found.steps:
        raise PinnsimError.of(
            "E_FIT",
            "The derivatives of the simulated populations are not finite where the fit begins, so no step can be told; "
            "raise `steps`, lower D, or begin from another energy.",
        )
    fitted = eqx.combine(found.parameters, rest)
    told = np.asarray(_by_pair(found.parameters, problem))
    table = pd.DataFrame({"pair": list(names), "misfit": told})
    return LandscapeFit(
        resolve(fitted), table, found.vector, found.covariance, fitted, found.value, found.steps, found.converged,
        found.interrupted, found.finite,
    )  # fmt: skip


def landscape_misfit(
    field: GradientField,
    snapshots: Snapshots,
    *,
    masses: ArrayLike | None = None,
    cells: int = 500,
    steps: int = 40,
    waves: int = 36,
    mass_sd: float | int = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """How a learned field fares on cells that it was not fitted to: a row per pair of snapshots, `pair` and `misfit`.

    The mean square of whitened differences, as in `LandscapeFit.misfit`, with populations pushed anew from these cells:
    1 where nothing but chance is left. Hold out some cells of every snapshot to choose a degree or a spread by it.

    **Arguments:** `field`: fitted, resolved or not; the others as of `fit_landscape`; another `seed` than the fit's
    gives other shocks and other features.
    """
    pairs, names = pairs_of(snapshots, field.table, cells=cells, steps=steps, masses=masses, seed=seed)
    moving, rest = eqx.partition(field, eqx.is_array)
    problem = Problem(rest, pairs, probes_of(pairs, waves, float(mass_sd), seed))
    return pd.DataFrame({"pair": list(names), "misfit": np.asarray(_by_pair(moving, problem))})


def probes_of(pairs: Pairs, waves: int, mass_sd: float, seed: int) -> Probes:
    """Features and what was measured of them, whitened."""
    cells, there = np.asarray(pairs.target), np.asarray(pairs.there) > 0
    pooled = np.concatenate([cells[there], np.asarray(pairs.begin).reshape(-1, cells.shape[2])])
    rng = np.random.default_rng([seed, 1])
    scale = np.resize(_SCALES, waves)[:, None]
    bare = Probes(
        jnp.asarray(pooled.mean(axis=0)),
        jnp.asarray(np.maximum(pooled.std(axis=0), 1e-12)),
        jnp.asarray(rng.standard_normal((waves, cells.shape[2])) / scale),
        jnp.asarray(rng.uniform(0.0, 2.0 * np.pi, waves)),
        jnp.zeros((0, 0)),
        jnp.zeros((0, 0, 0)),
        jnp.zeros(0),
        jnp.asarray(mass_sd),
    )
    common = np.cov(np.asarray(_read(bare, jnp.asarray(pooled))).T)
    every = np.asarray(_read(bare, pairs.target.reshape(-1, cells.shape[2]))).reshape(*cells.shape[:2], -1)
    seen, whiten, told = [], [], []
    for k in range(len(cells)):
        phi = every[k][there[k]]
        count, wide = len(phi), phi.shape[1]
        # What few cells cannot tell of a covariance is taken from all.
        share = wide / (wide + count)
        own = (1 - share) * np.cov(phi.T) + share * common if count > 1 else common
        errors = 1.0 / count + 1.0 / min(pairs.begin.shape[1], float(pairs.sources[k]))
        values, vectors = np.linalg.eigh(own * errors)
        kept = np.maximum(values, _RIDGE * values.max())
        told.append(float((values / kept).clip(0.0).sum()))
        values = kept
        seen.append(phi.mean(axis=0))
        whiten.append((vectors / np.sqrt(values)) @ vectors.T)
    return dataclasses.replace(
        bare, seen=jnp.asarray(np.stack(seen)), whiten=jnp.asarray(np.stack(whiten)), told=jnp.asarray(told)
    )


def features(probes: Probes, state: State) -> Float[Array, " feature"]:
    """phi(x), (feature,)."""
    z = (state - probes.centre) / probes.width
    rows, columns = np.triu_indices(z.shape[0])
    return jnp.concatenate([z, z[rows] * z[columns], jnp.cos(probes.waves @ z + probes.phases)])


@eqx.filter_jit
def _read(probes: Probes, cells: Array) -> Array:
    return jax.vmap(lambda x: features(probes, x))(cells)


def moment_residuals(arrived: Arrived, pairs: Pairs, probes: Probes) -> tuple[Array, Array]:
    """Whitened differences of means, (pair, feature), and of logarithms of mass, (pair,), at the later times."""
    cells, weight = arrived
    phi = jax.vmap(jax.vmap(lambda x: features(probes, x)))(cells)
    shares = jax.nn.softmax(weight, axis=1)
    gap = jnp.einsum("pc,pcf->pf", shares, phi) - probes.seen
    mass = jax.scipy.special.logsumexp(weight, axis=1) - jnp.log(jnp.asarray(weight.shape[1], weight.dtype))
    known = jnp.isfinite(pairs.grown)
    return jnp.einsum("pfg,pg->pf", probes.whiten, gap), jnp.where(known, mass - pairs.grown, 0.0) / probes.mass_sd


def _matched(moving: GradientField, problem: Problem) -> Array:
    gap, mass = moment_residuals(arrivals(moving, problem.rest, problem.pairs), problem.pairs, problem.probes)
    if problem.action is None:
        return jnp.concatenate([jnp.ravel(gap), mass])
    paid = efforts(resolve(eqx.combine(moving, problem.rest)), problem.pairs, _PACED)
    return jnp.concatenate([jnp.ravel(gap), mass, jnp.ravel(paid * jnp.sqrt(problem.action / paid.shape[2]))])


def _bridged(moving: GradientField, given: tuple[GradientField, Bridges]) -> Array:
    rest, bridges = given
    return bridge_residuals(resolve(eqx.combine(moving, rest)), bridges)


def _warmed(field: GradientField, pairs: Pairs, sd: Array, most: int, seed: int, bar: tqdm) -> GradientField:
    """The field fitted to bridges, for which its D is given."""
    moving, rest = eqx.partition(field, moves(field, noise=False))
    bridges = bridges_of(resolve(field), pairs, seed)
    return eqx.combine(
        least_squares(_bridged, moving, Squares((rest, bridges), sd), most=most, bar=bar).parameters, rest
    )


@eqx.filter_jit
def _by_pair(moving: GradientField, problem: Problem) -> Array:
    gap, mass = moment_residuals(arrivals(moving, problem.rest, problem.pairs), problem.pairs, problem.probes)
    known = jnp.isfinite(problem.pairs.grown)
    count = problem.probes.told + jnp.where(known, 1.0, 0.0)
    return (jnp.sum(gap**2, axis=1) + mass**2) / count


def _with(like: GradientField, vector: Array) -> GradientField:
    moving, rest = eqx.partition(like, moves(like))
    _, back = ravel_pytree(moving)
    return eqx.combine(back(vector), rest)
