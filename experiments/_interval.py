"""All fixed points of a random network of two genes, with a proof that there are no others: interval Newton.

For f and its Jacobian enclosed over a box X with middle m, and Y the inverse of the Jacobian at m, Krawczyk's operator

    K(X) = m - Y f(m) + (1 - Y J(X)) (X - m)

holds every root of X; where K(X) lies inside X there is exactly one, where it misses X there is none, and what is left
is cut in two. All boxes of a level are one array. Independent of pinnsim: NumPy only, and the network's formula

    f_i = c_i s(b_i + sum_j w_ij h(x_j)) - x_i,   h(x) = x^4 / (1 + x^4),   s the logistic function,

whose parts are monotone (s, h) or have one maximum (s' at 0, h' at x^4 = 3 / 5), so their ranges are exact but for
rounding, which is covered by a slack.

Source: R. Krawczyk, Computing 4:187 (1969); A. Neumaier, Interval Methods for Systems of Equations (1990), section 5.2.
"""

import numpy as np

_SLACK = 1e-13  # for rounding, relative to the size of what is added up
_LEAST = 1e-7  # a box of this width that is neither accepted nor refused is undecided
_TOP = 0.6**0.25  # where h' is largest


def _seen(x: np.ndarray) -> np.ndarray:
    return x**4 / (1.0 + x**4)


def _steepness(x: np.ndarray) -> np.ndarray:
    return 4.0 * x**3 / (1.0 + x**4) ** 2


def _logistic(u: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-u))


def _product(a: tuple, b: tuple) -> tuple[np.ndarray, np.ndarray]:
    every = np.stack([p * q for p in a for q in b])
    return every.min(axis=0), every.max(axis=0)


