"""Small reaction systems that textbooks know: births and deaths, the telegraph promoter, the toggle, Schlogl's system,
and genes with several forms.

Sources: J. Peccoud and B. Ycart, Theor. Popul. Biol. 48:222 (1995), telegraph; T. S. Gardner et al., Nature 403:339
(2000), toggle; F. Schlogl, Z. Phys. 253:147 (1972).
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from pinnsim.dynamics.equation import Reaction
from pinnsim.dynamics.reactions import (
    AbstractRateLaw,
    ReactionSystem,
    mass_action_system,
    reaction_system,
)
from pinnsim.dynamics.structure import Structure
from pinnsim.errors import PinnsimError, Problems
from pinnsim.parameter import Parameter
from pinnsim.shapes import Numbers, PerInput, Rates, Scalar, State
from pinnsim.table import Table


def birth_death(birth: Numbers = 10.0, death: Numbers = 1.0, time_unit: str = "min") -> ReactionSystem:
    """`0 -> x` at rate `birth`, `x -> 0` at rate `death x`: in the long run Poisson with mean birth / death."""
    return reaction_system(
        [Reaction("birth", "0 -> x", birth), Reaction("death", "x -> 0", death)], time_unit=time_unit
    )


def telegraph(
    genes: int | Sequence[str] = 1,
    *,
    on: Numbers = 0.05,
    off: Numbers = 0.1,
    transcription: Numbers = 10.0,
    decay: Numbers = 1.0,
    translation: Numbers | None = 5.0,
    protein_decay: Numbers = 0.1,
    time_unit: str = "min",
) -> ReactionSystem:
    """Promoters that switch between off and on, as species, with RNA and (unless `translation` is `None`) protein.

    Each rate is one number or one per gene, (gene,), per time unit. Reactions are `activation`, `inactivation`,
    `transcription`, `decay`, `translation`, `protein_decay`, each `:gene`, so that treatments by gene name work;
    species `gene.off`, `gene.on`, `gene.mrna`, `gene.protein`. Starts with every promoter off; meant for size 1.
    """
    names = tuple(f"g{i}" for i in range(genes)) if isinstance(genes, int) else tuple(genes)
    count, protein = len(names), translation is not None
    layers = ("off", "on", "mrna", "protein")[: 4 if protein else 3]
    kinds: tuple[str, ...] = ("activation", "inactivation", "transcription", "decay", "translation", "protein_decay")
    given = (on, off, transcription, decay, 0.0 if translation is None else translation, protein_decay)
    kinds = kinds[: 6 if protein else 4]
    table = _gene_table(names, layers, kinds)
    place = {layer: [k * count + i for i in range(count)] for k, layer in enumerate(layers)}
    sides = {
        "activation": (("off",), ("on",)),
        "inactivation": (("on",), ("off",)),
        "transcription": (("on",), ("on", "mrna")),
        "decay": (("mrna",), ()),
        "translation": (("mrna",), ("mrna", "protein")),
        "protein_decay": (("protein",), ()),
    }
    used = [[place[layer][i] for layer in sides[kind][0]] for kind in kinds for i in range(count)]
    made = [[place[layer][i] for layer in sides[kind][1]] for kind in kinds for i in range(count)]
    constants = np.concatenate([_per("telegraph rate", rate, count) for rate in given[: len(kinds)]])
    system = mass_action_system(table, time_unit, constants, used, made)
    return eqx.tree_at(lambda s: s.start, system, system.start.at[: len(names)].set(1.0))


class MutualRepression(AbstractRateLaw):
    """Two genes, each made at `strength / (1 + (other / threshold)^hill)` and lost at `decay` times itself; reactions
    in the order both births, both deaths.

    **Arguments:** `strength`, `threshold`, `decay`: (species,); `hill`: a whole exponent.
    """

    strength: Parameter
    threshold: Parameter
    decay: Parameter
    hill: int = eqx.field(static=True)

    def rates(self, structure: Structure, state: State, activity: State, signal: PerInput, grain: Scalar) -> Rates:
        ratio = (state * activity)[::-1] / self.threshold
        return jnp.concatenate([self.strength / (1.0 + ratio**self.hill), self.decay * state])


def toggle(
    strength: Numbers = 10.0,
    threshold: Numbers = 1.0,
    hill: int = 2,
    decay: Numbers = 1.0,
    names: tuple[str, str] = ("u", "v"),
    time_unit: str = "min",
) -> ReactionSystem:
    """Gardner's toggle, `u' = a / (1 + (v / K)^n) - d u` and its mirror; rates are one number or one per gene."""
    u, v = names
    system = [
        Reaction(f"transcription:{u}", f"0 -> {u}.mrna"),
        Reaction(f"transcription:{v}", f"0 -> {v}.mrna"),
        Reaction(f"decay:{u}", f"{u}.mrna -> 0"),
        Reaction(f"decay:{v}", f"{v}.mrna -> 0"),
    ]
    law = MutualRepression(
        jnp.asarray(_per("strength", strength, 2)),
        jnp.asarray(_per("threshold", threshold, 2)),
        jnp.asarray(_per("decay", decay, 2)),
        hill,
    )
    return reaction_system(system, time_unit=time_unit, law=law, genes=names)


def schlogl(
    rates: Sequence[float] = (3e-7, 1e-4, 1e-3, 3.5), pools: Sequence[float] = (1e5, 2e5), time_unit: str = "s"
) -> ReactionSystem:
    """Schlogl's bistable system for molecule numbers (size 1): `B1 + 2 X -> 3 X` at c1 per combination and back at c2,
    `B2 -> X` at c3 and back at c4, with constant pools B1, B2."""
    c1, c2, c3, c4 = rates
    b1, b2 = pools
    return reaction_system(
        [
            # Two and six: probabilities per unordered pair and triple.
            Reaction("autocatalysis", "2 x -> 3 x", c1 * b1 / 2),
            Reaction("reversal", "3 x -> 2 x", c2 / 6),
            Reaction("inflow", "0 -> x", c3 * b2),
            Reaction("outflow", "x -> 0", c4),
        ],
        time_unit=time_unit,
    )


def isoform_kinetics(
    genes: Sequence[str],
    form_gene: Int[np.ndarray, " form"] | Sequence[int],
    protein_form: Int[np.ndarray, " protein"] | Sequence[int],
    *,
    transcription: Numbers,
    splicing: Numbers,
    decay: Numbers,
    translation: Numbers,
    protein_decay: Numbers,
    time_unit: str = "min",
) -> ReactionSystem:
    """Genes with several spliced forms, and forms with several proteins.

        u_g' = c_g - sum_{f of g} beta_f u_g      s_f' = beta_f u_g - gamma_f s_f      p_k' = k_k s_f - delta_k p_k

    **Arguments:** `form_gene`: (form,), the gene of each spliced form; `protein_form`: (protein,), the form that each
    protein is made from; rates per `time_unit`, one number or one each: `transcription` (gene,), `splicing` and
    `decay` (form,), `translation` and `protein_decay` (protein,).

    **Returns** a `ReactionSystem` with species `gene.unspliced`, `gene-1.spliced`, `gene-1-1.protein` and reactions
    `transcription:gene`, `splicing:gene-1`, `decay:gene-1`, `translation:gene-1-1`, `protein_decay:gene-1-1`.

    **Raises** `E_CONFIG_VALUE` for positions that are not there and genes without a form.
    """
    names = tuple(genes)
    of_gene, of_form = np.asarray(form_gene, dtype=int), np.asarray(protein_form, dtype=int)
    with Problems() as problems:
        for what, index, count in (("form_gene", of_gene, len(names)), ("protein_form", of_form, len(of_gene))):
            if ((index < 0) | (index >= count)).any():
                problems.add(
                    "E_CONFIG_VALUE",
                    f"Argument `{what}` must hold positions from 0 to {count - 1}, but holds "
                    f"{sorted(set(index[(index < 0) | (index >= count)].tolist()))[:3]}.",
                )
        mute = [name for i, name in enumerate(names) if i not in set(of_gene.tolist())]
        if mute:
            problems.add(
                "E_CONFIG_VALUE", f"{len(mute)} genes have no spliced form (first: {mute[0]}); give each at least one."
            )
    forms = _numbered(names, of_gene)
    proteins = _numbered(forms, of_form)
    g, f, p = len(names), len(forms), len(proteins)
    species = [f"{n}.unspliced" for n in names] + [f"{n}.spliced" for n in forms] + [f"{n}.protein" for n in proteins]
    reactions = (
        [f"transcription:{n}" for n in names]
        + [f"{kind}:{n}" for kind in ("splicing", "decay") for n in forms]
        + [f"{kind}:{n}" for kind in ("translation", "protein_decay") for n in proteins]
    )
    unspliced, spliced, protein = list(range(g)), list(range(g, g + f)), list(range(g + f, g + f + p))
    used: list[list[int]] = [[] for _ in names] + [[unspliced[i]] for i in of_gene] + [[i] for i in spliced]
    used += [[spliced[i]] for i in of_form] + [[i] for i in protein]
    made = [[i] for i in unspliced] + [[i] for i in spliced] + [[] for _ in forms]
    made += [[spliced[i], k] for i, k in zip(of_form, protein, strict=True)] + [[] for _ in proteins]
    constants = np.concatenate(
        [
            _per("transcription", transcription, g),
            _per("splicing", splicing, f),
            _per("decay", decay, f),
            _per("translation", translation, p),
            _per("protein_decay", protein_decay, p),
        ]
    )
    table = Table(names, (), (), tuple(reactions), tuple(species), ())
    return mass_action_system(table, time_unit, constants, used, made)


def _gene_table(names: tuple[str, ...], layers: tuple[str, ...], kinds: tuple[str, ...]) -> Table:
    species = tuple(f"{name}.{layer}" for layer in layers for name in names)
    return Table(names, (), (), tuple(f"{kind}:{name}" for kind in kinds for name in names), species, ())


def _per(what: str, value: Numbers, count: int) -> Float[np.ndarray, " item"]:
    """One number each, from one for all or one each; finite and >= 0."""
    numbers = np.asarray(value, dtype=float)
    if numbers.shape not in {(), (count,)} or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise PinnsimError.of(
            "E_CONFIG_VALUE", f"Argument `{what}` must be one number or {count}, finite and >= 0, but is {value}."
        )
    return np.broadcast_to(numbers, (count,))


def _numbered(names: tuple[str, ...], owner: np.ndarray) -> tuple[str, ...]:
    """`A-1, A-2, B-1`: the items of each owner, counted from 1."""
    seen = dict.fromkeys(range(len(names)), 0)
    labels = []
    for i in owner.tolist():
        seen[i] += 1
        labels.append(f"{names[i]}-{seen[i]}")
    return tuple(labels)
