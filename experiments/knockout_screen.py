"""Which of all 1,225 double knock-outs of a 50-gene network do what no single one does, in every member of an ensemble?

A random network (simulated) with several valleys, as in `thousand_perturbations`, to which redundant pairs are added
by rule: two genes that are always on, either of which is enough for a third one, which then regulates a gene of the
network. A screen should put these pairs first, whatever else the network does, and call them synthetic: neither acts
alone.

What the screen says is compared with scipy (BDF to rest and a root, equations written out in numpy) for a sample, in
the model and in a member, and its time with a plain loop of single solves by scipy.
"""

import time
from itertools import combinations
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.optimize
from tqdm import tqdm

from pinnsim.dynamics.gene_kinetics import GeneKinetics
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.landscape import resting
from pinnsim.landscape.fixed_points import polish_lanes
from pinnsim.network import Network
from pinnsim.plot import ranked_intervals, save, synergy_map
from pinnsim.plot.style import new_panels, styled
from pinnsim.screen import Screen, screen
from pinnsim.simulate import many
from pinnsim.tree import named_leaves, replaced

SMOKE: dict[str, Any] = {
    "genes": 6, "regulators": 1, "planted": 1, "members": 1, "starts": 1, "batch_size": 32, "sample": 1,
    "timed": 1, "valley_starts": 8
}  # fmt: skip

_SPREAD = ("synthesis", "decay", "promoter/affinity")
_LONG = 5000.0  # h that scipy follows a ball: 30 relaxation times of the slowest of the sample
_CONSTITUTIVE = 2.0  # log-odds of a gene that is always on: 88 % of the most


def network_of(plan: dict[str, Any], rng: np.random.Generator) -> tuple[Network, list[tuple[int, int, int]]]:
    """The random network on the first genes, and after it trios (one, other, target) of redundant activators."""
    base = companion(__file__, "thousand_perturbations")
    count = plan["genes"] - 3 * plan["planted"]
    inner = base.network_of({**plan, "genes": count}, rng)
    trios = [(k, k + 1, k + 2) for k in range(count, plan["genes"], 3)]
    free = np.arange(2 * plan["pairs"], count)
    fed = rng.choice(free, plan["planted"], replace=False)
    edges = [(a, c) for p, q, t in trios for a, c in ((p, t), (q, t))]
    edges += [(t, int(gene)) for (_, _, t), gene in zip(trios, fed, strict=True)]
    source, target = (np.concatenate([old, new]) for old, new in zip((inner.source, inner.target),
                                                                     np.array(edges).T, strict=True))  # fmt: skip
    sign = np.concatenate([inner.sign, np.ones(len(edges))])
    names, words = tuple(f"g{i}" for i in range(plan["genes"])), ("",) * len(sign)
    return Network(source, target, sign, np.ones(len(sign)), names, names, words, words), trios


def model_of(plan: dict[str, Any], rng: np.random.Generator) -> tuple[GeneKinetics, list[tuple[int, int, int]]]:
    """The network with its rates, and the planted promoters: open with either activator, shut without both."""
    network, trios = network_of(plan, rng)
    kinetics = companion(__file__, "thousand_perturbations").model_of(plan, rng, network)
    basal, strength = np.array(kinetics.promoter.basal), np.array(kinetics.promoter.strength)
    target = np.asarray(network.target)
    for one, other, common in trios:
        basal[[one, other]] = _CONSTITUTIVE
        basal[common] = -0.5 * plan["redundancy"]
        strength[target == common] = np.log(np.expm1(plan["redundancy"]))
    parts = (jnp.asarray(basal), jnp.asarray(strength))
    return eqx.tree_at(lambda k: (k.promoter.basal, k.promoter.strength), kinetics, parts), trios


def members_of(plan: dict[str, Any], model: GeneKinetics, rng: np.random.Generator) -> list[GeneKinetics]:
    """Models whose rates and affinities are drawn around the model's."""
    leaves = named_leaves(model)
    drawn = [
        {name: leaves[name] * np.exp(plan["spread"] * rng.standard_normal(leaves[name].shape)) for name in _SPREAD}
        for _ in range(plan["members"])
    ]
    return [replaced(model, {name: jnp.asarray(value) for name, value in one.items()}) for one in drawn]