def _arguments(b: np.ndarray, w: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = _product((w[None], w[None]), (_seen(low)[:, None], _seen(high)[:, None]))
    return b + parts[0].sum(axis=2), b + parts[1].sum(axis=2)


def _force(c: np.ndarray, b: np.ndarray, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    return c * _logistic(b + _seen(x) @ w.T) - x


def _jacobians(c, b, w, low, high) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Ranges of the Jacobian over boxes, (box, 2, 2)."""
    a0, a1 = _arguments(b, w, low, high)
    ends = [_logistic(a) * (1.0 - _logistic(a)) for a in (a0, a1)]
    s0, s1 = np.minimum(*ends), np.where((a0 < 0) & (a1 > 0), 0.25, np.maximum(*ends))
    ends = [_steepness(low), _steepness(high)]
    h0 = np.minimum(*ends)
    h1 = np.where((low < _TOP) & (high > _TOP), _steepness(np.asarray(_TOP)), np.maximum(*ends))
    outer = _product(((c * s0)[:, :, None], (c * s1)[:, :, None]), (h0[:, None], h1[:, None]))
    found = _product((w[None], w[None]), outer)
    return found[0] - np.eye(2), found[1] - np.eye(2)


def interval_roots(c: np.ndarray, b: np.ndarray, w: np.ndarray, most: int = 2_000_000) -> tuple[np.ndarray, int]:
    """Every fixed point, (point, 2), and how many boxes were left undecided.

    **Arguments:** `c`, `b`: (2,); `w`: (2, 2); `most`: boxes looked at before giving up.
    """
    low, high = np.zeros((1, 2)), c[None] * 1.0
    found: list[np.ndarray] = []
    undecided = looked = 0
    while len(low):
        looked += len(low)
        if looked > most:
            return _distinct(c, b, w, found), undecided + len(low)
        a0, a1 = _arguments(b, w, low, high)
        f0, f1 = c * _logistic(a0) - high, c * _logistic(a1) - low
        slack = _SLACK * (c + high)
        keep = ((f0 <= slack) & (f1 >= -slack)).all(axis=1)
        low, high = low[keep], high[keep]
        middle, radius = 0.5 * (low + high), 0.5 * (high - low)
        j0, j1 = _jacobians(c, b, w, low, high)
        at, _ = _jacobians(c, b, w, middle, middle)
        size = np.abs(at[:, 0, 0] * at[:, 1, 1] - at[:, 0, 1] * at[:, 1, 0])
        regular = size > 1e-12
        inverse = np.linalg.inv(np.where(regular[:, None, None], at, np.eye(2)))
        step = np.einsum("nij,nj->ni", inverse, _force(c, b, w, middle))
        # |1 - Y J(X)| is largest at an end of J's range: |1 - Y J_m| + |Y| rad(J).
        centre, spread = 0.5 * (j0 + j1), 0.5 * (j1 - j0)
        left = np.abs(np.eye(2) - inverse @ centre) + np.abs(inverse) @ spread
        reach = np.einsum("nij,nj->ni", left, radius) + _SLACK * (1.0 + np.abs(step))
        k0, k1 = middle - step - reach, middle - step + reach
        inside = regular & ((k0 > low) & (k1 < high)).all(axis=1)
        missed = regular & ((k0 > high) | (k1 < low)).any(axis=1)
        found += list((middle - step)[inside])
        open_ = ~inside & ~missed
        cut = open_ & regular
        low = np.where(cut[:, None], np.maximum(low, k0), low)[open_]
        high = np.where(cut[:, None], np.minimum(high, k1), high)[open_]
        tiny = (high - low).max(axis=1) < _LEAST
        undecided += int(tiny.sum())
        low, high = low[~tiny], high[~tiny]
        wide = np.argmax(high - low, axis=1)
        rows = np.arange(len(low))
        middle = 0.5 * (low + high)
        upper, lower = low.copy(), high.copy()
        upper[rows, wide], lower[rows, wide] = middle[rows, wide], middle[rows, wide]
        # Halves overlap a little, so that a root on the cut lies inside one of them.
        upper[rows, wide] -= 0.01 * (high - low)[rows, wide]
        low, high = np.concatenate([low, upper]), np.concatenate([lower, high])
    return _distinct(c, b, w, found), undecided


def _distinct(c: np.ndarray, b: np.ndarray, w: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
    """Roots refined by Newton's method, each once."""
    kept: list[np.ndarray] = []
    for x in found:
        for _ in range(20):
            matrix, _ = _jacobians(c, b, w, x[None], x[None])
            x = x - np.linalg.solve(matrix[0], _force(c, b, w, x[None])[0])
        if not any(np.abs(x - other).max() < 1e-9 for other in kept):
            kept.append(x)
    return np.array(sorted(kept, key=tuple)).reshape(-1, 2)


def many_newton(c: np.ndarray, b: np.ndarray, w: np.ndarray, starts: int, seed: int) -> np.ndarray:
    """Fixed points of a network of any size from many random starts, (point, gene): damped Newton, NumPy only."""
    rng = np.random.default_rng(seed)
    x = rng.random((starts, len(c))) * c
    unit = np.eye(len(c))
    for _ in range(60):
        a = _logistic(b + _seen(x) @ w.T)
        force = c * a - x
        matrix = (c * a * (1.0 - a))[:, :, None] * w[None] * _steepness(x)[:, None] - unit
        step = np.linalg.solve(matrix + 1e-12 * unit, force[..., None])[..., 0]
        # Steps are bounded by a tenth of the box, so that a start stays near where it began.
        x = np.clip(x - step * np.minimum(1.0, 0.1 * c.max() / np.abs(step).max(axis=1, keepdims=True)), 0.0, c)
    good = np.abs(_force(c, b, w, x)).max(axis=1) < 1e-11
    kept: list[np.ndarray] = []
    for y in np.unique(np.round(x[good], 7), axis=0):
        if not any(np.abs(y - other).max() < 1e-5 for other in kept):
            kept.append(y)
    return np.array(kept).reshape(-1, len(c))
