"""Graph attention over the prior network: a correction of promoters that only listed regulators can make.

Every gene i attends to its listed regulators r and to a null token. Head h looks at edges of one kind (activating,
repressing, of unknown sign, or any) and sees of an edge e = (r -> i) a value between its sign and 0,

    v_eh = s_e x_r^n_h / (x_r^n_h + K_eh^n_h),                  s_e = +1 or -1 as listed; learned where it is unknown,

pools these with prior shares a_eh (the null token has share 1 and value 0),

    M_ih = 1/t_h log( (1 + sum_e a_eh exp(t_h v_eh)) / (1 + sum_e a_eh) ),

and heads add up:   correction_i = gate * bound * tanh( sum_h c_ih M_ih ).

The pooling is softmax attention: its derivative by a value is that value's attention weight,

    dM_ih / dv_eh = w_eh = a_eh exp(t_h v_eh) / (1 + sum_e' a_e'h exp(t_h v_e'h)),

a softmax of the log shares (keys and queries of the embeddings) and of the values themselves. The tilt t_h says what
a head is: an average (t = 0), "any of them" (t > 0), "all of them" (t < 0): an AND of regulators, which promoters whose
regulators act on their own cannot have. And M rises with every value, so that with hard signs, where c_ih >= 0 for the
heads of known signs, a correction moves with each listed regulator as its sign says, whatever is learned.

Shares, affinities and unknown signs are sums over the entries of target embedding * regulator embedding * head's
weights: (genes + regulators) * width numbers and a few * width per head. There is nothing of genes x genes; rows of
edges are those of `regulation` (ELL form). A perturbation's edge factor multiplies an edge's share: a site that is gone
is not attended to. Signals move the shares of all edges of a gene against the null token.

Sources: P. Velickovic et al., ICLR (2018), graph attention; H. Ramsauer et al., ICLR (2021), softmax attention as the
gradient of a log-sum-exp; M. Schlichtkrull et al., ESWC (2018), weights per type of edge.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pinnsim.dynamics.regulation import edge_slots
from pinnsim.dynamics.residual import AbstractResidual
from pinnsim.parameter import Parameter, frozen, interval
from pinnsim.shapes import PerEdge, PerGene, PerInput, PerRegulator

KINDS = {"activating": 1.0, "repressing": -1.0, "unknown": 0.0}
ANY = "any"

_LEAST = 1e-30  # stands for "absent" inside a logarithm
_LOGIT = 30.0  # largest log share against the null token
_TILT = 8.0  # largest tilt: the least value counts 3000 times what the largest does
_FLAT = 1e-3  # below this tilt the pooling is expanded: its quotient has no digits left
_KNEE = 0.1  # twice what c of a hard sign is where its number is 0
_SOFT = 1.5  # tanh(1.5) = 0.9: how much of a soft sign an edge begins with

PerSlot = Float[Array, "gene slot"]
PerHead = Float[Array, "gene slot head"]
Pooled = Float[Array, "gene head"]


class EdgeHeads(eqx.Module):
    """What is learned. **Arguments:**

    - `target`, `regulator`: (gene, width), (regulator, width), embeddings;
    - `share`, `affinity`, `direction`: (head, width), how embeddings make the log share, log K and learned sign of an
      edge; `affinity_bias`: (head,);
    - `null`: (head, width), `null_bias`: (head,), log share of the null token; `signal`: (input, head, width), what
      signals take from it;
    - `steep`: (head,), Hill coefficient before it is brought into [1, 4]; `tilt`: (head,), t before it is bounded;
    - `readout`: (head, width), c.
    """

    target: Float[Array, "gene width"]
    regulator: Float[Array, "regulator width"]
    share: Float[Array, "head width"]
    affinity: Float[Array, "head width"]
    affinity_bias: Float[Array, " head"]
    direction: Float[Array, "head width"]
    null: Float[Array, "head width"]
    null_bias: Float[Array, " head"]
    signal: Float[Array, "input head width"]
    steep: Float[Array, " head"]
    tilt: Float[Array, " head"]
    readout: Float[Array, "head width"]


class AttentionResidual(AbstractResidual):
    """Attention of every gene to its listed regulators; build it with `attention_residual`.

    **Arguments:** `gate` in [0, 1]; `bound`, the largest correction in log-odds at gate 1; `network`: what is learned;
    `sign`: (gene, slot), as listed; `source`: (gene, slot), positions among regulators; `edge`: (gene, slot),
    positions among edges, padded with their number `edges`; `heads`: the kind of edge that each head looks at; `hard`:
    listed signs cannot flip.
    """

    gate: Parameter
    bound: Parameter
    network: EdgeHeads
    sign: Parameter
    source: Int[Array, "gene slot"]
    edge: Int[Array, "gene slot"]
    heads: tuple[str, ...] = eqx.field(static=True)
    edges: int = eqx.field(static=True)
    hard: bool = eqx.field(static=True)

    def __call__(self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None) -> PerGene:
        if not self.heads:
            return jnp.zeros(self.source.shape[0], regulators.dtype)
        value, share = self._tokens(regulators, signal, edge_factor)
        tilt = self._tilt()
        pooled = _pooled([jnp.sum(term, axis=1) for term in _terms(value, share, tilt)], tilt)
        return self._bounded(jnp.sum(self._readout() * pooled, axis=1))

    def attended(
        self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None = None
    ) -> tuple[PerSlot, PerSlot]:
        """How much attention every edge gets in this state, and what it adds.

        **Returns** weights, (gene, slot), averaged over the heads that see edges of the gene in proportion to |c_ih|
        (those of a gene and of its null token sum to 1); and contributions in log-odds, (gene, slot): the correction
        less what it would be if this edge's regulator were absent. Both are 0 where rows are padded.
        """
        if not self.heads:
            nothing = jnp.zeros(self.source.shape, regulators.dtype)
            return nothing, nothing
        (value, share), tilt, read = self._tokens(regulators, signal, edge_factor), self._tilt(), self._readout()
        terms = _terms(value, share, tilt)
        sums = [jnp.sum(term, axis=1) for term in terms]
        weight = (terms[0] + share) / (1.0 + sums[0])[:, None, :]
        size = jnp.where(jnp.any(self._seen(), axis=1), jnp.abs(read) + _LEAST, 0.0)
        total = jnp.sum(size, axis=1, keepdims=True)
        size = size / jnp.where(total > 0, total, 1.0)
        pooled = _pooled(sums, tilt)
        # An absent regulator has value 0, as the null token has: its terms leave the sums, its share stays.
        without = _pooled([whole[:, None, :] - term for whole, term in zip(sums, terms, strict=True)], tilt)
        here = jnp.sum(read * pooled, axis=1)[:, None]
        absent = here - jnp.sum(read[:, None, :] * (pooled[:, None, :] - without), axis=2)
        return jnp.sum(weight * size[:, None, :], axis=2), self._bounded(here) - self._bounded(absent)

    def _tokens(
        self, regulators: PerRegulator, signal: PerInput, edge_factor: PerEdge | None
    ) -> tuple[PerHead, PerHead]:
        """Values of all edges and their shares before values count, 0 where a head does not look; what shares lack to
        1 is the null token's."""
        net = self.network
        pair = net.target[:, None, :] * net.regulator[self.source]

        def of_edge(weight: Array) -> PerHead:
            return jnp.einsum("gsw,hw->gsh", pair, weight)

        level = jnp.log(jnp.maximum(regulators, _LEAST))[self.source]
        steep = 1.0 + 3.0 * jax.nn.sigmoid(net.steep)
        affinity = of_edge(net.affinity) + net.affinity_bias[None, None]
        value = self._signs(of_edge(net.direction)) * jax.nn.sigmoid(steep[None, None] * (level[:, :, None] - affinity))
        signalled = jnp.einsum("gw,ihw,i->gh", net.target, net.signal, signal)
        null = jnp.einsum("gw,hw->gh", net.target, net.null) + net.null_bias[None] - signalled
        logit = of_edge(net.share) - null[:, None, :]
        share = jnp.where(self._seen(), jnp.exp(jnp.clip(logit, -_LOGIT, _LOGIT)), 0.0)
        if edge_factor is not None:
            factor = jnp.concatenate([edge_factor, jnp.zeros(1, edge_factor.dtype)])
            share = share * factor[self.edge][:, :, None]
        return value, share / (1.0 + jnp.sum(share, axis=1, keepdims=True))

    def _signs(self, learned: PerHead) -> PerHead:
        listed = jnp.broadcast_to(self.sign[:, :, None], learned.shape)
        if self.hard:
            return jnp.where(listed == 0, jnp.tanh(learned), listed)
        return jnp.tanh(_SOFT * listed + learned)

    def _seen(self) -> Bool[Array, "gene slot head"]:
        listed = self.edge < self.edges
        looks = [listed if head == ANY else listed & (self.sign == KINDS[head]) for head in self.heads]
        return jnp.stack(looks, axis=-1)

    def _readout(self) -> Pooled:
        """c, which cannot turn a listed sign around where signs are hard."""
        free = jnp.einsum("gw,hw->gh", self.network.target, self.network.readout)
        if not self.hard:
            return free
        known = jnp.asarray([head != "unknown" for head in self.heads])
        # > 0 and smooth, with a slope that hardly fades: what is 0 with a slope could be pushed below and stay there.
        above = 0.5 * (free + jnp.sqrt(free**2 + _KNEE**2))
        return jnp.where(known[None], above, free)

    def _tilt(self) -> Float[Array, " head"]:
        return _TILT * jnp.tanh(self.network.tilt / _TILT)

    def _bounded(self, total: Array) -> Array:
        return self.gate * self.bound * jnp.tanh(total)


