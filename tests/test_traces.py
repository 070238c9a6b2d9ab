"""One compilation: whatever number is swept, and whichever perturbations are mixed, nothing is traced again."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from systems import model_of, randomised

from pinnsim.parameter import resolve
from pinnsim.simulate import ODE, AtRest, FromSample, FromState, many, run, simulate, solve, steady_state
from pinnsim.treatment import Treatment

KINDS = [
    ["none", "g0=0"],
    ["g0*5@1:2, signal(food)=1@3:", "rnai(g1)*0.2"],
    ["hold(g2)=0.4@1:4", "activity(g0)*0@1:, drive(g1)=0.3@2:3"],
    ["g0=0, g1=0, edge(g0->g1)*3", "decay(g1)*3@0.5:, h0*2@1:"],
]
# Curves that move between switches are one more program, whatever their numbers.
DOSES = [
    ["g0*5{ke=0.3}@1:2", "activity(g0)*0{dose=2;ka=0.3;ke=0.1;ic50=1;hill=2}@1:, drive(g1)=0.3@2:3"],
    ["none", "signal(food)=1{ka=0.2;ke=0.5}@0:"],
    ["hold(g2)=0.4@1:4", "g0=0{dose=3;ke=0.2;ic50=0.5}@1:, decay(g1)*3@2:"],
    ["edge(g0->g1)*3{ke=1}@0:", "rnai(g1)*0.2{ka=1}@1:"],
]


@pytest.fixture(scope="module")
def template():
    return model_of(("mrna", "protein"), genes=3, unmeasured=1, own_inputs=True, residual="mlp")


def once(function):
    """The function compiled, refusing a second trace."""
    return eqx.filter_jit(eqx.debug.assert_max_traces(function, max_traces=1))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`simulate` with its compiled parts refusing a second trace: they raise, which fails the test."""
    monkeypatch.setattr(many, "_solved", once(many._solved.__wrapped__))
    monkeypatch.setattr(run, "_begin", once(run._begin.__wrapped__))


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("kinds", [KINDS, DOSES], ids=["switches", "doses"])
def test_simulate_is_traced_once(template, kinds) -> None:
    seen = []
    for k in range(3):
        seen.append(
            simulate(
                randomised(template, k, 0.3, 1.0),
                np.array([0.0, 1.0, 4.0, 7.0 + k]) + k,
                [Treatment.parse(text).delay(float(k)) for text in kinds[k]],
                initial=[FromState(jnp.full(10, 0.1 + k)), FromState(jnp.full(10, 0.3 * k))],
                method=ODE(10.0 ** (-4 - k), 1e-8 / (k + 1)),
                phases=2,
            )
        )
    # The sweep is real: each run differs from the others.
    assert len({float(s.states[0, -1, 0]) for s in seen}) == 3
    simulate(template, [0, 1, 2, 5], kinds[3], initial=FromState(jnp.ones(10)), phases=2)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("kind", ["rest", "sample"])
def test_initial_rules_are_traced_once(template, kind: str) -> None:
    seen = set()
    for k in range(3):
        rule = (
            AtRest(jnp.full(10, 0.5 + k)) if kind == "rest" else FromSample(jnp.asarray([14.0, 15.0, 16.0]) + 0.1 * k)
        )
        found = simulate(randomised(template, k, 0.1, 0.3), [0.0, 5.0 + k], KINDS[k], initial=rule, phases=2)
        seen.add(float(found.states[0, -1, 0]))
    assert len(seen) == 3


def test_a_second_shape_is_a_second_trace() -> None:
    """The counter can fail."""
    doubled = once(lambda x: 2 * x)
    doubled(jnp.ones(2))
    with pytest.raises(Exception, match="traced"):
        doubled(jnp.ones(3))


def test_solve_and_steady_state_are_traced_once(template) -> None:
    compiled, settled, seen = once(solve), once(steady_state), set()
    for k, texts in enumerate(KINDS):
        for text in texts:
            kinetics = resolve(randomised(template, k, 0.2, 0.5).kinetics)
            p = Treatment.parse(text).resolve(template.table, phases=2)
            state = jnp.full(10, 0.2 * (k + 1))
            times = jnp.asarray([0.0, 1.0 + k])
            done = compiled(kinetics, times, p, state, ODE(10.0 ** (-4 - k)), jnp.asarray(-1.0 * k))
            rest = settled(kinetics, p, state, jnp.asarray(float(k)))
            seen.add((*done.states[-1].tolist(), *rest.state.tolist()))
    assert len(seen) == sum(map(len, KINDS))


@pytest.mark.usefixtures("counted")
def test_a_batch_mixes_all_kinds_in_one_program(template) -> None:
    """Lanes of one call do not know of each other: in another order, with other neighbours, they are the same."""
    texts = [text for kinds in KINDS for text in kinds]
    begin, method = FromState(jnp.full(10, 0.4)), ODE(1e-10, 1e-12)

    def batch(order: list[int]) -> np.ndarray:
        some = [texts[k] for k in order]
        return np.asarray(simulate(template, [0.0, 2.0, 6.0], some, initial=begin, method=method, phases=3).states)

    first, second = [0, 1, 2, 3], [3, 4, 5, 6]
    np.testing.assert_allclose(batch(first)[3], batch(second)[0], rtol=1e-12)
    np.testing.assert_allclose(batch(first[::-1]), batch(first)[::-1], rtol=1e-12)
    assert len({values[-1, 3] for values in batch([0, 1, 4, 5])}) == 4
