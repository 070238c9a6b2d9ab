"""Fixed points, pushes and projections against exact answers: Gardner toggle, repressilator, a pushed double well."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from pinnsim.dynamics.activity import no_hidden_activity
from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.dynamics.kinetics import AbstractKinetics
from pinnsim.dynamics.regulation import Promoter, edge_slots
from pinnsim.dynamics.residual import NoResidual
from pinnsim.errors import PinnsimError
from pinnsim.landscape import critical_duration, find_attractors, grid, principal_components, push
from pinnsim.landscape.push import _run as _push_run
from pinnsim.simulate import ODE, Outcome
from pinnsim.table import Table

SHARP = ODE(rtol=1e-10, atol=1e-12, max_steps=16384)


def ring(amplitude: float, hill: float, genes: tuple[str, ...] = ("u", "v")) -> GeneKinetics:
    """`x_i' = a / (1 + x_(i-1)^n) - x_i` as gene kinetics, exactly: toggle for two genes, repressilator for three.

    With log-odds 0 at the bare promoter and complete repression, `c sigmoid(-log(1 + (x/K)^n))` is the Hill function
    with `c = 2 a` and `K^n = 1/2`.
    """
    count = len(genes)
    source, target = np.roll(np.arange(count), 1), np.arange(count)
    names = tuple(f"{genes[s]}->{genes[t]}" for s, t in zip(source, target, strict=True))
    promoter = Promoter(
        basal=jnp.zeros(count),
        reference=jnp.zeros(count),
        strength=jnp.full(count, 40.0),
        sign=-jnp.ones(count),
        affinity=jnp.full(count, 2.0 ** (-1.0 / hill)),
        hill=jnp.full(count, hill),
        source=jnp.asarray(source),
        target=jnp.asarray(target),
        slots=jnp.asarray(edge_slots(target, count)),
    )
    reactions = tuple(f"{kind}:{g}" for kind in ("transcription", "decay") for g in genes)
    return GeneKinetics(
        table=Table(genes, genes, (), reactions, tuple(f"{g}.mrna" for g in genes), names),
        layers=("mrna",),
        time_unit="h",
        own_inputs=False,
        synthesis=jnp.full(count, 2.0 * amplitude),
        splicing=None,
        decay=jnp.ones(count),
        translation=None,
        protein_decay=None,
        promoter=promoter,
        residual=NoResidual(jnp.zeros(()), count),
        hidden=no_hidden_activity(0),
        gain=jnp.zeros((count, 0)),
        regulator_state=jnp.arange(count),
        regulator_hidden=jnp.zeros(count, bool),
    )


class Polynomial(AbstractKinetics):
    """`x' = c0 + c1 x + c2 x^2 + c3 x^3 + drive` on the whole line: test equation, no abundance."""

    coefficients: Array
    table: Table = eqx.field(static=True, default=Table((), (), (), (), ("x",), ()))
    time_unit: str = eqx.field(static=True, default="h")

    def propensities(self, time, state, perturbation):
        return jnp.zeros(0)

    def vector_field(self, time, state, perturbation):
        edits = perturbation.at(time)
        return jnp.where(edits.hold, 0.0, jnp.polyval(self.coefficients[::-1], state) + edits.drive)

    def stoichiometry(self):
        return np.zeros((1, 0), int)

    def material(self):
        return jnp.zeros(1, bool)

    def default_state(self):
        return jnp.zeros(1) + 0.1


WELL = Polynomial(jnp.array([0.0, 1.0, 0.0, -1.0]))
HIGH, LOW = 5 + 2 * np.sqrt(6), 5 - 2 * np.sqrt(6)


@pytest.fixture(scope="module")
def toggle():
    return ring(10.0, 2.0)


@pytest.fixture(scope="module")
def valleys(toggle):
    return find_attractors(toggle, starts=32)


def test_the_toggle_has_two_attractors_and_a_saddle(valleys):
    assert valleys.names == ("A1", "A2", "S1")
    found = valleys.states[np.argsort(valleys.states[:, 0])]
    assert np.abs(found - [[LOW, HIGH], [2, 2], [HIGH, LOW]]).max() < 1e-8
    assert np.abs(valleys.eigenvalues[:2] - [-0.8, -1.2]).max() < 1e-8
    assert np.abs(valleys.eigenvalues[2] - [0.6, -2.6]).max() < 1e-8
    assert valleys.index.tolist() == [0, 0, 1]
    assert valleys.residual.max() < 1e-12


def test_the_separatrix_halves_the_starts(valleys):
    # The separatrix is u = v and the box is symmetric, so each valley gets half of the balanced points.
    assert valleys.starts.sum() == 32
    assert abs(valleys.share[0] - 0.5) <= 2 / 32
    assert (valleys.arrives == np.where(valleys.ends[:, 0] > valleys.ends[:, 1], *_order(valleys))).all()
    assert valleys.starts[2] == 0
    assert valleys.table().shape[0] == 3
    assert "2 attractors from 32 starts" in valleys.describe()


def _order(valleys):
    high = int(np.argmax(valleys.states[:2, 0]))
    return high, 1 - high


def test_a_start_near_the_saddle_finds_it_and_is_not_counted_as_resting_there(toggle):
    found = find_attractors(toggle, starts=14, states=[[2.001, 2.0], [2.0, 2.0]], probes=2)
    assert found.stability == ("stable", "stable", "saddle")
    # One start leaves the saddle; the other sits on it exactly, where the flow is zero but no cell can stay.
    assert found.motion[:2] == ("settled", "not settled")
    assert found.starts.tolist() == [8, 7, 0]


def test_a_weak_toggle_has_one_attractor():
    found = find_attractors(ring(1.9, 2.0), starts=16)
    assert found.stability == ("stable",)
    assert found.share.tolist() == [1.0]
    u = found.states[0, 0]
    assert abs(u * (1 + u * u) - 1.9) < 1e-9


def test_a_cycle_is_called_a_cycle():
    found = find_attractors(ring(10.0, 3.0, ("a", "b", "c")), starts=16, settle=30.0)
    assert set(found.motion) == {"cycle"}
    assert not found.stable.any()
    assert found.stability == ("saddle",)
    assert "16 starts cycle" in found.describe()
    (cycle,) = found.cycles
    assert abs(cycle.period - 4.95825812) < 1e-8
    # By scipy's DOP853 at rtol 1e-13 with events at the extremes.
    np.testing.assert_allclose(cycle.low, 0.65152678, atol=1e-8)
    np.testing.assert_allclose(cycle.high, 5.49417971, atol=1e-8)
    assert cycle.stable
    assert np.abs(cycle.multipliers).max() < 1
    assert set(found.circles) == {0}
    assert "stable cycle C1 of period 4.95826 h" in found.describe()


def test_one_species_and_its_saddle():
    found = find_attractors(WELL, starts=16)
    assert np.allclose(np.sort(found.states[:, 0]), [-1, 0, 1], atol=1e-12)
    assert found.stability[:2] == ("stable", "stable")
    assert found.stability[2] == "unstable"


def test_no_ghosts():
    ghost = find_attractors(Polynomial(jnp.array([0.1, 0.0, 1.0, 0.0])), starts=16, settle=20.0)
    assert ghost.names == ()
    assert set(ghost.motion) <= {"failed", "not settled"}
    assert len(ghost.table()) == 0
    tilted = find_attractors(WELL, "drive(x)=0.39", starts=16, settle=60.0)
    assert tilted.stability == ("stable",)
    assert tilted.states[0, 0] > 1


def test_what_is_held_has_no_eigenvalue(toggle):
    found = find_attractors(toggle, "hold(u)=3", starts=16)
    assert np.allclose(found.states, [[3.0, 1.0]], atol=1e-9)
    assert np.allclose(found.eigenvalues, [[-1.0]])


def test_only_what_lasts_acts(toggle):
    knocked_out = find_attractors(toggle, "u=0@5:", starts=16)
    assert np.allclose(knocked_out.states, [[0.0, 10.0]], atol=1e-9)
    assert find_attractors(toggle, "u=0@5:", starts=16, time=-np.inf).stable.sum() == 2
    assert find_attractors(toggle, "u=0@5:9", starts=16).stable.sum() == 2


def test_numbers_that_are_none_are_refused():
    with pytest.raises(PinnsimError, match=r"E_USAGE.*NaN \(first: coefficients\)"):
        find_attractors(Polynomial(jnp.array([0.0, jnp.nan, 0.0, -1.0])))
    with pytest.raises(PinnsimError, match="E_INIT"):
        find_attractors(WELL, states=[[np.nan]])
    with pytest.raises(PinnsimError, match="E_USAGE"):
        find_attractors(WELL, starts=0)


TRUTH = {0.5: 4.9713143585, 0.75: 2.1052938654, 1.0: 1.3643419919, 2.0: 0.5739092676, 5.0: 0.2106524568}


def test_the_critical_duration_is_the_quadrature():
    doses = np.array([0.3, *TRUTH])
    found = critical_duration(
        WELL, [-1.0], "drive(x)=1", doses, [[-1.0], [1.0]], longest=8.0, settle=40.0, tolerance=1e-7, method=SHARP
    )
    assert np.isnan(found.duration[0])
    assert found.note[0] == "returns after the longest push"
    assert np.abs(found.duration[1:] - list(TRUTH.values())).max() < 1e-6
    assert np.diff(found.bracket[1:], axis=1).max() < 1e-7


def test_the_ball_returns_just_below_and_settles_just_above():
    truth = dict(list(TRUTH.items())[:4])
    durations = np.outer(list(truth.values()), [0.99, 1.01]).ravel()
    result = push(WELL, [-1.0], "drive(x)=1", np.repeat(list(truth), 2), durations, [[-1.0], [1.0]], settle=20.0)
    assert result.verdicts() == ["A1", "A2"] * 4
    assert np.abs(np.abs(result.final) - 1).max() < 1e-3


def test_pushing_the_toggle_is_monotone_in_dose_and_duration(toggle, valleys):
    low = valleys.states[1 - _order(valleys)[0]]
    doses, durations = np.linspace(0, 6, 8), np.linspace(0, 6, 8)
    result = push(toggle, low, "drive(u)=1", *grid(doses, durations), valleys, settle=40.0)
    crossed = (result.final[:, 0] > 1).reshape(8, 8)
    assert crossed.any()
    assert not crossed.all()
    assert (np.diff(crossed.astype(int), axis=0) >= 0).all()
    assert (np.diff(crossed.astype(int), axis=1) >= 0).all()
    assert not crossed[0].any()
    assert not crossed[:, 0].any()
    assert set(result.verdicts()) == {"A1", "A2"}
    assert (result.outcome == Outcome.DONE).all()
    # At its fold, u' = 10 / (1 + v^2) - u + h and v = 10 / (1 + u^2), the low-u valley ends: no smaller dose ever does.
    u = np.linspace(0.05, 3, 200_001)
    fold = np.max(u - 10 / (1 + (10 / (1 + u**2)) ** 2))
    assert doses[crossed[:, -1]].min() > fold
    assert len(result.table()) == 64


def test_sweeping_a_push_compiles_once(toggle, valleys):
    before = _push_run._cached._cache_size()
    for scale in (1.0, 2.0, 3.0):
        lanes = (scale * np.linspace(0.1, 2, 64), np.linspace(0.5, 2, 64) * scale)
        push(toggle, [0.1, 9.0 + scale], "drive(u)=1", *lanes, valleys, settle=10.0 * scale)
    push(toggle, [0.1, 9.0], "v*1@1:", *lanes, valleys, settle=10.0)
    assert _push_run._cached._cache_size() <= before + 1


def test_a_dose_multiplies_factors_levels_and_concentrations(toggle):
    known = [[LOW, HIGH], [HIGH, LOW]]

    def pushed(template, doses, durations):
        # 64 lanes, as in the other tests, so that they share a program.
        return push(toggle, [LOW, HIGH], template, np.resize(doses, 64), durations, known, settle=30.0)

    held = pushed("hold(u)=1", [8.0, 0.5], 12.0)
    assert np.allclose(held.released[:2, 0], [8.0, 0.5])
    assert held.verdicts()[:2] == ["A2", "A1"]
    assert pushed("v*1", [0.0, 1.0], 5.0).verdicts()[:2] == ["A2", "A1"]
    drugged = pushed("transcription(v)*0{dose=1;ic50=1;hill=2}", [0.1, 10.0], 12.0)
    assert drugged.verdicts()[:2] == ["A1", "A2"]


def test_bad_pushes_are_refused(toggle):
    known = [[LOW, HIGH], [HIGH, LOW]]
    cases = [
        (("drive(u)=1", [-1.0], [1.0]), "E_DOSE_NEGATIVE"),
        (("drive(u)=1", [1.0, 2.0], [1.0, 2.0, 3.0]), "E_USAGE"),
        (("drive(u)=1@0:3", [1.0], [1.0]), "no stop"),
        (("drive(w)=1", [1.0], [1.0]), "E_PERTURB_GENE"),
        (("rnai(u)*0.5", [1.0], [1.0]), "not proportional"),
        (("", [1.0], [1.0]), "is empty"),
    ]
    for (template, doses, durations), words in cases:
        with pytest.raises(PinnsimError, match=words):
            push(toggle, [LOW, HIGH], template, doses, durations, known, settle=10.0)
    with pytest.raises(PinnsimError, match="E_INIT"):
        push(toggle, [LOW, -1.0], "drive(u)=1", [1.0], [1.0], known, settle=10.0)


def test_a_lane_that_fails_harms_no_other():
    # x' = x^2 - 1 + h rests at -1; a strong push sends it to infinity, a weak one does not.
    runaway = Polynomial(jnp.array([-1.0, 0.0, 1.0, 0.0]))
    doses = np.resize([0.0, 9.0, 0.1, 0.0], 8)
    result = push(runaway, [-1.0], "drive(x)=1", doses, 3.0, [[-1.0], [5.0]], settle=30.0)
    assert result.verdicts() == ["A1", "failed", "A1", "A1"] * 2
    assert np.isnan(result.final[1]).all()
    assert result.valley[1] == -1


def test_principal_components_of_a_known_plane():
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.normal(size=(7, 2)))
    scores = rng.normal(size=(40, 2)) * [3.0, 1.0]
    data = 5.0 + scores @ axes.T
    genes = tuple("abcdefg")
    map_ = principal_components(data, genes)
    assert abs(map_.explained.sum() - 1) < 1e-12
    assert np.allclose(map_.lift(map_.project(data)), data)
    assert map_.lost(data).max() < 1e-12
    assert (np.take_along_axis(map_.axes, np.abs(map_.axes).argmax(1)[:, None], 1) > 0).all()
    flipped = principal_components(data[::-1], genes)
    assert np.allclose(flipped.axes, map_.axes)
    assert map_.leading(0, 1)[0][0] == "+"
    permuted = np.array([3, 1, 0, 2, 6, 5, 4])
    assert np.allclose(principal_components(data[:, permuted], genes).axes, map_.axes[:, permuted])


def test_projections_refuse_what_has_no_axes():
    genes = ("a", "b")
    for data, code in (
        (np.array([[1.0, np.nan], [2, 3], [4, 5]]), "E_DATA_NONFINITE"),
        (np.ones((5, 2)), "E_DATA_EMPTY"),
        (np.ones((2, 2)), "E_DATA_SHAPE"),
        (np.ones((5, 3)), "E_DATA_SHAPE"),
    ):
        with pytest.raises(PinnsimError, match=code):
            principal_components(data, genes)