def attention_residual(
    source: np.ndarray,
    target: np.ndarray,
    sign: np.ndarray,
    regulators: int,
    inputs: int,
    genes: int,
    *,
    width: int,
    heads: int,
    hard: bool,
    gate: float,
    bound: float,
    affinity: float | int = 1.0,
    key: PRNGKeyArray,
) -> AttentionResidual:
    """An `AttentionResidual` whose output is zero, or next to zero where signs are hard: there c begins at 0.05, since
    a weight that must not become negative has no slope at 0 that could start it.

    **Arguments:** `source`, `target`, `sign`: (edge,), the prior network; `width`: of embeddings; `heads`: per kind of
    edge that the network has, and as many that look at any edge where it has several kinds; `hard`: listed signs cannot
    flip; `affinity`: K to begin with, in the unit of regulators' inputs.

    Good values: width 4-16, one or two heads (the first of a kind begins as "all of them", the second as "any of
    them"), gate and bound as for `mlp_residual`.
    """
    source, target, sign = np.asarray(source, int), np.asarray(target, int), np.asarray(sign, float)
    kinds = [kind for kind, value in KINDS.items() if np.any(sign == value)]
    looks = tuple(kind for kind in (*kinds, *([ANY] if len(kinds) > 1 else [])) for _ in range(heads))
    slots, count = edge_slots(target, genes), len(looks)
    keys = iter(jax.random.split(key, 6))
    size = 1.0 / np.sqrt(width)

    def drawn(*shape: int) -> Array:
        return jax.random.normal(next(keys), shape, dtype=float)

    network = EdgeHeads(
        target=drawn(genes, width),
        regulator=drawn(regulators, width),
        share=size * drawn(count, width),
        affinity=size * drawn(count, width),
        affinity_bias=jnp.full(count, np.log(affinity)),
        direction=size * drawn(count, width),
        null=jnp.zeros((count, width)),
        null_bias=jnp.zeros(count),
        signal=jnp.zeros((inputs, count, width)),
        steep=jnp.full(count, -1.0),
        tilt=jnp.asarray([2.0 * (-1.0) ** (k % heads + 1) for k in range(count)], dtype=float),
        readout=jnp.zeros((count, width)),
    )
    return AttentionResidual(
        gate=interval(gate, 0.0, 1.0),
        bound=jnp.asarray(bound, dtype=float),
        network=network,
        sign=frozen(np.append(sign, 0.0)[slots]),
        source=jnp.asarray(np.append(source, 0)[slots], dtype=int),
        edge=jnp.asarray(slots, dtype=int),
        heads=looks,
        edges=len(source),
        hard=hard,
    )


def _terms(value: PerHead, share: PerHead, tilt: Array) -> tuple[PerHead, PerHead, PerHead]:
    """What an edge adds to E[exp(t v)] - 1, to E[v] and to E[v^2] over tokens."""
    return share * jnp.expm1(tilt[None, None] * value), share * value, share * value**2


def _pooled(sums: list[Array], tilt: Array) -> Array:
    """M, (..., head), from the sums of these: log E[exp(t v)] / t, and its expansion in t where t is next to 0."""
    raised, mean, square = sums
    tilt = jnp.broadcast_to(tilt, mean.shape)
    flat = jnp.abs(tilt) < _FLAT
    steep = jnp.log1p(jnp.where(flat, 0.0, raised)) / jnp.where(flat, 1.0, tilt)
    return jnp.where(flat, mean + 0.5 * tilt * (square - mean**2), steep)
