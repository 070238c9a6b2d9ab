"""Physics by construction: what no network, no weights of the residual and no perturbation can break.

Non-negativity, bounded synthesis, reactions that stop with their reactant, mass balance, and the symmetries of the
equations: the clock's origin, the unit of time, the order of genes. Models, states and perturbations are random and far
outside what a fit would find; each kind of model is compiled once and solved as one batch.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, random_perturbation, random_state, randomised, rewired

from pinnsim.dynamics.gene_kinetics import LAYERS, GeneKinetics
from pinnsim.dynamics.regulation import edge_slots
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, Outcome, solve
from pinnsim.treatment import Treatment
from pinnsim.tree import lane, stack

LANES, SPAN = 16, 12.0
TIMES = jnp.linspace(0.0, SPAN, 13)
TIGHT = ODE(1e-12, 1e-13)
FORMS = ("mlp", "attention", "low_rank", "mlp")
KINDS = [*zip(LAYERS, FORMS, strict=True), (("mrna",), "none")]

field = eqx.filter_jit(GeneKinetics.vector_field)
run = eqx.filter_jit(solve)


@eqx.filter_jit
def run_batch(kinetics: GeneKinetics, perturbations: Perturbation, states: jax.Array):
    def one(k: GeneKinetics, p: Perturbation, x: jax.Array):
        return solve(k, TIMES, p, x, ODE(1e-7, 1e-10, max_steps=16384))

    return eqx.filter_vmap(one)(kinetics, perturbations, states)


@eqx.filter_jit
def probe(kinetics: GeneKinetics, perturbations: Perturbation, states: jax.Array, time: jax.Array):
    """Promoter activities, propensities and vector field of every lane, and with each species absent in turn."""

    def one(k: GeneKinetics, p: Perturbation, x: jax.Array):
        absent = jnp.where(jnp.eye(x.size, dtype=bool) & k.material()[:, None], 0.0, x[None])
        rates = jax.vmap(lambda y: k.propensities(time, y, p))
        return (
            k.promoter_activity(x, p.at(time)),
            rates(absent),
            jax.vmap(lambda y: k.vector_field(time, y, p))(absent),
            p.at(time),
        )

    return eqx.filter_vmap(one)(kinetics, perturbations, states)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join([*kind[0], kind[1]]))
def lanes(request: pytest.FixtureRequest):
    """Random networks, weights, hidden states and perturbations; every fourth lane is left alone."""
    layers, residual = request.param
    plain = model_of(layers, genes=3, unmeasured=2, own_inputs=True, residual=residual)
    kinetics = stack([resolve(rewired(randomised(plain, k, 1.0, 20.0), k).kinetics) for k in range(LANES)])
    table = plain.table
    perturbations = [
        random_perturbation(table, k, SPAN) if k % 4 else Perturbation.none(table, 3) for k in range(LANES)
    ]
    states = jnp.stack([random_state(plain.kinetics, k, 5.0) for k in range(LANES)])
    return kinetics, Perturbation.stack(perturbations), states


def ceilings(k: GeneKinetics, p: Perturbation, begin: np.ndarray) -> np.ndarray:
    """The most that each abundance can reach: `max(start, held level, production / loss)`, layer after layer, with the
    largest production and the smallest loss that the perturbation allows; without any loss it fills at most linearly.
    """
    factor = np.asarray(p.factor)
    most = k.by_kind(jnp.asarray(np.prod(np.maximum(factor, 1.0), axis=0)))
    least = k.by_kind(jnp.asarray(np.prod(np.minimum(factor, 1.0), axis=0)))
    drive = np.split(np.asarray(p.drive).sum(0)[: k.abundances], len(k.layers))
    held = np.split((np.asarray(p.hold) * np.asarray(p.level)).max(0)[: k.abundances], len(k.layers))
    made = most["transcription"] * k.synthesis
    kinds = {"unspliced": ("splicing", k.splicing), "protein": ("protein_decay", k.protein_decay)}
    out, before = [], None
    for i, name in enumerate(k.layers):
        kind, rate = kinds.get(name, ("decay", k.decay))
        if name == "spliced":
            made = most["splicing"] * k.splicing * before
        if name == "protein":
            made = most["translation"] * k.translation * before
        production, loss = np.asarray(made) + drive[i], np.asarray(least[kind] * rate)
        start = np.maximum(begin[i * k.genes : (i + 1) * k.genes], held[i])
        balance = np.divide(production, loss, out=np.full(k.genes, np.inf), where=loss > 0)
        before = np.minimum(np.maximum(start, balance), start + production * SPAN)
        out.append(before)
    return np.concatenate(out)


def test_abundances_stay_between_zero_and_their_ceiling(lanes) -> None:
    kinetics, perturbations, states = lanes
    got = run_batch(kinetics, perturbations, states)
    np.testing.assert_array_equal(got.outcome, int(Outcome.DONE))
    for i in range(LANES):
        k, p = lane(kinetics, i), lane(perturbations, i)
        abundance = np.asarray(got.states[i, :, : k.abundances])
        ceiling = ceilings(k, p, np.asarray(states[i]))
        # The solver's own error, before `simulate` clips it at zero.
        assert (abundance >= -1e-8 * (1 + ceiling)).all()
        assert (abundance <= ceiling * (1 + 1e-6) + 1e-9).all()


def test_the_ceiling_is_reached_by_full_promoters(lanes) -> None:
    """The bound is not vacuous: an own input of +30 in log-odds brings unperturbed RNA to c / loss."""
    k, states = lane(lanes[0], 0), lanes[2]
    state = states[0].at[-k.genes :].set(30.0)
    made = field(k, jnp.zeros(()), state.at[: k.genes].set(0.0), Perturbation.none(k.table, 3))[: k.genes]
    odds = k.promoter_log_odds(state, Perturbation.none(k.table).at(jnp.zeros(())))
    np.testing.assert_allclose(made, k.synthesis / (1 + jnp.exp(-odds)), rtol=1e-9)


def test_faces_propensities_and_balance(lanes) -> None:
    kinetics, perturbations, states = lanes
    matrix = lane(kinetics, 0).stoichiometry()
    material = np.asarray(lane(kinetics, 0).material())
    amounts = np.flatnonzero(material)
    for moment in (0.0, 1.7, 6.1):
        active, rates, force, edits = (
            jax.tree.map(np.asarray, part) for part in probe(kinetics, perturbations, states, jnp.asarray(moment))
        )
        assert (active >= 0).all()
        assert (active <= 1).all()
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()
        # At the face where species i is absent, nothing takes it away, and the field does not point out.
        takes = matrix[amounts] < 0
        assert not rates[:, amounts][:, takes].any()
        assert (force[:, amounts, amounts] >= 0).all()
        # S v + drive, but for what is held: there v is that of the held level, and nothing moves.
        whole = np.einsum("sr,lir->lis", matrix, rates) + edits.drive[:, None]
        free = ~edits.hold.any(axis=1)
        assert free.sum() >= LANES // 4
        np.testing.assert_allclose(force[free][..., material], whole[free][..., material], rtol=1e-10, atol=1e-10)
        held = np.broadcast_to(edits.hold[:, None], force.shape)
        assert not force[held].any()


def test_moderate_promoters_are_strictly_between_off_and_on() -> None:
    """Within what doubles resolve (log-odds below 36), no promoter is ever fully off or on."""
    plain = model_of(genes=3, unmeasured=2, own_inputs=True, residual="mlp")
    for seed in range(20):
        k = resolve(rewired(randomised(plain, seed, 0.7, 20.0), seed).kinetics)
        p = random_perturbation(k.table, seed, SPAN)
        active = np.asarray(k.promoter_activity(random_state(k, seed, 2.0), p.at(jnp.asarray(3.0))))
        assert (active > 0).all()
        assert (active < 1).all()


@pytest.fixture(scope="module")
def cell() -> tuple[GeneKinetics, Perturbation, jax.Array]:
    """One model with everything in it, under a perturbation with several switches and a dose."""
    layers = ("unspliced", "spliced", "protein")
    k = resolve(
        randomised(model_of(layers, genes=3, unmeasured=1, own_inputs=True, residual="mlp"), 11, 0.5, 1.0).kinetics
    )
    text = "g0*3@1:4, signal(food)=1@2:, drive(g1)=0.4@3:5, decay(g2)*2{dose=2;ka=0.7;ke=0.2;ic50=1}@0.5:"
    return k, Treatment.parse(text).resolve(k.table), random_state(k, 12, 1.0) + 0.05


def solved(k: GeneKinetics, times: jax.Array, p: Perturbation, x: jax.Array) -> np.ndarray:
    got = run(k, times, p, x, TIGHT)
    assert int(got.outcome) == Outcome.DONE
    return np.asarray(got.states)


def test_the_clock_has_no_origin(cell) -> None:
    k, p, x = cell
    base = solved(k, TIMES, p, x)
    for shift in (-50.0, 1000.0):
        later = eqx.tree_at(lambda q: (q.start, q.stop), p, (p.start + shift, p.stop + shift))
        np.testing.assert_allclose(solved(k, TIMES + shift, later, x), base, rtol=1e-10, atol=1e-10)


def test_the_unit_of_time_does_not_matter(cell) -> None:
    """Minutes to hours: rates times 60, times and time constants by 60."""
    k, p, x = cell
    rates = ("synthesis", "splicing", "decay", "translation", "protein_decay")
    hourly = eqx.tree_at(lambda q: [getattr(q, name) for name in rates], k, [60 * getattr(k, name) for name in rates])
    hourly = eqx.tree_at(lambda q: q.hidden.tau, hourly, k.hidden.tau / 60)
    timed = eqx.tree_at(
        lambda q: (q.start, q.stop, q.ka, q.ke, q.drive),
        p,
        (p.start / 60, p.stop / 60, p.ka * 60, p.ke * 60, p.drive * 60),
    )
    np.testing.assert_allclose(solved(hourly, TIMES / 60, timed, x), solved(k, TIMES, p, x), rtol=1e-10, atol=1e-10)


def test_the_order_of_genes_regulators_and_edges_does_not_matter(cell) -> None:
    k, p, x = cell
    genes, regulators, edges = (np.array(order) for order in ([2, 0, 1], [3, 1, 0, 2], [4, 6, 1, 0, 5, 2, 3]))
    assert (len(k.table.regulators), len(k.table.edges)) == (4, 7)
    hidden = np.concatenate([[0], 1 + genes])
    species = np.concatenate([genes + k.genes * i for i in range(3)] + [k.abundances + hidden])
    reactions = np.concatenate([genes + k.genes * i for i in range(len(k.table.reactions) // k.genes)])
    old = k.promoter
    target = np.argsort(genes)[np.asarray(old.target)][edges]
    slots = np.full(old.slots.shape, len(edges))
    narrow = edge_slots(target, k.genes)
    slots[:, : narrow.shape[1]] = narrow
    promoter = type(old)(
        basal=old.basal[genes],
        reference=old.reference[regulators],
        **{name: getattr(old, name)[edges] for name in ("strength", "sign", "affinity", "hill")},
        source=jnp.asarray(np.argsort(regulators)[np.asarray(old.source)][edges]),
        target=jnp.asarray(target),
        slots=jnp.asarray(slots),
    )
    columns = np.concatenate([regulators, [4, 5]])  # the last two are signals
    per_gene = ("synthesis", "splicing", "decay", "translation", "protein_decay")
    first, last = k.residual.network.layers[0], k.residual.network.layers[-1]
    moved = eqx.tree_at(
        lambda q: (
            *(getattr(q, name) for name in per_gene),
            *(q.hidden.effect, q.hidden.tau, q.hidden.spread),
            *(q.gain, q.regulator_state, q.regulator_hidden),
            q.residual.network.layers[0].weight,
            *(q.residual.network.layers[-1].weight, q.residual.network.layers[-1].bias),
        ),
        k,
        (
            *(getattr(k, name)[genes] for name in per_gene),
            *(k.hidden.effect[hidden], k.hidden.tau[hidden], k.hidden.spread[hidden]),
            k.gain[regulators],
            jnp.asarray(np.argsort(species)[np.asarray(k.regulator_state)][regulators]),
            k.regulator_hidden[regulators],
            first.weight[:, columns],
            *(last.weight[genes], last.bias[genes]),
        ),
    )
    moved = eqx.tree_at(lambda q: q.promoter, moved, promoter)
    orders = {"factor": reactions, "edge_factor": edges}
    orders |= dict.fromkeys(("activity", "drive", "hold", "level"), species)
    sorted_p = eqx.tree_at(
        lambda q: [getattr(q, name) for name in orders], p, [getattr(p, name)[:, o] for name, o in orders.items()]
    )
    base = solved(k, TIMES, p, x)
    np.testing.assert_allclose(solved(moved, TIMES, sorted_p, x[species]), base[:, species], rtol=1e-10, atol=1e-10)
    # The orders are really different.
    assert not np.allclose(base[:, species], base, rtol=1e-3)


@pytest.mark.parametrize("edit", ["g0=0@2:", "g0=0", "g0*50@2:5", "translation(g0)*0", "activity(g0)*0"])
def test_editing_an_unexpressed_gene_is_a_no_op(cell, edit: str) -> None:
    k, _, x = cell
    silent = eqx.tree_at(lambda q: q.synthesis, k, k.synthesis.at[0].set(1e-250))
    absent = x.at[jnp.arange(3) * k.genes].set(0.0)
    base = solved(silent, TIMES, Treatment.parse("none").resolve(k.table, 4), absent)
    edited = solved(silent, TIMES, Treatment.parse(edit).resolve(k.table, 4), absent)
    np.testing.assert_allclose(edited, base, rtol=1e-10, atol=1e-12)
    assert np.abs(edited[:, [0, 3, 6]]).max() < 1e-200
    # The same edit of an expressed gene is none.
    if "activity" not in edit:
        other = solved(silent, TIMES, Treatment.parse(edit.replace("g0", "g1")).resolve(k.table, 4), absent)
        assert np.abs(other - base).max() > 1e-3
