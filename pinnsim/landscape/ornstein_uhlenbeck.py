"""Linear dynamics under noise, in closed form: `dX = A X dt + sqrt(2 D) dW`.

    A C + C A' + 2 D = 0                                    stationary covariance C
    A C = Q - D,   Q antisymmetric                          what goes round: Q = 0 exactly in detailed balance
    sigma = tr(C^-1 Q' D^-1 Q)                              entropy production per time
    mean(t) = e^(A t) x0,   C(t) = C - e^(A t) C e^(A' t)   from one state x0
    Phi(x) = x' C^-1 x / 2                                  `-ln p`, of kind `gaussian`

so that the drift is `A x = -(D - Q) grad Phi`. Near an attractor every model is one of these.

Source: C. W. Gardiner, Handbook of Stochastic Methods (2004), section 4.4.6; H. Qian, Proc. R. Soc. A 457:1645 (2001).
"""

import dataclasses

import numpy as np
import scipy.linalg

from pinnsim.errors import Problems
from pinnsim.landscape.coordinates import Numbers
from pinnsim.landscape.potential import Potential


@dataclasses.dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """Closed forms of a stable linear system.

    **Arguments:** `drift`: A, (species, species), per time; `noise`: D, amount^2 per time; `covariance`: C; `rotation`:
    Q, `A C = Q - D`; `entropy_production`: per time.
    """

    drift: np.ndarray
    noise: np.ndarray
    covariance: np.ndarray
    rotation: np.ndarray
    entropy_production: float

    def moments(self, start: Numbers, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean, (species,), and covariance, (species, species), a time after it was at `start` exactly."""
        move = scipy.linalg.expm(self.drift * time)
        return move @ np.asarray(start, dtype=float), self.covariance - move @ self.covariance @ move.T

    def potential(self, states: Numbers) -> Potential:
        """`x' C^-1 x / 2` of displacements, (..., species)."""
        x = np.asarray(states, dtype=float)
        solved = np.linalg.solve(self.covariance, x[..., None])[..., 0]
        return Potential("gaussian", np.asarray(0.5 * (x * solved).sum(axis=-1)), f"D = {self.noise.tolist()}")


def ornstein_uhlenbeck(drift: Numbers, noise: Numbers) -> OrnsteinUhlenbeck:
    """All of it from A, (species, species), and D, the same or its diagonal.

    **Raises** `E_USAGE` for shapes that do not fit, an unstable A, or a D that is not positive definite.
    """
    a, d = np.asarray(drift, dtype=float), np.asarray(noise, dtype=float)
    d = np.diag(d) if d.ndim == 1 else d
    with Problems() as problems:
        if a.ndim != 2 or a.shape[0] != a.shape[1] or d.shape != a.shape or not np.isfinite(a).all():
            problems.add("E_USAGE", f"The drift {a.shape} and noise {d.shape} must be finite and of one square shape.")
        elif np.linalg.eigvals(a).real.max(initial=-np.inf) >= 0:
            problems.add("E_USAGE", "The drift is not stable (an eigenvalue has a real part >= 0): nothing settles.")
        if not problems and (not np.allclose(d, d.T) or np.linalg.eigvalsh(d).min(initial=1.0) <= 0):
            problems.add("E_USAGE", "The noise matrix must be symmetric and positive definite.")
    c = scipy.linalg.solve_continuous_lyapunov(a, -2.0 * d)
    c = 0.5 * (c + c.T)
    q = a @ c + d
    q = 0.5 * (q - q.T)
    production = np.trace(np.linalg.solve(c, q.T) @ np.linalg.solve(d, q))
    return OrnsteinUhlenbeck(a, d, c, q, float(production))
