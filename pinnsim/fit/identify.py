"""Which rates the data identify, and which only echo the prior.

A parameter is called

    identified   its posterior is at most half as wide as its prior
    in part      between
    prior echo   its posterior is at least nine tenths as wide as its prior: the data hardly speak of it
    at bound     its value is within one hundredth of a bound's width of that bound: its interval is not to be trusted

in unconstrained terms (logarithms of rates). Intervals are quantiles of the posterior, carried through the map
to values, so they are exact in coverage for that normal and never leave the bounds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.stats import norm

from pinnsim.dynamics.regulation import AbstractPromoter, HillAverage, Promoter
from pinnsim.errors import PinnsimError
from pinnsim.fit.draws import Draws
from pinnsim.fit.laplace import Laplace
from pinnsim.parameter import resolve

IDENTIFIED, ECHO = 0.5, 0.9  # posterior over prior width
_NEAR = 0.01  # share of a bound's width

VERDICTS = ("identified", "in part", "prior echo", "at bound")


def rate_table(posterior: Laplace | Draws, level: float = 0.9) -> pd.DataFrame:
    """Every free parameter with prior, estimate, interval and verdict.

    **Arguments:** `posterior`: the normal one, or draws, whose medians, quantiles and standard deviations are shown;
    `level`: of prior and posterior intervals.

    **Returns** a row per parameter: `parameter` (`kind:name`), `unit`, `prior`, `prior_lo`, `prior_hi`, `estimate`,
    `lo`, `hi` (values as equations see them), `width` (posterior over prior, in unconstrained terms), `verdict`.
    Priors of parameters that have none are infinite.
    """
    free, half = posterior.free, float(norm.ppf(0.5 + 0.5 * level))
    center, spread = np.asarray(free.center), np.asarray(free.spread)
    if isinstance(posterior, Draws):
        shares = [0.5, 0.5 - 0.5 * level, 0.5 + 0.5 * level]
        middle, below, above = np.quantile(posterior.flat, shares, axis=0)
        width = posterior.flat.std(axis=0, ddof=1) / np.asarray(free.scale)
    else:
        middle, sd, width = posterior.estimate, posterior.sd, posterior.shrinkage
        below, above = middle - half * sd, middle + half * sd

    def values(raw: np.ndarray) -> np.ndarray:
        return np.asarray(free.value(jnp.asarray(raw, free.center.dtype)))

    estimate = values(middle)
    verdict = np.where(width <= IDENTIFIED, "identified", np.where(width >= ECHO, "prior echo", "in part"))
    lower, upper = np.asarray(free.lower), np.asarray(free.upper)
    near = _NEAR * (upper - lower)
    bounded = np.isfinite(near)
    stuck = bounded & ((estimate - lower < near) | (upper - estimate < near))
    return pd.DataFrame(
        {
            "parameter": free.names,
            "unit": free.units,
            "prior": values(center),
            "prior_lo": values(center - half * spread),
            "prior_hi": values(center + half * spread),
            "estimate": estimate,
            "lo": values(below),
            "hi": values(above),
            "width": width,
            "verdict": np.where(stuck, "at bound", verdict),
        }
    )


def verdict_counts(table: pd.DataFrame) -> pd.DataFrame:
    """How many parameters of each kind got which verdict: a row per kind, most first."""
    kinds = table["parameter"].str.partition(":")[0]
    counts = pd.crosstab(kinds, table["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
    return counts.rename_axis("kind").rename_axis(None, axis=1).reset_index()


def edge_table(posterior: Laplace, level: float = 0.9, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The network as a result: signed strengths of edges with intervals, surest first.

    A thermodynamic edge's strength is its interaction energy w in kT (`exp(w)` is how many times a bound regulator
    changes the odds of activity); an averaged promoter's is its share of the target's activity, with its sign.

    **Returns** a row per edge: `source`, `target`, `strength`, `lo`, `hi`, `sure` (probability that the strength has
    the sign of its estimate), `width` (posterior over prior, of its strength parameter; 1 where it is not free),
    `rank` by the estimate's size over half its interval.
    """
    table = posterior.free.model.table
    members = posterior.sample(jax.random.key(seed), draws)
    samples = np.asarray(jax.vmap(lambda m: edge_strengths(resolve(m.kinetics.promoter), len(table.edges)))(members))
    fitted = posterior.free.with_values(jnp.asarray(posterior.estimate))
    estimate = np.asarray(edge_strengths(resolve(fitted.kinetics.promoter), len(table.edges)))
    lo, hi = np.quantile(samples, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    widths = dict(zip(posterior.free.names, posterior.shrinkage, strict=True))
    kind = "strength" if isinstance(fitted.kinetics.promoter, Promoter) else "weight"
    clear = np.abs(estimate) / np.maximum(0.5 * (hi - lo), np.finfo(float).tiny)
    found = pd.DataFrame(
        {
            "source": [edge.partition("->")[0] for edge in table.edges],
            "target": [edge.partition("->")[2] for edge in table.edges],
            "strength": estimate,
            "lo": lo,
            "hi": hi,
            "sure": np.mean(np.sign(samples) == np.sign(estimate), axis=0),
            "width": [widths.get(f"{kind}:{edge}", 1.0) for edge in table.edges],
        }
    )
    order = np.argsort(-clear, kind="stable")
    found = found.iloc[order].reset_index(drop=True)
    found["rank"] = np.arange(1, len(found) + 1)
    return found


def edge_strengths(promoter: AbstractPromoter, edges: int) -> jax.Array:
    """Signed strength of every edge, (edge,), from resolved promoters."""
    if isinstance(promoter, Promoter):
        return promoter.energy()
    if not isinstance(promoter, HillAverage):
        raise PinnsimError.of("E_USAGE", f"Edges of {type(promoter).__name__} have no strength that could be listed.")
    sign = jnp.where(promoter.sign == 0, 2.0 * jax.nn.sigmoid(promoter.tilt) - 1.0, promoter.sign)
    return jnp.zeros(edges + 1, promoter.weight.dtype).at[promoter.edge].set(promoter.weight * sign)[:edges]
