"""What do 1,000 perturbations do to every valley of a 50-gene network, in one batched program?

A random network (simulated: seeded signs, edges and rates) around pairs of master genes that activate themselves and
repress one another, as in lineage choices. Every gene is knocked out, knocked down and overexpressed, alone and in
random pairs. All valleys under all of them come from one batch, whose programs are compiled for the first perturbation
and not again; a second thousand, all different, compiles nothing. A sample is searched one by one as well.

The floor of the time is what cannot be left out, measured on the same machine: the right-hand sides that the solver
evaluates, each of them alone in the same layout, and LAPACK's eigenvalues and one linear solve of every attractor.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.experiment import Acceptance, Findings, main
from pinnsim.landscape import Attractors, Shifts, attractors_under, find_attractors
from pinnsim.landscape.fixed_points import polish_lanes
from pinnsim.landscape.resting import Settling
from pinnsim.model import ModelConfig, build
from pinnsim.network import Network
from pinnsim.parameter import resolve
from pinnsim.perturbation import Constant, Perturbation
from pinnsim.plot import save
from pinnsim.plot.style import BLUE, CYCLE, GREY, PINK, RED, YELLOW, new_panels, styled
from pinnsim.prior import KineticPrior, LogNormal
from pinnsim.simulate import ODE, Outcome, many
from pinnsim.simulate.adaptive import Field, Limits, begun, stepped_once
from pinnsim.simulate.batch import run_lanes
from pinnsim.simulate.explicit import Tsitouras
from pinnsim.simulate.many import lanes_in_cache
from pinnsim.treatment import Treatment, knockdown, knockout, overexpress, resolve_lanes

SMOKE: dict[str, Any] = {
    "genes": 5, "pairs": 1, "perturbations": 18, "starts": 4, "batch_size": 64, "sample": 1, "floor_lanes": 16
}  # fmt: skip


def network_of(plan: dict[str, Any], rng: np.random.Generator) -> Network:
    """Masters in pairs, each with one further regulator; every other gene with random ones, itself not among them."""
    genes, masters = plan["genes"], 2 * plan["pairs"]
    rows: list[tuple[int, int, float]] = []
    for gene in range(genes):
        others = np.delete(np.arange(genes), [gene, gene ^ 1] if gene < masters else [gene])
        count = 1 if gene < masters else min(plan["regulators"], len(others))
        drawn = rng.choice(others, count, replace=False)
        own = [(gene, gene, 1.0), (gene ^ 1, gene, -1.0)] if gene < masters else []
        rows += [*own, *((int(s), gene, float(rng.choice([-1.0, 1.0]))) for s in drawn)]
    source, target, sign = (np.array(column) for column in zip(*rows, strict=True))
    names, words = tuple(f"g{i}" for i in range(genes)), ("",) * len(rows)
    return Network(source, target, sign, np.ones(len(rows)), names, names, words, words)


def model_of(plan: dict[str, Any], rng: np.random.Generator, network: Network | None = None) -> GeneKinetics:
    """`x_i' = d_i (a_i(x) - x_i)` with promoters that are balanced between all and none of their regulators."""
    network = network_of(plan, rng) if network is None else network
    genes, target = plan["genes"], np.asarray(network.target)
    rate = 0.3 * np.exp(0.3 * rng.standard_normal(genes))
    known = LogNormal(jnp.asarray(rate), jnp.full(genes, 0.3))
    prior = KineticPrior(known, network.genes, ("given: simulated",) * genes, "mrna", "h")
    config = ModelConfig.model_validate({"layers": ["mrna"], "time_unit": "h", "regulation": {"hidden": "none"}})
    kinetics = resolve(build(config, network, prior).center.kinetics)
    own = (target < 2 * plan["pairs"]) & (np.asarray(network.source) // 2 == target // 2)
    energy = np.where(own, 4.0, rng.uniform(1.0, 3.0, len(target)))
    affinity, full = 0.5, (1.0 / 0.5) ** plan["hill"]
    weight = np.exp(np.asarray(network.sign) * energy)
    shares = np.log((1.0 + weight * full) / (1.0 + full))
    basal = -0.5 * np.bincount(target, shares, minlength=genes)
    edges = len(target)
    parts = (
        jnp.asarray(basal),
        jnp.asarray(np.log(np.expm1(energy))),  # softplus of it is the energy
        jnp.full(edges, affinity),
        jnp.full(edges, plan["hill"]),
    )

    def where(k: GeneKinetics) -> tuple:
        return k.promoter.basal, k.promoter.strength, k.promoter.affinity, k.promoter.hill, k.synthesis

    return eqx.tree_at(where, kinetics, (*parts, kinetics.decay))


def treatments_of(plan: dict[str, Any], seed: int, change: float = 1.0) -> list[Treatment]:
    """Singles of every gene, then random pairs of them, all different; `change`: of all strengths."""
    rng, genes = np.random.default_rng(seed), [f"g{i}" for i in range(plan["genes"])]
    kinds: tuple[Callable[[str], Treatment], ...] = (
        knockout,
        lambda g: knockdown(g, efficiency=change * plan["efficiency"]),
        lambda g: overexpress(g, fold=change * plan["overexpression"]),
    )
    found = [kind(gene) for kind in kinds for gene in genes][: plan["perturbations"]]
    seen: set[tuple[int, ...]] = set()
    while len(found) < plan["perturbations"]:
        a, b = sorted(int(g) for g in rng.choice(len(genes), 2, replace=False))
        which = (a, b, *(int(k) for k in rng.integers(0, 3, 2)))
        if which not in seen:
            seen.add(which)
            found.append(kinds[which[2]](genes[a]) + kinds[which[3]](genes[b]))
    return found


class Count:
    """Compilations so far, by XLA's own report."""

    def __init__(self) -> None:
        self.number = 0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration: float, **more: Any) -> None:
        self.number += event == "/jax/core/compile/backend_compile_duration"


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The reference, two thousand perturbations, the sample one by one, and the floor."""
    seed = plan["seeds"][0]
    model = model_of(plan, np.random.default_rng(seed))
    reference = find_attractors(model, starts=4 * plan["starts"], seed=seed)
    if progress:
        print(reference.describe(), flush=True)
    chosen = {"reference": reference, "starts": plan["starts"], "seed": seed, "batch_size": plan["batch_size"]}
    treatments, others = treatments_of(plan, seed), treatments_of(plan, seed + 1, 0.9)
    counted, before = Count(), [p._cached._cache_size() for p in (many._solved, polish_lanes)]
    shifts = attractors_under(model, treatments, **chosen, progress=progress)
    first = counted.number
    solved, polished = (p._cached._cache_size() - b for p, b in zip((many._solved, polish_lanes), before, strict=True))
    began = time.process_time()
    second = attractors_under(model, others, **chosen, progress=progress)
    spent, more = time.process_time() - began, counted.number - first
    late = bool((shifts.motion != "settled").any())
    if progress:
        print(shifts.describe(), second.describe(), sep="\n", flush=True)
    worst, differ, alone = one_by_one(model, treatments, shifts, reference, plan, progress)
    floor = floor_of(model, treatments, shifts, reference, plan)
    rows = (
        Acceptance("seconds for all valleys under all perturbations, compilation included", shifts.seconds, 120.0),
        Acceptance("seconds for a second thousand, compiled before", second.seconds, 120.0),
        Acceptance("compilations of the program that follows all lanes", solved - late, 1),
        Acceptance("compilations of the program that polishes and certifies", polished, 1),
        Acceptance("programs compiled by a second batch of other perturbations", more, 0),
        Acceptance("largest residual of a certified attractor, per h", float(shifts.residual.max()), 1e-12),
        Acceptance("largest real part of an eigenvalue of an attractor, per h", float(shifts.leading.real.max()), 0.0),
        Acceptance("sampled perturbations whose number of attractors is not that of one search each", differ, 0),
        Acceptance("attractors of the sample against one search each, largest difference", worst, 1e-8),
        Acceptance("seconds over those of one search each", second.seconds / (alone * len(others)), 0.1),
    )
    fates = {kind: int((shifts.fate == kind).sum()) for kind in shifts.sentences}
    fates["new"] = int((shifts.table()["fate"] == "new").sum())
    lanes = shifts.motion.ravel().tolist()
    metrics = {
        "valleys of the unperturbed network": len(reference.states[reference.stable]),
        "attractors": len(shifts.states),
        "fates of balls": fates,
        "lanes": {kind: lanes.count(kind) for kind in sorted(set(lanes))},
        "balls that do not return when lifted": int((shifts.lifted[shifts.home[shifts.home >= 0]] !=
                                                     np.nonzero(shifts.home >= 0)[1]).sum()),
        "perturbations per second": second.rate,
        "processor seconds of the second thousand": spent,
        "seconds per perturbation, one search each": alone,
        "floor": floor._asdict(),
        "processor time over the floor": spent / floor.seconds,
        "most telling": shifts.ranked(10).to_dict("records"),
    }  # fmt: skip
    save(picture(shifts), out / "thousand_perturbations.png")
    notes = ("The network is simulated.", floor.sentence(spent))
    return Findings(metrics, {}, rows, notes)


def one_by_one(
    model: GeneKinetics,
    treatments: list[Treatment],
    shifts: Shifts,
    reference: Attractors,
    plan: dict[str, Any],
    progress: bool,
) -> tuple[float, int, float]:
    """Largest difference in place, how many differ in number, and seconds per search once compiled."""
    rng = np.random.default_rng(plan["seeds"][0])
    sample = rng.choice(len(treatments), plan["sample"], replace=False)
    balls, worst, differ, spent = reference.states[reference.stable], 0.0, 0, []
    for k in sample:
        began = time.perf_counter()
        found = find_attractors(model, treatments[k], starts=plan["starts"], states=balls, seed=plan["seeds"][0])
        spent.append(time.perf_counter() - began)
        one, batch = found.states[found.stable], shifts.states[shifts.owner == k]
        differ += len(one) != len(batch)
        gaps = np.abs(batch[:, None] - one[None]).max(axis=2)
        worst = max(worst, float(gaps.min(axis=1).max(initial=0.0)))
        if progress:
            print(f"{treatments[k]}: {len(one)} and {len(batch)} attractors, {spent[-1]:.3g} s", flush=True)
    return worst, differ, float(np.median(spent))


class Floor(NamedTuple):
    """What cannot be left out. `steps`: attempts per lane, mean; `evaluation`: seconds of one right-hand side per lane;
    `operations`, `bytes`: of it, by XLA; `flow`, `algebra`: seconds of all right-hand sides, and of LAPACK."""

    lanes: int
    steps: float
    evaluation: float
    operations: float
    bytes: float
    flow: float
    algebra: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.flow + self.algebra

    def sentence(self, taken: float) -> str:
        """The floor in words."""
        return (
            f"{self.lanes} lanes take {self.steps:.0f} steps of 6 right-hand sides each, a right-hand side "
            f"{self.operations:.0f} operations on {self.bytes:.0f} bytes in {1e9 * self.evaluation:.0f} ns: "
            f"{self.flow:.3g} s; eigenvalues and linear solves of the attractors {self.algebra:.3g} s. "
            f"The batch took {taken / self.seconds:.2g} times as much processor time."
        )


def floor_of(
    model: GeneKinetics, treatments: list[Treatment], shifts: Shifts, reference: Attractors, plan: dict[str, Any]
) -> Floor:
    """Counted and measured."""
    count, genes = plan["floor_lanes"], plan["genes"]
    stacked = resolve_lanes(treatments, model.table)
    which = np.random.default_rng(0).integers(0, len(treatments), count)
    programs = Settling(model, stacked, np.inf, ODE(), count)
    acting = jax.tree.map(lambda a: jnp.asarray(a[which]), programs.acting)
    span = 7.0 / -reference.eigenvalues[reference.stable, 0].real.max()
    begin = jnp.asarray(np.random.default_rng(1).uniform(0.0, 1.0, (count, genes)))
    steps = float(np.mean(np.asarray(_steps(model, acting, begin, jnp.asarray(span)))))
    rounds = 200
    _rounds(model, acting, begin, rounds).block_until_ready()
    each = min(_timed(lambda: _rounds(model, acting, begin, rounds).block_until_ready()) for _ in range(3))
    evaluation = each / (rounds * count)
    one = jax.jit(lambda x: model.vector_field(jnp.zeros(()), x, Perturbation.none(model.table)))
    cost = one.lower(begin[0]).compile().cost_analysis() or {}
    matrices = np.random.default_rng(2).standard_normal((64, genes, genes))
    right = np.ones((64, genes, 1))
    algebra = min(_timed(lambda: (np.linalg.eigvals(matrices), np.linalg.solve(matrices, right))) for _ in range(3))
    lanes = shifts.motion.size + len(shifts.states)
    return Floor(
        lanes,
        steps,
        evaluation,
        float(cost.get("flops", np.nan)) + float(cost.get("transcendentals", 0.0)),
        float(cost.get("bytes accessed", np.nan)),
        lanes * steps * 6 * evaluation,
        algebra / 64 * len(shifts.states),
    )


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@eqx.filter_jit
def _steps(model: GeneKinetics, acting: Perturbation, states: Array, span: Array) -> Array:
    """Attempted steps per lane."""
    pair, limits = Tsitouras(), Limits(jnp.asarray(1e-6), jnp.asarray(1e-9), 16384)

    def one(acting: Perturbation, state: Array) -> Array:
        field = Field(model, acting)
        walk = begun(field, pair, jnp.zeros(()), state, jnp.asarray(Outcome.DONE.value, dtype=int), limits)

        def unfinished(walk: Any) -> Array:
            return (walk.time < span) & (walk.outcome == Outcome.DONE)

        return jax.lax.while_loop(unfinished, lambda w: stepped_once(field, pair, w, span, limits), walk).steps

    return jax.vmap(one)(acting, states)


@eqx.filter_jit
def _rounds(model: GeneKinetics, acting: Perturbation, states: Array, rounds: int) -> Array:
    """One right-hand side after another, lanes last and in blocks as the solver has them."""

    def one(shared: GeneKinetics, lane: tuple) -> Array:
        acting, state = lane
        edits = acting.at(jnp.zeros(()))
        field = Field(shared, Constant(edits))

        def again(_: int, x: Array) -> Array:
            return x + 1e-3 * field(jnp.zeros(()), x)

        return jax.lax.fori_loop(0, rounds, again, state)

    return run_lanes(one, model, (acting, states), block=lanes_in_cache(states, 0))


@styled
def picture(shifts: Shifts) -> Any:
    """Fates by kind of perturbation, downstream shifts, and where balls that lost their valley rest."""
    left, middle, right = panels = new_panels(1, 3, (13.0, 3.9))[0]
    kinds = np.array([_kind(label) for label in shifts.labels])
    names = [k for k in ("knock-out", "knock-down", "overexpression", "pair") if (kinds == k).any()]
    colours = {"remains": BLUE, "vanishes": RED, "cycle": PINK, "not settled": YELLOW, "failed": GREY}
    upto = np.zeros(len(names))
    for fate, colour in colours.items():
        share = np.array([(shifts.fate[kinds == k] == fate).mean() for k in names])
        left.barh(names, share, left=upto, color=colour, label=fate)
        upto = upto + share
    left.set(xlabel="share of balls", xlim=(0, 1), title="What becomes of a valley (simulated)")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    left.invert_yaxis()
    far = np.where(shifts.fate == "remains", shifts.distances(downstream=True), np.nan)
    for k, (valley, colour) in enumerate(zip(shifts.valleys, CYCLE * 3, strict=False)):
        sizes = np.sort(far[:, k][np.isfinite(far[:, k])])[::-1]
        middle.plot(np.arange(1, len(sizes) + 1), sizes / np.log(2), color=colour, label=valley)
    middle.set(xscale="log", yscale="log", xlabel="rank of the perturbation", ylabel="downstream shift (log2)")
    middle.set_title("How far valleys move (simulated)")
    middle.legend(ncols=2)
    places = [*shifts.valleys, "new", "no rest"]
    flow = np.zeros((len(shifts.valleys), len(places)), int)
    for row in range(len(shifts.valleys)):
        for k, fate in zip(shifts.home[:, row], shifts.fate[:, row], strict=True):
            if fate != "remains":
                name = shifts.names[k] if k >= 0 else "no rest"
                flow[row, places.index(name) if name in places else places.index("new")] += 1
    image = right.imshow(flow, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(flow):
        if value:
            shade = "white" if value > 0.6 * flow.max() else "black"
            right.text(column, row, str(value), ha="center", va="center", color=shade, fontsize=7)
    right.set_xticks(range(len(places)), places, rotation=45)
    right.set_yticks(range(len(shifts.valleys)), shifts.valleys)
    right.set(xlabel="its ball rests in", ylabel="valley that is lost", title="Where lost balls go (simulated)")
    right.figure.colorbar(image, ax=right, label="perturbations")
    return panels


def _kind(label: str) -> str:
    if "," in label:
        return "pair"
    return "knock-out" if label.endswith("=0") else "knock-down" if "*0" in label else "overexpression"


if __name__ == "__main__":
    raise SystemExit(main(__file__))
