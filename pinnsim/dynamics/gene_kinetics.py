"""Gene kinetics: transcription, splicing, translation and decay, with learned promoters.

Per gene i, with the layers chosen by name (the state lists layer after layer, each over all genes, then hidden
activities):

    unspliced  u_i' = c_i a_i(regulators) + drive_i - beta_i u_i          a_i in (0, 1): promoter activity
    spliced    s_i' = beta_i u_i - gamma_i s_i
    mrna       m_i' = c_i a_i + drive_i - gamma_i m_i                     in place of both, without splicing
    protein    p_i' = k_i s_i - delta_i p_i                               regulators = proteins where modelled, else RNA

A regulator's input to promoters is its abundance, or `exp` of its hidden activity, times what signals and
perturbations make of it. Since every a_i is in (0, 1) and every loss is first order,
`0 <= u_i <= max(u_i(0), (c_i + drive_i) / beta_i)`, and so on down the chain, whatever the learned parts say.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pinnsim.dynamics.activity import HiddenActivity
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.regulation import AbstractPromoter
from pinnsim.dynamics.residual import AbstractResidual, NoResidual
from pinnsim.parameter import Parameter
from pinnsim.perturbation import Acting, Edits
from pinnsim.shapes import Hidden, PerGene, PerRegulator, Rates, Scalar, State
from pinnsim.table import Table

_REACH = 40.0  # largest natural-log change of a regulator's input: far beyond saturation, and no exponential overflows

LAYERS: tuple[tuple[str, ...], ...] = (
    ("mrna",),
    ("mrna", "protein"),
    ("unspliced", "spliced"),
    ("unspliced", "spliced", "protein"),
)


def reaction_kinds(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of reactions per gene, in the order of the model's arrays."""
    splicing = ("splicing",) if "spliced" in layers else ()
    protein = ("translation", "protein_decay") if "protein" in layers else ()
    return ("transcription", *splicing, "decay", *protein)


