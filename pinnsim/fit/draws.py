"""Draws from a posterior, and whether they may be trusted.

Chains are split in halves, and values replaced by normal scores of their ranks, z = Phi^-1((rank - 3/8) / (S + 1/4)),
so that heavy tails do no harm. With the mean within-half variance W and the variance B / n of the halves' means,

    R-hat^2 = ((n - 1) / n W + B / n) / W,       the larger one of z(x) and of z(|x - median|);
    ESS = S / (-1 + 2 sum_t rho_t),              rho by Geyer's initial monotone sequence.

Source: A. Vehtari et al., Bayesian Analysis 16:667 (2021), equations 1-4, 10-14; C. Geyer, Stat. Sci. 7:473 (1992).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import PRNGKeyArray
from scipy.stats import norm, rankdata

from pinnsim.fit.free import FreeVector
from pinnsim.model import CellModel
from pinnsim.tree import brief

LARGEST_R_HAT, LEAST_ESS = 1.01, 100.0  # per chain for ESS: Vehtari et al., section 4


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws of a posterior by several chains.

    **Arguments:** `free`: the parameters; `raw`: (chain, draw, free), unconstrained numbers; `log_density`: (chain,
    draw), in nats, up to a constant; `divergent`: (chain, draw), whether the step's energy ran away; `steps`: (chain,
    draw), leapfrog steps taken; `step_size`: (chain,), in posterior widths of the normal approximation.
    """

    __repr__ = brief

    free: FreeVector
    raw: np.ndarray
    log_density: np.ndarray
    divergent: np.ndarray
    steps: np.ndarray
    step_size: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """All chains below one another, (draw, free), unconstrained."""
        return self.raw.reshape(-1, self.raw.shape[-1])

    def values(self) -> pd.DataFrame:
        """A column per named rate, a row per draw, with `chain` and `draw` first: values as equations see them."""
        kind = self.free.center.dtype
        found = np.asarray(jax.vmap(self.free.value)(jnp.asarray(self.flat, kind)))
        chains, draws = self.raw.shape[:2]
        where = {"chain": np.repeat(np.arange(chains), draws), "draw": np.tile(np.arange(draws), chains)}
        return pd.concat([pd.DataFrame(where), pd.DataFrame(found, columns=list(self.free.names))], axis=1)

    def sample(self, key: PRNGKeyArray, members: int) -> CellModel:
        """Models drawn from it, (member, ...): an ensemble for `simulate` and `push`."""
        rows = np.asarray(jax.random.choice(key, len(self.flat), (members,), replace=members > len(self.flat)))
        return eqx.filter_vmap(self.free.with_values)(jnp.asarray(self.flat[rows], self.free.center.dtype))

    def diagnostics(self) -> pd.DataFrame:
        """A row per parameter: `parameter`, `r_hat`, `ess_bulk`, `ess_tail`."""
        numbers = range(self.raw.shape[-1])
        return pd.DataFrame(
            {
                "parameter": self.free.names,
                "r_hat": [r_hat(self.raw[..., k]) for k in numbers],
                "ess_bulk": [ess_bulk(self.raw[..., k]) for k in numbers],
                "ess_tail": [ess_tail(self.raw[..., k]) for k in numbers],
            }
        )

    def complaints(self) -> list[str]:
        """What speaks against trusting these draws, in plain words; nothing where nothing does."""
        found, table = [], self.diagnostics()
        chains = len(self.raw)
        if self.divergent.any():
            found.append(
                f"{int(self.divergent.sum())} of {self.divergent.size} steps diverged: where the posterior is narrow, "
                "draws are missing. Raise the target acceptance."
            )
        apart = table[~(table["r_hat"] <= LARGEST_R_HAT)]
        if len(apart):
            worst = apart.sort_values("r_hat", ascending=False).iloc[0]
            found.append(
                f"Chains disagree on {len(apart)} parameters (worst: {worst['parameter']}, R-hat {worst['r_hat']:.3f}, "
                f"want {LARGEST_R_HAT}). Draw longer."
            )
        few = table[~(table[["ess_bulk", "ess_tail"]].min(axis=1) >= LEAST_ESS * chains)]
        if len(few):
            least = few[["ess_bulk", "ess_tail"]].min(axis=1).min()
            found.append(
                f"{len(few)} parameters have fewer than {LEAST_ESS * chains:g} effective draws (least: {least:.0f}): "
                "their intervals are rough. Draw longer."
            )
        return found


def r_hat(draws: np.ndarray) -> float:
    """Rank-normalised split R-hat of one number, (chain, draw): 1 where chains agree; infinite where a chain stood
    still."""
    halves = _halves(draws)
    if np.ptp(halves) == 0:
        return float("inf")
    return max(_plain_r_hat(_scores(halves)), _plain_r_hat(_scores(np.abs(halves - np.median(halves)))))


def ess_bulk(draws: np.ndarray) -> float:
    """Effective number of draws for the middle of the distribution, (chain, draw)."""
    return _ess(_scores(_halves(draws)))


def ess_tail(draws: np.ndarray) -> float:
    """Effective number of draws for its 5 % and 95 % quantiles, the smaller one, (chain, draw)."""
    halves = _halves(draws)
    return min(_ess((halves <= np.quantile(halves, q)).astype(float)) for q in (0.05, 0.95))


def _halves(draws: np.ndarray) -> np.ndarray:
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _scores(values: np.ndarray) -> np.ndarray:
    ranks = rankdata(values, method="average").reshape(values.shape)
    return norm.ppf((ranks - 0.375) / (values.size + 0.25))


def _plain_r_hat(chains: np.ndarray) -> float:
    count = chains.shape[1]
    within = chains.var(axis=1, ddof=1).mean()
    between = chains.mean(axis=1).var(ddof=1)
    return float(np.sqrt(((count - 1) / count * within + between) / within)) if within > 0 else float("inf")


def _ess(chains: np.ndarray) -> float:
    """Effective number of draws, (chain, draw), by Geyer's initial monotone sequence of paired autocorrelations."""
    count, length = chains.shape
    centred = chains - chains.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * length, axis=1)) ** 2
    covariance = np.fft.irfft(power, axis=1)[:, :length] / length
    within = covariance[:, 0].mean() * length / (length - 1)
    total = within * (length - 1) / length + (chains.mean(axis=1).var(ddof=1) if count > 1 else 0.0)
    if total == 0:
        return float("nan")
    correlation = 1.0 - (within - covariance.mean(axis=0)) / total
    correlation[0] = 1.0
    pairs = correlation[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    last = negative[0] if negative.size else len(pairs)
    kept = np.minimum.accumulate(pairs[:last])
    rest = max(correlation[2 * last], 0.0) if 2 * last < length else 0.0
    every = chains.size
    return float(every / max(-1.0 + 2.0 * kept.sum() + rest, 1.0 / np.log10(every)))
