"""Independent answers for reprogramming: the models' equations written out again, solved one push at a time by scipy.

An edit is a factor on a gene's production or something added to it, so a push is two arrays (factor, drive) per gene
for a while: `x' = factor * production(x) + drive - x`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar


class World(NamedTuple):
    """A model written out: its genes' production, and its known valleys, (valley, gene)."""

    production: Callable[[np.ndarray], np.ndarray]
    valleys: np.ndarray
    settle: float
    rtol: float = 1e-9


def toggle(x: np.ndarray) -> np.ndarray:
    u, v = x
    return np.array([10.0 / (1.0 + v**2), 10.0 / (1.0 + u**2)])


def lineages(x: np.ndarray) -> np.ndarray:
    own = (np.maximum(x, 0.0) / 0.5) ** 4
    return own / (1.0 + own) + 1.0 / (1.0 + own[::-1])


GENES = ("Gata2", "Gata1", "Fog1", "EKLF", "Fli1", "Scl", "Cebpa", "Pu1", "cJun", "EgrNab", "Gfi1")


def myeloid(x: np.ndarray) -> np.ndarray:
    own = (np.maximum(x, 0.0) / 0.5) ** 4
    on = dict(zip(GENES, own / (1.0 + own), strict=True))
    off = {gene: 1.0 - value for gene, value in on.items()}
    return np.array([
        on["Gata2"] * (1 - on["Gata1"] * on["Fog1"]) * off["Pu1"],
        (1 - off["Gata1"] * off["Gata2"] * off["Fli1"]) * off["Pu1"],
        on["Gata1"],
        on["Gata1"] * off["Fli1"],
        on["Gata1"] * off["EKLF"],
        on["Gata1"] * off["Pu1"],
        on["Cebpa"] * (1 - on["Gata1"] * on["Fog1"] * on["Scl"]),
        (1 - off["Cebpa"] * off["Pu1"]) * off["Gata1"] * off["Gata2"],
        on["Pu1"] * off["Gfi1"],
        on["Pu1"] * on["cJun"] * off["Gfi1"],
        on["Cebpa"] * off["EgrNab"],
    ])  # fmt: skip


def lands(world: World, start: np.ndarray, factor: np.ndarray, drive: np.ndarray, duration: float) -> int:
    """The valley in which a pushed cell settles, or -1 where it is near none (0.1 in log abundance)."""

    def run(state: np.ndarray, factor: np.ndarray | float, drive: np.ndarray | float, span: float) -> np.ndarray:
        def flow(_: float, x: np.ndarray) -> np.ndarray:
            return factor * world.production(x) + drive - x

        return solve_ivp(flow, (0.0, span), state, method="DOP853", rtol=world.rtol, atol=1e-3 * world.rtol).y[:, -1]

    end = run(run(start, factor, drive, duration), 1.0, 0.0, world.settle)
    logs, known = np.log(np.maximum(end, 0) + 1e-4), np.log(world.valleys + 1e-4)
    gaps = np.sqrt(np.mean((known - logs) ** 2, axis=1))
    return int(gaps.argmin()) if gaps.min() < 0.1 else -1


def parts(edits: list[str], genes: tuple[str, ...], strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(factor, drive) of edits in words ("u up", "v down", "v out", "drive(u)")."""
    factor, drive = np.ones(len(genes)), np.zeros(len(genes))
    for text, s in zip(edits, strengths, strict=True):
        name, _, way = text.partition(" ")
        if name.startswith("drive("):
            drive[genes.index(name[6:-1])] += s
        else:
            factor[genes.index(name)] *= {"up": np.exp(s), "down": np.exp(-s), "out": 0.0}[way]
    return factor, drive


def reaches(
    world: World, start: int, target: int, edits: list[str], genes: tuple[str, ...], strengths: np.ndarray,
    duration: float,
) -> bool:  # fmt: skip
    """Whether a push with edits in words ends in the target."""
    return lands(world, world.valleys[start], *parts(edits, genes, strengths), duration) == target


def reaches_with(
    margin: float, world: World, start: int, target: int, edits: list[str], genes: tuple[str, ...], strength: float,
    duration: float,
) -> bool:  # fmt: skip
    """Whether a push with one strength for all edits ends in the target, as it is and with the margin taken off."""
    return all(
        reaches(world, start, target, edits, genes, np.full(len(edits), share * strength), duration)
        for share in (1.0 - margin, 1.0)
    )


def bisected(reach: Callable[[float], bool], low: float, high: float, tolerance: float = 1e-9) -> float:
    """The least value that reaches."""
    while high - low > tolerance * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if reach(middle) else (middle, high)
    return 0.5 * (low + high)


def least_effort(critical: Callable[[float], float], power: float, low: float, high: float) -> tuple[float, float]:
    """The duration in [low, high] at which `duration * critical(duration)^power` is least, and this effort."""
    found = minimize_scalar(
        lambda log: np.exp(log) * critical(np.exp(log)) ** power, bounds=(np.log(low), np.log(high)), method="bounded",
        options={"xatol": 1e-3},
    )  # fmt: skip
    return float(np.exp(found.x)), float(found.fun)