class GeneKinetics(AbstractKinetics):
    """Transcription to protein for all genes of a network.

    **Arguments:** (rates per `time_unit`)

    - `table`, `layers`, `time_unit`: names; `layers` is one of `LAYERS`.
    - `synthesis`: (gene,), c, amount per time at full promoter activity; `splicing`: beta or `None`; `decay`: gamma,
      of mRNA or spliced RNA.
    - `translation`, `protein_decay`: k and delta, or `None`.
    - `promoter`, `residual`: what regulates.
    - `hidden`: hidden activities, of regulators first, then (with `own_inputs`) each gene's own input: the log-odds
      that its unlisted regulators add.
    - `gain`: (regulator, input), log change of a measured regulator's activity per unit of signal.
    - `regulator_state`: (regulator,), position in the state of what stands for each regulator; `regulator_hidden`:
      whether that is a hidden activity.
    """

    table: Table = eqx.field(static=True)
    layers: tuple[str, ...] = eqx.field(static=True)
    time_unit: str = eqx.field(static=True)
    own_inputs: bool = eqx.field(static=True)
    synthesis: Parameter
    splicing: Parameter | None
    decay: Parameter
    translation: Parameter | None
    protein_decay: Parameter | None
    promoter: AbstractPromoter
    residual: AbstractResidual
    hidden: HiddenActivity
    gain: Parameter
    regulator_state: Array
    regulator_hidden: Bool[Array, " regulator"]

    @property
    def genes(self) -> int:
        """Number of genes."""
        return len(self.table.genes)

    @property
    def abundances(self) -> int:
        """Number of species with an abundance: layers x genes; the rest of the state is hidden activity."""
        return len(self.layers) * self.genes

    def layer(self, state: Float[Array, "*batch species"], name: str) -> Float[Array, "*batch gene"]:
        """One layer of a state or of a batch of them, (..., gene). `name` may be "rna" for the mature RNA."""
        name = self.mature_layer if name == "rna" else name
        start = self.layers.index(name) * self.genes
        return state[..., start : start + self.genes]

    @property
    def mature_layer(self) -> str:
        """The layer that is translated and measured by arrays: `mrna` or `spliced`."""
        return "spliced" if "spliced" in self.layers else "mrna"

    def regulator_inputs(self, state: State, edits: Edits) -> PerRegulator:
        """What promoters see of each regulator, (regulator,), >= 0: abundance or exp(hidden), times signals' and
        perturbations' effect."""
        here = state[self.regulator_state]
        signalled = edits.activity[self.regulator_state] * jnp.exp(jnp.clip(self.gain @ edits.signal, -_REACH, _REACH))
        if not self.hidden.tau.shape[0]:
            return jnp.maximum(here, 0.0) * signalled
        hidden = jnp.exp(jnp.clip(jnp.where(self.regulator_hidden, here, 0.0), -_REACH, _REACH))
        level = jnp.where(self.regulator_hidden, hidden, jnp.maximum(here, 0.0))
        return level * signalled

    def promoter_log_odds(self, state: State, edits: Edits) -> PerGene:
        """Log-odds of promoter activity, (gene,), all parts together."""
        regulators = self.regulator_inputs(state, edits)
        listed, shift = self.promoter.log_odds(regulators, edits.edge_factor), self._shift(regulators, state, edits)
        return listed if shift is None else listed + shift

    def promoter_activity(self, state: State, edits: Edits, more: PerGene | None = None) -> PerGene:
        """a, (gene,), in [0, 1]. **Arguments:** `more`: (gene,), added to the log-odds, `None` where nothing is."""
        regulators = self.regulator_inputs(state, edits)
        shift = self._shift(regulators, state, edits)
        if more is not None:
            shift = more if shift is None else shift + more
        return self.promoter.activity(regulators, edits.edge_factor, shift)

    def _shift(self, regulators: PerRegulator, state: State, edits: Edits) -> PerGene | None:
        """What genes' own inputs and the residual add to the log-odds; `None` where the model has neither."""
        learned = (
            None
            if isinstance(self.residual, NoResidual)
            else self.residual(regulators, edits.signal, edits.edge_factor)
        )
        if not self.own_inputs:
            return learned
        own = state[-self.genes :]
        return own if learned is None else own + learned

    def propensities(self, time: Scalar, state: State, perturbation: Acting) -> Rates:
        return jnp.concatenate(list(self._flows(state, perturbation.at(time)).values()))

    def _flows(self, state: State, edits: Edits) -> dict[str, PerGene]:
        """Propensities by kind of reaction. Factors multiply constants first: between switches, that is done once."""
        factor = self.by_kind(edits.factor)
        flows = {"transcription": (factor["transcription"] * self.synthesis) * self.promoter_activity(state, edits)}
        if self.splicing is not None:
            flows["splicing"] = (factor["splicing"] * self.splicing) * self.layer(state, "unspliced")
        flows["decay"] = (factor["decay"] * self.decay) * self.layer(state, "rna")
        if self.translation is not None and self.protein_decay is not None:
            flows["translation"] = (factor["translation"] * self.translation) * self.layer(state, "rna")
            flows["protein_decay"] = (factor["protein_decay"] * self.protein_decay) * self.layer(state, "protein")
        return flows

    def vector_field(self, time: Scalar, state: State, perturbation: Acting) -> State:
        edits = perturbation.at(time)
        state = jnp.where(edits.hold, edits.level, state)
        changes = [*self._net(self._flows(state, edits)), self._relaxation(state, edits)]
        # Part by part: arithmetic on parts is one pass over them, on their concatenation it is a second one.
        ends = np.cumsum([part.shape[0] for part in changes])[:-1].tolist()
        parts = zip(changes, jnp.split(edits.hold, ends), jnp.split(edits.drive, ends), strict=True)
        return jnp.concatenate([jnp.where(hold, 0.0, change + drive) for change, hold, drive in parts])

    def by_kind(self, rates: Rates) -> dict[str, PerGene]:
        """Reaction-wise numbers as one row of genes per kind of reaction."""
        return dict(zip(reaction_kinds(self.layers), rates.reshape(-1, self.genes), strict=True))

    def _net(self, flows: dict[str, PerGene]) -> list[PerGene]:
        """S v, written out, by layer: what enters less what leaves."""
        spliced = "splicing" in flows
        changes = [flows["transcription"] - flows["splicing" if spliced else "decay"]]
        if spliced:
            changes.append(flows["splicing"] - flows["decay"])
        if "translation" in flows:
            changes.append(flows["translation"] - flows["protein_decay"])
        return changes

    def _relaxation(self, state: State, edits: Edits) -> Hidden:
        return self.hidden.drift(state[self.abundances :], edits.signal)

    def stoichiometry(self) -> np.ndarray:
        genes, kinds = self.genes, reaction_kinds(self.layers)
        column = {kind: slice(k * genes, (k + 1) * genes) for k, kind in enumerate(kinds)}
        row = {layer: slice(k * genes, (k + 1) * genes) for k, layer in enumerate(self.layers)}
        matrix = np.zeros((len(self.table.species), len(self.table.reactions)), dtype=int)
        one = np.eye(genes, dtype=int)
        matrix[row[self.layers[0]], column["transcription"]] = one
        matrix[row[self.mature_layer], column["decay"]] = -one
        if "splicing" in column:
            matrix[row["unspliced"], column["splicing"]], matrix[row["spliced"], column["splicing"]] = -one, one
        if "translation" in column:
            # The RNA is a catalyst of translation: it is not consumed.
            matrix[row["protein"], column["translation"]], matrix[row["protein"], column["protein_decay"]] = one, -one
        return matrix

    def material(self) -> Bool[Array, " species"]:
        return jnp.arange(len(self.table.species)) < self.abundances

    def default_state(self) -> State:
        """At rest at half the maximal expression, hidden activities at their set points without signals."""
        rna = 0.5 * self.synthesis / self.decay
        return self.chain_at_rest(rna, jnp.zeros_like(self.hidden.tau))

    def chain_at_rest(self, rna: PerGene, hidden: Hidden, factor: Rates | None = None) -> State:
        """The state in which every layer is at rest with mature RNA at `rna`, `u = gamma s / beta`, `p = k s / delta`,
        where `factor` (> 0, default 1) multiplies the rates."""
        edited = self.by_kind(jnp.ones(len(self.table.reactions), rna.dtype) if factor is None else factor)
        parts = []
        if self.splicing is not None:
            parts.append(edited["decay"] * self.decay * rna / (edited["splicing"] * self.splicing))
        parts.append(rna)
        if self.translation is not None and self.protein_decay is not None:
            made, lost = edited["translation"] * self.translation, edited["protein_decay"] * self.protein_decay
            parts.append(made * rna / lost)
        return jnp.concatenate([*parts, hidden])
