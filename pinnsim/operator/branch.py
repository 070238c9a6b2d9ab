"""Branch and trunk: a function of time whose coefficients a network reads from the state, the perturbation and rates.

    f_i(t) = sum_k b_ik(features) phi_k(t),      phi_k(t) = (1 - exp(-t / tau_k)) (1 + trunk_k(t)),

phi_k(0) = 0, so that nothing learned touches the start. The branch's last layer is zero at first: what is untrained
changes nothing.

Source: L. Lu et al., Nat. Mach. Intell. 3:218 (2021), DeepONet.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


class BranchTrunk(eqx.Module):
    """A learned course for each of `outputs` quantities. Build it with `branch_trunk`.

    **Arguments:** `branch`: features -> modes x outputs; `direct`: (mode x output, feature), beside it; `trunk`: share
    of the window -> modes; `pace`: (mode,), log tau.
    """

    branch: eqx.nn.MLP
    direct: Float[Array, "coefficient feature"]
    trunk: eqx.nn.MLP
    pace: Float[Array, " mode"]

    def __call__(
        self, features: Float[Array, " feature"], shares: Float[Array, " node"]
    ) -> Float[Array, "node output"]:
        """The learned part at these shares of the window."""
        coefficients = (self.branch(features) + self.direct @ features).reshape(self.pace.shape[0], -1)
        return jax.vmap(self.modes)(shares) @ coefficients

    def modes(self, share: Float[Array, ""]) -> Float[Array, " mode"]:
        """phi at one time, (mode,)."""
        return -jnp.expm1(-share * jnp.exp(-self.pace)) * (1.0 + self.trunk(share[None]))


def branch_trunk(features: int, outputs: int, *, width: int, depth: int, modes: int, key: PRNGKeyArray) -> BranchTrunk:
    """Untrained: zero whatever it is given. Good values: width 64-256, depth 1-2, 3-5 modes."""
    first, second = jax.random.split(key)
    branch = eqx.nn.MLP(features, modes * outputs, width, depth, activation=jax.nn.silu, key=first)
    trunk = eqx.nn.MLP(1, modes, 16, 1, activation=jnp.tanh, key=second)

    def silent(network: eqx.nn.MLP) -> eqx.nn.MLP:
        return eqx.tree_at(
            lambda n: (n.layers[-1].weight, n.layers[-1].bias), network, replace_fn=lambda leaf: jnp.zeros_like(leaf)
        )

    pace = jnp.asarray(np.log(np.geomspace(0.03, 1.0, modes)), dtype=float)
    return BranchTrunk(silent(branch), jnp.zeros((modes * outputs, features)), silent(trunk), pace)
