"""Reaction systems: equations as text, mass action, custom laws, perturbations, conservation laws, isoforms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import Partial
from systems import model_of

from pinnsim.dynamics.conservation import conservation_laws, law_names
from pinnsim.dynamics.equation import Reaction, read_equation
from pinnsim.dynamics.gene_kinetics import LAYERS, reaction_kinds
from pinnsim.dynamics.motifs import isoform_kinetics, schlogl, telegraph, toggle
from pinnsim.dynamics.reactions import (
    Custom,
    ReactionSystem,
    mass_action_system,
    reaction_system,
)
from pinnsim.dynamics.structure import Structure, changes_of, gene_structure, net_change, take_rows
from pinnsim.errors import PinnsimError, Problems
from pinnsim.perturbation import Perturbation
from pinnsim.simulate import ODE, solve, steady_state
from pinnsim.treatment import Treatment

NOW = jnp.zeros(())


def binding() -> ReactionSystem:
    return reaction_system(
        [
            Reaction("bind", "A + B -> AB", 0.2),
            Reaction("unbind", "AB -> A + B", 0.5),
            Reaction("use", "2 A -> C", 0.1),
        ],
        time_unit="min",
        start={"A": 3.0, "B": 2.0},
    )


def plain(system: ReactionSystem) -> Perturbation:
    return Perturbation.none(system.table)


def test_mass_action_and_its_stoichiometry() -> None:
    system = binding()
    assert system.table.species == ("A", "B", "AB", "C")
    np.testing.assert_array_equal(system.stoichiometry(), [[-1, 1, -2], [-1, 1, 0], [1, -1, 0], [0, 0, 1]])
    state = jnp.asarray([3.0, 2.0, 4.0, 1.0])
    rates = system.propensities(NOW, state, plain(system))
    np.testing.assert_allclose(rates, [0.2 * 3 * 2, 0.5 * 4, 0.1 * 9], rtol=1e-15)
    change = system.vector_field(NOW, state, plain(system))
    np.testing.assert_allclose(change, system.stoichiometry() @ np.asarray(rates), rtol=1e-15)
    np.testing.assert_array_equal(system.default_state(), [3.0, 2.0, 0.0, 0.0])


def test_molecular_propensities_are_combinatorial() -> None:
    """Omega v with one molecule 1 / Omega: n (n - 1) / Omega for pairs, exactly 0 where a reactant is too few."""
    system = reaction_system([Reaction("two", "2 A -> B", 0.7), Reaction("three", "3 A + B -> 0", 0.3)], time_unit="s")
    for size in (1.0, 3.7):
        for n, other in ((0, 1), (1, 1), (2, 1), (3, 0), (3, 2), (10, 4)):
            grain = jnp.asarray(1.0 / size)
            state = jnp.asarray([float(n), float(other)]) * grain
            rates = size * system.molecular(state, plain(system).at(NOW), grain)
            exact = [0.7 * n * (n - 1) / size, 0.3 * n * (n - 1) * (n - 2) * other / size**3]
            np.testing.assert_allclose(rates, exact, rtol=1e-13, atol=0)


def test_schlogl_has_the_textbook_propensities() -> None:
    system, n = schlogl(), 137.0
    rates = system.molecular(jnp.asarray([n]), plain(system).at(NOW), jnp.ones(()))
    birth = 3e-7 * 1e5 * n * (n - 1) / 2 + 1e-3 * 2e5
    death = 1e-4 * n * (n - 1) * (n - 2) / 6 + 3.5 * n
    np.testing.assert_allclose([rates[0] + rates[2], rates[1] + rates[3]], [birth, death], rtol=1e-14)


def test_perturbations_act_as_in_gene_kinetics() -> None:
    system = telegraph(2, translation=5.0)
    state = jnp.asarray([1.0, 0.5, 0.0, 0.5, 3.0, 2.0, 8.0, 9.0])
    base = system.propensities(NOW, state, plain(system))
    knocked = system.propensities(NOW, state, Treatment.parse("g1=0").resolve(system.table))
    position = system.table.reactions.index("transcription:g1")
    np.testing.assert_array_equal(knocked, np.where(np.arange(12) == position, 0.0, base))
    # A catalyst that counts double makes twice the product, and is itself lost as before.
    doubled = system.propensities(NOW, state, Treatment.parse("activity(g0.mrna)*2").resolve(system.table))
    translation = system.table.reactions.index("translation:g0")
    np.testing.assert_allclose(doubled, np.where(np.arange(12) == translation, 2 * base, base), rtol=1e-15)
    driven = system.vector_field(
        NOW, state, Treatment.parse("drive(g0.mrna)=1.5, hold(g1.protein)=4").resolve(system.table)
    )
    still = system.vector_field(NOW, state, plain(system))
    expected = np.asarray(still) + 1.5 * (np.arange(8) == 4)
    expected[7] = 0.0
    np.testing.assert_allclose(driven, expected, rtol=1e-15)


def _fed(state: jax.Array, active: jax.Array, parameters: jax.Array, signal: jax.Array) -> jax.Array:
    return jnp.stack([parameters[0] * signal[0] / (1.0 + active[1]), parameters[1] * state[0]])


@pytest.mark.parametrize("function", [_fed, Partial(_fed)])
def test_custom_laws_see_state_activity_parameters_and_signal(function) -> None:
    system = reaction_system(
        [Reaction("make", "0 -> A"), Reaction("turn", "A -> B")],
        time_unit="h",
        law=Custom(function, jnp.asarray([2.0, 0.3])),
        inputs=("food",),
    )
    p = Treatment.parse("signal(food)=3, activity(B)*2").resolve(system.table)
    rates = system.propensities(NOW, jnp.asarray([4.0, 1.0]), p)
    np.testing.assert_allclose(rates, [2.0 * 3.0 / (1.0 + 2.0), 0.3 * 4.0], rtol=1e-15)


def test_toggle_has_the_attractors_in_closed_form() -> None:
    system = toggle(10.0)
    got = steady_state(system, plain(system), jnp.asarray([8.0, 1.0]))
    np.testing.assert_allclose(got.state, [5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)], atol=1e-8)


def test_conserved_totals_of_the_rate_equations_do_not_drift() -> None:
    system = binding()
    p = Treatment.parse("reaction(use)*0").resolve(system.table)
    method = ODE(1e-8, 1e-10)
    got = eqx.filter_jit(solve)(system, jnp.linspace(0.0, 500.0, 6), p, jnp.asarray([3.0, 2.0, 1.0, 0.0]), method)
    laws = conservation_laws(system.stoichiometry()[:, :2])
    totals = np.asarray(got.states) @ laws.T
    np.testing.assert_allclose(totals, np.broadcast_to(totals[0], totals.shape), rtol=1e-9)


def test_conservation_laws_are_moieties_with_names() -> None:
    species, reactions = ("A", "B", "AB"), (("A", "B"), ("AB",))
    index = {name: i for i, name in enumerate(species)}
    used = [[index[n] for n in side] for side in reactions]
    matrix = mass_matrix(3, used, used[::-1])
    laws = conservation_laws(matrix)
    assert sorted(law_names(laws, species)) == ["A + AB = total", "B + AB = total"]
    enzyme = reaction_system(
        [Reaction("on", "E + S -> ES", 1), Reaction("off", "ES -> E + S", 1), Reaction("make", "ES -> E + 2 P", 1)],
        time_unit="s",
    )
    names = law_names(conservation_laws(enzyme.stoichiometry()), enzyme.table.species)
    assert sorted(names) == ["2 S + 2 ES + P = total", "E + ES = total"]
    assert conservation_laws(schlogl().stoichiometry()).shape == (0, 1)
    assert law_names(conservation_laws(telegraph(3).stoichiometry()), telegraph(3).table.species) == (
        "g0.off + g0.on = total",
        "g1.off + g1.on = total",
        "g2.off + g2.on = total",
    )


def mass_matrix(species: int, used: list, made: list) -> np.ndarray:
    return Structure(species, len(used), tuple(map(tuple, used)), tuple(changes_of(used, made))).matrix


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=6, max_size=6))
def test_conservation_laws_span_the_left_null_space(rows: list[list[int]]) -> None:
    matrix = np.array(rows)
    laws = conservation_laws(matrix)
    rank = np.linalg.matrix_rank(matrix)
    assert laws.shape == (6 - rank, 6)
    assert not (laws @ matrix).any()
    assert np.linalg.matrix_rank(laws) == 6 - rank if len(laws) else rank == 6


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 10**6))
def test_padded_rows_are_the_dense_matrix(species: int, reactions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 3, (species, reactions)) * (rng.random((species, reactions)) < 0.5)
    changes = tuple((int(i), int(r), int(matrix[i, r])) for i, r in np.argwhere(matrix))
    structure = Structure(species, reactions, ((),) * reactions, changes)
    np.testing.assert_array_equal(structure.matrix, matrix)
    rates = rng.exponential(size=reactions)
    np.testing.assert_allclose(net_change(structure, jnp.asarray(rates)), matrix @ rates, rtol=1e-12, atol=1e-12)
    index = rng.integers(0, reactions, 2 * reactions)
    np.testing.assert_array_equal(take_rows(jnp.asarray(rates), index), rates[index])


@pytest.mark.parametrize("layers", LAYERS)
def test_gene_kinetics_have_the_same_structure(layers: tuple[str, ...]) -> None:
    kinetics = model_of(layers, genes=3, unmeasured=1).kinetics
    structure = gene_structure(layers, reaction_kinds(layers), 3)
    np.testing.assert_array_equal(structure.matrix, kinetics.stoichiometry()[: kinetics.abundances])


def test_isoforms_by_index_maps() -> None:
    """One gene with two forms, one of which makes two proteins; another with one of each; solved at rest by hand."""
    system = isoform_kinetics(
        ("A", "B"),
        [0, 0, 1],
        [0, 1, 1, 2],
        transcription=[4.0, 2.0],
        splicing=[1.0, 3.0, 0.5],
        decay=[0.5, 0.25, 1.0],
        translation=[2.0, 1.0, 3.0, 1.0],
        protein_decay=0.1,
    )
    assert system.table.species[2:5] == ("A-1.spliced", "A-2.spliced", "B-1.spliced")
    assert system.table.species[5:] == ("A-1-1.protein", "A-2-1.protein", "A-2-2.protein", "B-1-1.protein")
    rest = steady_state(system, plain(system), jnp.ones(9))
    u = np.array([4.0 / (1.0 + 3.0), 2.0 / 0.5])
    s = np.array([1.0 * u[0] / 0.5, 3.0 * u[0] / 0.25, 0.5 * u[1] / 1.0])
    p = np.array([2.0 * s[0], 1.0 * s[1], 3.0 * s[1], 1.0 * s[2]]) / 0.1
    np.testing.assert_allclose(rest.state, np.concatenate([u, s, p]), rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("A + B -> C", (("A", "B"), ("C",))),
        ("2 A -> 3 A", (("A", "A"), ("A",) * 3)),
        ("-> A", ((), ("A",))),
        ("0 -> g0.mrna", ((), ("g0.mrna",))),
        ("x-1 + 2*y:z -> ∅", (("x-1", "y:z", "y:z"), ())),
    ],
)
def test_equations_are_read(text: str, sides: tuple) -> None:
    problems = Problems()
    assert read_equation(text, problems) == sides
    assert not problems


@pytest.mark.parametrize(
    "text",
    [
        "A + B",
        "A <-> B",
        "A = B",
        "A => B",
        "A -> B -> C",
        "A + -> B",
        "0.5 A -> B",
        "0 A -> B",
        "3A3 4 -> B",
        "A B -> C",
        "99 A -> B",
    ],
)
def test_equations_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(PinnsimError) as error:
        reaction_system([Reaction("odd", text, 1.0)], time_unit="min")
    assert error.value.codes == ("E_FORMULA",)
    assert "'odd'" in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(PinnsimError) as error:
        reaction_system(
            [
                Reaction("a", "A -> ", 1.0),
                Reaction("a", "Ab -> 0", -1.0),
                Reaction("c", "A <-> B", np.nan),
                Reaction("d", "A -> 0"),
            ],
            species=["A", "AB", "A"],
            time_unit="min",
            start={"Z": 1.0, "A": -2.0},
        )
    text = str(error.value)
    for part in ("these repeat: a", "these repeat: A.", "did you mean 'AB'", "reversible", "'a' must be one finite",
                 "'c' must be one finite", "'d' has no rate constant", "names 1 species", "A = -2.0"):  # fmt: skip
        assert part in text
    with pytest.raises(PinnsimError, match="E_NETWORK_EMPTY"):
        reaction_system([], time_unit="min")
    with pytest.raises(PinnsimError, match="E_CONFIG_VALUE"):
        isoform_kinetics(("A", "B"), [0, 2], [5], transcription=1, splicing=1, decay=1, translation=1, protein_decay=1)
    with pytest.raises(PinnsimError, match="one number or 2"):
        telegraph(2, on=[1.0, 2.0, 3.0])
    with pytest.raises(PinnsimError, match="E_CONFIG_VALUE"):
        mass_action_system(binding().table, "min", [1.0], [[0]], [[1]])


def test_structures_are_one_compiled_program_and_rates_are_leaves() -> None:
    field = eqx.filter_jit(eqx.debug.assert_max_traces(max_traces=1)(ReactionSystem.vector_field))
    for constant in (0.1, 0.2):
        system = reaction_system([Reaction("a", "A -> 0", constant)], time_unit="min")
        field(system, NOW, jnp.ones(1), plain(system))
    assert hash(telegraph(3).structure) == hash(telegraph(3).structure)
