"""The networks of a latent model, for one cell: encoder, decoder and the field that moves embeddings.

    z = A s + network(s),        s = (features - mean) / sd of the training cells' readings
    eta(z) = base + B z + network(z)              without a kinetic model
    eta(z) = offset + sum_m w_m(z) eta_m + residual(z),   residual = B z + network(z),   with one

Features are logarithms of readings per unit of size factor. eta is the logarithm of a count's mean per unit of size
factor, of a negative binomial, or the mean of a reading on a logarithmic scale, of a normal law. eta_m are the nodes of
a kinetic model's courses, w(z) >= 0 shares that sum to 1: the decoder reads where on the kinetic model's courses a cell
is, and the residual, which training keeps small, is what the kinetic model does not say. The embeddings move by a
`GradientField`: a confined landscape, with a flux, tilted by signals.

A and B begin as principal components of unit variance, the networks at 0.

Sources: R. Lopez et al., Nat. Methods 15:1053 (2018), for counts decoded from a latent state; M. Assran et al., CVPR
(2023), for joint-embedding prediction.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pinnsim.dynamics.energies import box, confined, network
from pinnsim.dynamics.gradient import GradientField, constant_swirl, gradient_field, tilt
from pinnsim.observation.counts import negative_binomial_log
from pinnsim.parameter import Parameter, frozen, positive
from pinnsim.shapes import PerGene, Scalar

_REACH = 3.0  # half-width of the box of embeddings, whose standard deviation is 1
_LEAST_RATE = 1e-2  # of the mean rate: what a gene that was never counted is taken to have
_MOST = 3.0  # how far eta may rise above the largest training cell's

Embedding = Float[Array, " dimension"]


class Encoder(eqx.Module):
    """From features, (gene,), to z, (dimension,). **Arguments:** `centre`, `width`: of the training cells' features;
    `linear`: A; `network`."""

    centre: Parameter
    width: Parameter
    linear: Float[Array, "dimension gene"]
    network: eqx.nn.MLP

    def __call__(self, features: PerGene, seen: PerGene) -> Embedding:
        """z; readings of which `seen` is 0 count as the mean."""
        s = seen * (features - self.centre) / self.width
        return self.linear @ s + self.network(s)


class Anchor(eqx.Module):
    """What a kinetic model says of expression; build it with `kinetic_anchor`. **Arguments:** `nodes`: eta_m,
    (node, gene), of its states along courses."""

    nodes: Parameter


class Decoder(eqx.Module):
    """From z, (dimension,), to eta, (gene,).

    **Arguments:** `base`: (gene,), also the offset beside an anchor; `linear`: B; `network`; `top`: (), eta never
    exceeds it; `spread`: (gene,), dispersions of counts, standard deviations of logarithms; `anchor` and `share`: the
    kinetic nodes, and the network of their logits, or `None`; `counted`: whether readings are counts.
    """

    base: Float[Array, " gene"]
    linear: Float[Array, "gene dimension"]
    network: eqx.nn.MLP
    top: Parameter
    spread: Parameter
    anchor: Anchor | None
    share: eqx.nn.MLP | None
    counted: bool = eqx.field(static=True)

    def parts(self, z: Embedding) -> tuple[PerGene, PerGene]:
        """What the kinetic model (or a constant) says, and what was learned beside it."""
        learned = self.linear @ z + self.network(z)
        if self.anchor is None or self.share is None:
            return self.base, learned
        return self.base + jax.nn.softmax(self.share(z)) @ self.anchor.nodes, learned

    def __call__(self, z: Embedding) -> PerGene:
        """eta, (gene,)."""
        said, learned = self.parts(z)
        eta = said + learned
        return self.top - jax.nn.softplus(self.top - eta) if self.counted else eta

    def mean(self, z: Embedding, size: Scalar) -> PerGene:
        """Expected readings of a cell with this size factor, on the scale of the data, (gene,)."""
        eta = self(z)
        return size * jnp.exp(eta) if self.counted else eta

    def log_density(self, values: PerGene, z: Embedding, size: Scalar) -> PerGene:
        """Log density of each reading, (gene,)."""
        return self.log_density_at(values, self(z), size)

    def log_density_at(self, values: PerGene, eta: PerGene, size: Scalar) -> PerGene:
        """Log density of each reading where eta is known, (gene,)."""
        if self.counted:
            return negative_binomial_log(values, size * jnp.exp(eta), self.spread)
        return jax.scipy.stats.norm.logpdf(values, eta, self.spread)

    def draw(self, z: Embedding, size: Scalar, key: PRNGKeyArray) -> PerGene:
        """Readings of one measurement, (gene,): counts of a gamma mixture of Poisson laws, or normal errors."""
        mean = self.mean(z, size)
        first, second = jax.random.split(key)
        if not self.counted:
            return mean + self.spread * jax.random.normal(first, mean.shape, mean.dtype)
        rate = mean * self.spread * jax.random.gamma(first, 1.0 / self.spread, mean.shape, mean.dtype)
        return jax.random.poisson(second, rate).astype(mean.dtype)


class LatentNetwork(eqx.Module):
    """`encoder`, `decoder` and `field`, the landscape of embeddings."""

    encoder: Encoder
    decoder: Decoder
    field: GradientField


def latent_network(
    features: Float[np.ndarray, "cell gene"],
    means: Float[np.ndarray, " gene"],
    span: float,
    *,
    dimension: int,
    width: int,
    depth: int,
    counted: bool,
    swirl: bool = True,
    inputs: tuple[str, ...] = (),
    anchor: Anchor | None = None,
    time_unit: str = "h",
    key: PRNGKeyArray,
) -> LatentNetwork:
    """Untrained: principal components, and a parabola in which everything relaxes once in `span`.

    **Arguments:** `features`: of training cells; `means`: readings per unit of size factor, mean over cells; `span`:
    time from the first to the last population; `dimension` up to the number of genes; `inputs`: names of signals.
    """
    keys = jax.random.split(key, 4)
    centre, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    scaled = (features - centre) / sd
    _, values, rows = np.linalg.svd(scaled, full_matrices=False)
    found = min(dimension, len(values))
    heights = np.maximum(values[:found] / np.sqrt(len(features)), 1e-3)
    rng = np.random.default_rng(0)
    components = 0.01 * rng.standard_normal((dimension, features.shape[1]))
    components[:found] = rows[:found] / heights[:, None]
    slopes = np.zeros((features.shape[1], dimension))
    slopes[:, :found] = sd[:, None] * rows[:found].T * heights
    encoder = Encoder(
        frozen(centre), frozen(sd), jnp.asarray(components), network(len(sd), width, depth, dimension, key=keys[0])
    )
    base = np.log(means + _LEAST_RATE * means.mean()) if counted else means
    if anchor is not None:
        base = base - np.asarray(anchor.nodes.value).mean(axis=0)
    decoder = Decoder(
        jnp.asarray(base),
        jnp.asarray(slopes) * (1.0 if anchor is None else 0.1),
        network(dimension, width, depth, len(sd), key=keys[1]),
        frozen(_MOST + np.max(features) if counted else 0.0),
        positive(np.full(len(sd), 0.5) if counted else sd),
        anchor,
        None if anchor is None else network(dimension, width, depth, anchor.nodes.value.shape[0], key=keys[2]),
        counted,
    )
    place = box([-_REACH] * dimension, [_REACH] * dimension)
    names = tuple(f"z{k + 1}" for k in range(dimension))
    # With stiffness reach^2 the parabola's stationary law has variance 1, and it relaxes at the rate D.
    field = gradient_field(
        confined(network(dimension, width, depth, key=keys[3]), place, _REACH**2),
        names,
        np.zeros(dimension),
        inputs=inputs,
        tilt=tilt(place, len(inputs)) if inputs else None,
        swirl=constant_swirl(dimension) if swirl and dimension > 1 else None,
        diffusion=1.0 / span,
        time_unit=time_unit,
    )
    return LatentNetwork(encoder, decoder, field)
