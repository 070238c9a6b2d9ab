"""Densities of PEtab: of measurements under their noise, and of parameters before any measurement.

    normal:     log p = -log(sqrt(2 pi) sigma) - r^2 / 2          r = (g(m) - g(y)) / sigma
    laplace:    log p = -log(2 sigma) - |r|

with g = identity, log, or log10, and for the last two another -log(m) or -log(m log 10).

Source: PEtab 2.0, "Noise distributions", "Priors".
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array

from pinnsim.formats.petab.tables import Parameter

_LOG10 = math.log(10.0)


def residual(noise: str, measured: Array, simulated: Array, sigma: Array) -> Array:
    """r, (measurement,)."""
    scale = noise.rpartition("-")[0]
    if scale == "log":
        return (jnp.log(measured) - jnp.log(simulated)) / sigma
    if scale == "log10":
        return (jnp.log10(measured) - jnp.log10(simulated)) / sigma
    return (measured - simulated) / sigma


def log_density(noise: str, measured: Array, simulated: Array, sigma: Array) -> Array:
    """log p, (measurement,)."""
    scale, _, kind = noise.rpartition("-")
    r = residual(noise, measured, simulated, sigma)
    shape = -0.5 * r**2 - 0.5 * math.log(2.0 * math.pi) if kind == "normal" else -jnp.abs(r) - math.log(2.0)
    stretch = {"": 0.0 * measured, "log": jnp.log(measured), "log10": jnp.log(measured) + math.log(_LOG10)}[scale]
    return shape - jnp.log(sigma) - stretch


def log_prior(one: Parameter, value: Array) -> Array:
    """The log density of a parameter, cut off at its bounds, at its value on linear scale; 0 without a prior."""
    if one.prior is None:
        return jnp.zeros_like(value)
    kind, numbers = one.prior
    scaled = to_scale(one.scale, value) if one.prior_on_scale else value
    inside = jnp.log(_mass(one))
    within = (value >= one.lower) & (value <= one.upper)
    return jnp.where(within, _log_pdf(kind, numbers, scaled) - inside, -jnp.inf)


def to_scale(scale: str, value: Array) -> Array:
    """A value on the scale of its parameter."""
    return jnp.log(value) if scale == "log" else jnp.log10(value) if scale == "log10" else value


def from_scale(scale: str, value: Array) -> Array:
    """Back from the scale."""
    return jnp.exp(value) if scale == "log" else 10.0**value if scale == "log10" else value


def _log_pdf(kind: str, numbers: tuple[float, ...], x: Array) -> Array:
    a, b = (*numbers, 1.0)[:2]
    if kind == "uniform":
        return jnp.where((x >= a) & (x <= b), -math.log(b - a), -jnp.inf)
    if kind == "log-uniform":
        return jnp.where((x >= a) & (x <= b), -jnp.log(x) - math.log(math.log(b / a)), -jnp.inf)
    if kind == "normal":
        return -0.5 * ((x - a) / b) ** 2 - math.log(b * math.sqrt(2.0 * math.pi))
    if kind == "log-normal":
        return _log_pdf("normal", numbers, jnp.log(x)) - jnp.log(x)
    if kind == "laplace":
        return -jnp.abs(x - a) / b - math.log(2.0 * b)
    if kind == "log-laplace":
        return _log_pdf("laplace", numbers, jnp.log(x)) - jnp.log(x)
    if kind == "cauchy":
        return -jnp.log1p(((x - a) / b) ** 2) - math.log(math.pi * b)
    if kind == "exponential":
        return -x / a - math.log(a)
    if kind == "rayleigh":
        return jnp.log(x) - 2.0 * math.log(a) - 0.5 * (x / a) ** 2
    shape, scale = (0.5 * a, 2.0) if kind == "chisquare" else (a, b)
    return (
        (shape - 1.0) * jnp.log(x) - x / scale - shape * math.log(scale) - jax.lax.lgamma(jnp.asarray(shape, x.dtype))
    )


def _mass(one: Parameter) -> float:
    """How much of a prior lies within the bounds; 1 where it is not cut off there."""
    if one.prior is None or not one.cut:
        return 1.0
    kind, numbers = one.prior
    a, b = (*numbers, 1.0)[:2]
    laws = {
        "uniform": lambda: scipy.stats.uniform(a, b - a),
        "log-uniform": lambda: scipy.stats.loguniform(a, b),
        "normal": lambda: scipy.stats.norm(a, b),
        "log-normal": lambda: scipy.stats.lognorm(b, scale=math.exp(a)),
        "laplace": lambda: scipy.stats.laplace(a, b),
        "cauchy": lambda: scipy.stats.cauchy(a, b),
        "exponential": lambda: scipy.stats.expon(scale=a),
        "rayleigh": lambda: scipy.stats.rayleigh(scale=a),
        "chisquare": lambda: scipy.stats.chi2(a),
        "gamma": lambda: scipy.stats.gamma(a, scale=b),
    }
    if kind == "log-laplace":
        logarithm, ends = scipy.stats.laplace(a, b), np.log(np.maximum([one.lower, one.upper], 1e-300))
        return float(logarithm.cdf(ends[1]) - (logarithm.cdf(ends[0]) if one.lower > 0 else 0.0))
    law = laws[kind]()
    return float(law.cdf(one.upper) - law.cdf(one.lower))