class Written:
    """`x_i' = c_i o_i sigmoid(b_i + sum_e log((1 + w_e theta_e) / (1 + theta_e))) - d_i x_i` in numpy, with
    `theta_e = (x / K_e)^n_e`, its derivatives, and o = 0 for genes that are out."""

    def __init__(self, model: GeneKinetics, out: tuple[int, ...]) -> None:
        part = {name: np.asarray(value) for name, value in named_leaves(model).items()}
        self.made, self.lost, self.basal = part["synthesis"].copy(), part["decay"], part["promoter/basal"]
        self.made[list(out)] = 0.0
        self.source, self.target = part["promoter/source"], part["promoter/target"]
        self.affinity, self.hill = part["promoter/affinity"], part["promoter/hill"]
        self.weight = np.exp(part["promoter/sign"] * np.log1p(np.exp(part["promoter/strength"])))

    def __call__(self, time: float, x: np.ndarray) -> np.ndarray:
        return self.made * self._activity(x)[0] - self.lost * x

    def jacobian(self, time: float, x: np.ndarray) -> np.ndarray:
        """d x'_i / d x_j."""
        a, theta = self._activity(x)
        safe = np.maximum(x[self.source], 1e-300)
        slope = (self.weight / (1 + self.weight * theta) - 1 / (1 + theta)) * self.hill * theta / safe
        found = -np.diag(self.lost)
        np.add.at(found, (self.target, self.source), (self.made * a * (1 - a))[self.target] * slope)
        return found

    def _activity(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta = (np.maximum(x[self.source], 0.0) / self.affinity) ** self.hill
        share = np.log((1 + self.weight * theta) / (1 + theta))
        return 1 / (1 + np.exp(-self.basal - np.bincount(self.target, share, minlength=len(self.basal)))), theta

    def rest(self, begin: np.ndarray, span: float) -> np.ndarray:
        """Where the flow from `begin` rests."""
        with np.errstate(all="ignore"):  # scipy's BDF reads differences that it has not written yet
            end = scipy.integrate.solve_ivp(self, (0.0, span), begin, "BDF", jac=self.jacobian, rtol=1e-10, atol=1e-12)
        found = scipy.optimize.root(
            lambda x: self(0.0, x), end.y[:, -1], jac=lambda x: self.jacobian(0.0, x), tol=1e-13
        )
        near = np.abs(found.x - end.y[:, -1]).max() < 1e-4
        return found.x if near else np.full_like(begin, np.nan)


def valleys_of(plan: dict[str, Any], model: GeneKinetics, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Where scipy's flow rests from random states, those that most starts reach first, and 7 relaxation times of the
    slowest."""
    field, found, count = Written(model, ()), [], []
    for begin in np.exp(rng.uniform(np.log(1e-3), 0.0, (plan["valley_starts"], plan["genes"]))):
        end = field.rest(begin, _LONG)
        if not np.isfinite(end).all():
            continue
        near = [k for k, state in enumerate(found) if np.abs(state - end).max() < 1e-6]
        if near:
            count[near[0]] += 1
        elif np.linalg.eigvals(field.jacobian(0.0, end)).real.max() < 0:
            found, count = [*found, end], [*count, 1]
    slowest = min(-np.linalg.eigvals(field.jacobian(0.0, state)).real.max() for state in found)
    return np.array([found[k] for k in np.argsort(-np.array(count), kind="stable")]), float(7.0 / slowest)


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """The screen, the same by scipy for a sample, a second screen, and a plain loop."""
    base = companion(__file__, "thousand_perturbations")
    rng = np.random.default_rng(plan["seeds"][0])
    model, trios = model_of(plan, rng)
    members = members_of(plan, model, rng)
    valleys, span = valleys_of(plan, model, rng)
    how = {"reference": valleys, "settle": span, "members": members, "starts": plan["starts"],
           "batch_size": plan["batch_size"]}  # fmt: skip
    counted, programs = base.Count(), (many._solved, polish_lanes, resting._lasting)
    before = [p._cached._cache_size() for p in programs]
    began = time.process_time()
    found = screen(model, **how, progress=progress)
    spent = time.process_time() - began
    built = [p._cached._cache_size() - b for p, b in zip(programs, before, strict=True)]
    if progress:
        print(found.describe(), flush=True)
    first = counted.number
    second = screen(model, ["g0*2", "g1*0.5", "g3*2"], **how, progress=progress)
    more = counted.number - first
    # One program more, for balls that are late and are watched, where there are any.
    late = int(
        any(np.isin(balls.fate.astype(str), ("cycle", "not settled")).any() for balls in (found.model, *found.members))
    )
    checked = by_scipy(plan, [model, *members][:2], found, trios, rng, progress)
    each = plain_loop(plan, model, found, rng)
    balls = (1 + len(members)) * len(found.labels) * len(found.valleys)
    rows = [*whole(plan, found), *checked.pop("rows"), *planted(plan, found, trios)]
    rows += [
        Acceptance("programs that follow balls, for all knock-outs and members", built[0] - late, 1),
        Acceptance("programs that polish and certify", built[1], 1),
        Acceptance("programs compiled by a second screen of other edits", more, 0),
        Acceptance("processor time per ball over that of a plain loop of single solves", spent / balls / each, 1.0),
    ]  # fmt: skip
    table = found.synergies()
    words, sizes = np.unique(table["multiplicative term"].astype(str), return_counts=True)
    metrics = {
        "valleys": len(found.valleys),
        "doubles": int((found.order == 2).sum()),
        "seconds": found.seconds,
        "processor seconds": spent,
        "balls followed to rest": balls,
        "processor seconds per ball": spent / balls,
        "processor seconds per ball, plain loop": each,
        "seconds of the second screen": second.seconds,
        "fates of the model's balls": dict(zip(*_counts(found.model.fate), strict=True)),
        "changes of fate that only a double brings about": int(found.emergent().sum()),
        "share of members with the fate, where it changes": float(found.fate_agreement()[found.changed()].mean()),
        "terms, multiplicative": dict(zip(words.tolist(), sizes.tolist(), strict=True)),
        "sample": checked,
        "strongest": table.head(10)[["perturbation", "valley", "readout", "multiplicative", "multiplicative low",
                                     "multiplicative high", "additive", "multiplicative term"]].to_dict("records"),
        "fates that only a double changes": found.fates().head(10).to_dict("records"),
    }  # fmt: skip
    save(picture(found), out / "knockout_screen.png")
    notes = (
        "The network is simulated; the redundant pairs are planted: "
        + ", ".join(f"g{p} and g{q} for g{t}" for p, q, t in trios) + ".",
        "Both times are of this run on one core; the screen's include compiling, the search for new valleys, "
        "letting balls go, and a certificate for every rest, the loop's are BDF steps to rtol 1e-6 alone.",
    )  # fmt: skip
    return Findings(metrics, {"scipy, processor seconds per ball": each}, tuple(rows), notes)


def whole(plan: dict[str, Any], found: Screen) -> list[Acceptance]:
    """Everything that was asked for is there, and every ball is told."""
    wanted = {f"g{a}=0, g{b}=0" for a, b in combinations(range(plan["genes"]), 2)}
    alone = {f"g{a}=0" for a in range(plan["genes"])}
    here = set(found.labels)
    resting = np.isin(found.model.fate.astype(str), ("remains", "vanishes"))
    untold = resting != np.isfinite(found.levels[0]).all(axis=-1)
    return [
        Acceptance("double knock-outs screened", len(wanted & here), len(wanted), "higher"),
        Acceptance("single knock-outs screened", len(alone & here), len(alone), "higher"),
        Acceptance("combinations that were not asked for, or twice", len(found.labels) - len(wanted | alone), 0),
        Acceptance("balls whose level and fate disagree", int(untold.sum()), 0),
    ]


def planted(plan: dict[str, Any], found: Screen, trios: list[tuple[int, int, int]]) -> list[Acceptance]:
    """Where the redundant pairs stand in the ranking, and what they are called."""
    pairs = {f"g{p}=0, g{q}=0": f"g{t}.mrna" for p, q, t in trios}
    table = found.synergies()
    order = list(dict.fromkeys(table["perturbation"]))
    missed = len(set(pairs) - set(order[: len(pairs)]))
    theirs = table[table["perturbation"].isin(pairs) & table["same valley"]]
    words = (theirs["multiplicative term"] != "synthetic") | (theirs["additive term"] != "synthetic")
    readouts = theirs["readout"] != theirs["perturbation"].map(pairs)
    # A member that does not have a valley has no opinion on it.
    agree = theirs["multiplicative same sign"].min()
    return [
        Acceptance("planted pairs that do not come first, one after the other", missed, 0),
        Acceptance("rows of planted pairs that are not called synthetic", int(words.sum()), 0),
        Acceptance("rows of planted pairs that name another readout than their target", int(readouts.sum()), 0),
        Acceptance("least share of members with the sign of a planted pair", float(agree), 1.0, "higher"),
    ]


def by_scipy(
    plan: dict[str, Any],
    models: list[GeneKinetics],
    found: Screen,
    trios: list[tuple[int, int, int]],
    rng: np.random.Generator,
    progress: bool,
) -> dict[str, Any]:
    """Levels and interactions of a sample of doubles, one planted one among them, from scipy's own rests."""
    doubles = np.flatnonzero(found.order == 2)
    sample = rng.choice(doubles, plan["sample"], replace=False).tolist()
    sample.append(found.labels.index("g{}=0, g{}=0".format(*trios[0][:2])))
    parts = {k: tuple(found.parts[k, :2].tolist()) for k in sample}
    sets = {(), *parts.values(), *((a,) for pair in parts.values() for a in pair)}
    number = {tuple(x for x in row if x >= 0): k for k, row in enumerate(found.parts.tolist())}
    exact: dict[tuple, np.ndarray] = {}
    levels, moved, jobs = found.levels, 0, [(m, o, v) for m in range(len(models)) for o in sets
                                            for v in range(len(found.valleys))]  # fmt: skip
    worst = 0.0
    for m, out, valley in tqdm(jobs, desc="scipy", disable=None if progress else True):
        begin, ours = found.base[m, valley], found.base[m, valley] if not out else levels[m, number[out], valley]
        if not (np.isfinite(begin).all() and np.isfinite(ours).all()):
            continue
        exact[m, out, valley] = Written(models[m], out).rest(begin, _LONG)
        gap = np.abs(exact[m, out, valley] - ours).max()
        moved += not gap < 1e-3  # another valley, or no rest
        worst = max(worst, float(gap)) if gap < 1e-3 else worst
    floor, gaps = found.readouts.floor, {"multiplicative": 0.0, "additive": 0.0}
    scale = {
        "multiplicative": lambda x, x0: np.log2((x + floor) / (x0 + floor)),
        "additive": lambda x, x0: (x - x0) / (x0 + floor),
    }
    compared = 0
    for name, effect in scale.items():
        ours = found.interactions(name)  # type: ignore[arg-type]
        for k, (a, b) in parts.items():
            for m, valley in {(m, v) for m, o, v in exact if o == (a, b)}:
                keys = [(m, o, valley) for o in ((), (a,), (b,), (a, b))]
                if all(key in exact and np.isfinite(exact[key]).all() for key in keys):
                    x0, *x = (exact[key] for key in keys)
                    one, other, both = (effect(level, x0) for level in x)
                    gap = np.abs(both - one - other - ours[m, k - doubles[0], valley]).max()
                    gaps[name], compared = max(gaps[name], float(gap)), compared + 1
    bar = plan["level_bar"]
    # Each of the four levels may differ by the bar, where nothing is left but the floor.
    allowed = 4 * bar / float(floor.min()) / np.log(2)
    return {
        "balls": len(exact),
        "interactions": compared // 2,
        "rows": [
            Acceptance("levels at rest against scipy, largest difference", worst, bar),
            Acceptance("balls that scipy brings elsewhere, or nowhere", moved, 0),
            Acceptance(
                "multiplicative interactions against scipy, largest difference", gaps["multiplicative"], allowed
            ),
            Acceptance("additive interactions against scipy, largest difference", gaps["additive"], allowed),
        ],
    }


def plain_loop(plan: dict[str, Any], model: GeneKinetics, found: Screen, rng: np.random.Generator) -> float:
    """Processor seconds per ball of one BDF solve after the other, as far as the screen follows balls at first."""
    spent = []
    for k in rng.choice(np.flatnonzero(found.order == 2), plan["timed"], replace=False):
        field = Written(model, tuple(found.parts[k, :2].tolist()))
        begin = found.base[0, int(rng.integers(len(found.valleys)))]
        began = time.process_time()
        with np.errstate(all="ignore"):
            scipy.integrate.solve_ivp(field, (0.0, 100.0), begin, "BDF", jac=field.jacobian, rtol=1e-6, atol=1e-9)
        spent.append(time.process_time() - began)
    return float(np.median(spent))


def _counts(words: np.ndarray) -> tuple[list, list]:
    names, counts = np.unique(words.astype(str), return_counts=True)
    return names.tolist(), counts.tolist()


@styled
def picture(found: Screen) -> Any:
    """The map of interactions of the edits that interact most, and the strongest doubles with their intervals."""
    panels = new_panels(1, 2, (17.0, 7.4), width_ratios=[1.35, 1.0])[0]
    synergy_map(found, top=26, ax=panels[0])
    table = found.synergies()
    best = table[table["same valley"]].drop_duplicates("perturbation")
    ranked_intervals(best, most=24, title="Strongest double knock-outs, each in its best valley", ax=panels[1])
    return panels


if __name__ == "__main__":
    raise SystemExit(main(__file__))
