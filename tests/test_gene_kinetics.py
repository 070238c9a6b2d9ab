"""Gene kinetics: the vector field is S v + drive by hand, for every choice of layers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, prior_of, random_perturbation, random_state, randomised

from pinnsim.dynamics.gene_kinetics import LAYERS, GeneKinetics
from pinnsim.errors import PinnsimError
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.perturbation import Perturbation
from pinnsim.treatment import NONE, Treatment

NOW = jnp.zeros(())
field = eqx.filter_jit(GeneKinetics.vector_field)
rates = eqx.filter_jit(GeneKinetics.propensities)


def kinetics(layers: tuple[str, ...], **kwargs) -> GeneKinetics:
    return resolve(randomised(model_of(layers, **kwargs), 1).kinetics)


@pytest.mark.parametrize("layers", LAYERS, ids="-".join)
def test_by_hand(layers: tuple[str, ...]) -> None:
    k = kinetics(layers)
    x = random_state(k, 2)
    none = Perturbation.none(k.table)
    active = k.promoter_activity(x, none.at(NOW))
    part = {name: np.asarray(k.layer(x, name)) for name in layers}
    made = k.synthesis * active
    expected = []
    if "unspliced" in layers:
        expected += [made - k.splicing * part["unspliced"]]
        expected += [k.splicing * part["unspliced"] - k.decay * part["spliced"]]
    else:
        expected += [made - k.decay * part["mrna"]]
    if "protein" in layers:
        expected += [k.translation * part[k.mature_layer] - k.protein_decay * part["protein"]]
    np.testing.assert_allclose(field(k, NOW, x, none)[: k.abundances], np.concatenate(expected), rtol=1e-12)


@pytest.mark.parametrize("layers", LAYERS, ids="-".join)
def test_field_is_stoichiometry_times_propensities(layers: tuple[str, ...]) -> None:
    k = kinetics(layers, unmeasured=1, own_inputs=True, residual="mlp")
    matrix, material = k.stoichiometry(), np.asarray(k.material())
    assert matrix.shape == (len(k.table.species), len(k.table.reactions))
    assert not matrix[~material].any()
    for seed in range(10):
        p, x = random_perturbation(k.table, seed, 10.0), random_state(k, seed)
        p = eqx.tree_at(lambda q: q.hold, p, jnp.zeros_like(p.hold))
        time = jnp.asarray(float(seed))
        v = np.asarray(rates(k, time, x, p))
        whole = matrix @ v + np.asarray(p.at(time).drive)
        got = np.asarray(field(k, time, x, p))
        np.testing.assert_allclose(got[material], whole[material], rtol=1e-12, atol=1e-12)


def test_names_and_arrays_agree() -> None:
    k = kinetics(("unspliced", "spliced", "protein"), unmeasured=1, own_inputs=True)
    table = k.table
    assert table.species[:2] == ("g0.unspliced", "g1.unspliced")
    assert table.species[12:] == ("h0.activity", "g0.input", "g1.input", "g2.input", "g3.input")
    assert k.default_state().shape == (17,)
    stands = {name: table.species[int(i)] for name, i in zip(table.regulators, k.regulator_state, strict=True)}
    assert stands["g0"] == "g0.protein"
    assert stands["h0"] == "h0.activity"
    # Each edit of one reaction changes that reaction's rate and no other.
    x = jnp.ones(17)
    plain = rates(k, NOW, x, Perturbation.none(table))
    for position, name in enumerate(table.reactions):
        edited = rates(k, NOW, x, Treatment.parse(f"reaction({name})*3").resolve(table))
        np.testing.assert_allclose(edited / plain, np.where(np.arange(len(plain)) == position, 3.0, 1.0), rtol=1e-12)


def test_hidden_activity_relaxes_to_what_signals_say() -> None:
    k = kinetics(("mrna",), unmeasured=1, inputs=("food", "heat"))
    p = Treatment.parse("signal(food)=2, signal(heat)=-1").resolve(k.table)
    h = jnp.asarray(0.3)
    x = k.default_state().at[-1].set(h)
    wanted = (k.hidden.effect[0] @ jnp.asarray([2.0, -1.0]) - h) / k.hidden.tau[0]
    assert float(field(k, NOW, x, p)[-1]) == pytest.approx(float(wanted), rel=1e-12)


def test_regulator_inputs() -> None:
    k = kinetics(("mrna", "protein"), unmeasured=1)
    x = random_state(k, 4)
    p = Treatment.parse("activity(g0)*0.25, h0=0, signal(food)=1").resolve(k.table)
    got = dict(zip(k.table.regulators, k.regulator_inputs(x, p.at(NOW)).tolist(), strict=True))
    gain = dict(zip(k.table.regulators, np.asarray(jnp.exp(k.gain[:, 0])).tolist(), strict=True))
    assert got["g0"] == pytest.approx(0.25 * float(k.layer(x, "protein")[0]) * gain["g0"])
    assert got["h0"] == 0.0


@pytest.mark.parametrize("level", [-1e4, 1e4])
def test_extreme_hidden_states_and_signals_stay_finite(level: float) -> None:
    k = kinetics(("mrna",), unmeasured=1, own_inputs=True, residual="mlp")
    x = k.default_state().at[k.abundances :].set(level)
    p = eqx.tree_at(
        lambda q: (q.signal, q.start), Perturbation.none(k.table), (jnp.full((1, 2), level), jnp.full(1, -jnp.inf))
    )
    assert np.isfinite(np.asarray(field(k, NOW, x, p))).all()
    assert np.isfinite(np.asarray(jax.jacfwd(lambda y: field(k, NOW, y, p))(x))).all()


def test_hold_stops_a_species_and_feeds_the_rest() -> None:
    k = kinetics(("mrna", "protein"))
    x = random_state(k, 5)
    held = Treatment.parse("hold(g0)=2.5").resolve(k.table)
    position = k.table.species.index("g0.protein")
    same = field(k, NOW, x.at[position].set(2.5), Perturbation.none(k.table)).at[position].set(0.0)
    np.testing.assert_allclose(field(k, NOW, x, held), same, rtol=1e-12)


@pytest.mark.parametrize("layers", LAYERS, ids="-".join)
def test_chain_at_rest(layers: tuple[str, ...]) -> None:
    k = kinetics(layers)
    rna = jnp.asarray([0.1, 2.0, 0.0, 3.0])
    state = k.chain_at_rest(rna, jnp.zeros_like(k.hidden.tau))
    np.testing.assert_array_equal(k.layer(state, "rna"), rna)
    v = k.by_kind(rates(k, NOW, state, NONE.resolve(k.table)))
    if "splicing" in v:
        np.testing.assert_allclose(v["splicing"], v["decay"], rtol=1e-12)
    if "translation" in v:
        np.testing.assert_allclose(v["translation"], v["protein_decay"], rtol=1e-12)


def test_build_refuses() -> None:
    with pytest.raises(PinnsimError, match="E_CONFIG_VALUE"):
        model_of(("protein",))
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        model_of(("mrna",), unmeasured=1, hidden="none")
    network = Network.empty(("a", "b"))
    with pytest.raises(PinnsimError, match="E_GENE_UNMATCHED"):
        build(ModelConfig(), network, prior_of(Network.empty(("b", "a"))))
    with pytest.raises(PinnsimError, match="E_NETWORK_EMPTY"):
        build(ModelConfig(), Network.empty(()), prior_of(Network.empty(())))


def test_a_model_without_edges_has_constant_promoters() -> None:
    network = Network.empty(("a", "b"))
    k = resolve(build(ModelConfig(), network, prior_of(network)).center.kinetics)
    p = Perturbation.none(k.table)
    np.testing.assert_allclose(k.promoter_activity(jnp.asarray([1.0, 2.0]), p.at(NOW)), 0.5)
