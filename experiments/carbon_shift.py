"""Carbon shift: fit one arm, predict the other from its first sample, beside every baseline and control."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from pinnsim.experiment import Acceptance, Findings, main, merged
from pinnsim.fit.evaluate import REAL, SHUFFLED, cross_condition, held_out_blocks
from pinnsim.judge import block_score, coverage, judge
from pinnsim.plot import score_bars
from pinnsim.project import Project, ProjectConfig, assemble

QUESTION = "Does a mechanistic model fitted to one carbon shift predict the opposite one better than trivial baselines, and does its network matter?"
SMOKE: dict[str, Any] = {
    "fit": {"starts": 1, "keep": 1, "collocation_steps": 20, "trajectory_steps": 2},
    "score": {"shuffles": 1, "blocks": [[120, 150]]},
    "candidates": {"late_sd": [0.7], "tau_sd": [0.8]},
}
BARS = {"glc_mal -> mal_glc": (0.98, 0.884), "mal_glc -> glc_mal": (1.15, 1.194)}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Chooses a configuration by held-out time blocks, then predicts across the arms once with it."""
    chosen, selection = choose(plan, progress)
    project = project_of(chosen)
    evaluation = cross_condition(
        project.config.model, project.network, project.prior, project.dataset, project.config.fit, shuffles=project.config.score.shuffles, progress=progress
    )
    table = judge(evaluation, project.dataset, late=project.config.score.late, relaxation=project.config.score.relaxation, name="B. subtilis carbon shift")
    print(table.to_text())
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    score_bars(table, ax=axes)
    figure.savefig(out / "carbon_shift.png", dpi=150)
    plt.close(figure)
    real = [p for p in evaluation.predictions if p.variant == REAL]
    held = coverage(evaluation, real)
    rows, metrics, baselines = [], {"selection": selection, "coverage": held.to_dict(), "verdicts": list(table.verdicts)}, {}
    for row in table.rows:
        key = f"{row.name}, {row.direction}"
        (baselines if row.kind == "baseline" else metrics)[key] = {"rmse": row.rmse, "lo": row.lo, "hi": row.hi, "r_change": row.r_change, "skill": row.skill}
        if row.name == REAL:
            least, best = BARS[row.direction]
            rows += [Acceptance(f"log2 RMSE, {row.direction}, at the least", row.rmse, least), Acceptance(f"log2 RMSE, {row.direction}, best baseline", row.rmse, best)]
        if row.name == SHUFFLED:
            rows.append(Acceptance(f"shuffled network less real one, lower end of the 95 % interval, {row.direction}", row.difference_lo, 0.0, "higher"))
    return Findings(metrics, baselines, tuple(rows), (*table.verdicts, *held.sentences()))


def choose(plan: dict[str, Any], progress: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The most constrained candidate whose held-out-block error is within one standard error of the best one's in every fitted arm (Breiman et al. 1984).

    Candidates run from constrained to free: how far genes may move in the late phase, then how far regulators' time constants may differ. No predicted arm is looked at.
    """
    candidates = [
        merged(plan, {"model": {"inputs": [{**i, "own_sd": late} if i["name"] == "late" else i for i in plan["model"]["inputs"]], "regulation": {"tau_sd": tau}}})
        for late in plan["candidates"]["late_sd"]
        for tau in plan["candidates"]["tau_sd"]
    ]
    table = []
    for candidate in candidates:
        project = project_of(candidate)
        # One start and no solver: the two stages agree on held-out blocks, and every candidate is treated alike.
        quick = project.config.fit.model_copy(update={"starts": 1, "keep": 1, "trajectory_steps": 0})
        found = held_out_blocks(project.config.model, project.network, project.prior, project.dataset, quick, project.config.score.blocks, progress=progress)
        late = next(i.own_sd for i in project.config.model.inputs if i.name == "late")
        row: dict[str, Any] = {"late_sd": late, "tau_sd": project.config.model.regulation.tau_sd}
        for arm in project.dataset.conditions:
            row[f"{arm} rmse"], row[f"{arm} se"] = block_score([p for p in found if p.predicted == arm])
        table.append(row)
    arms = [key[: -len(" rmse")] for key in table[0] if key.endswith(" rmse")]
    best = {arm: min(table, key=lambda row, arm=arm: row[f"{arm} rmse"]) for arm in arms}
    close = [all(row[f"{arm} rmse"] <= best[arm][f"{arm} rmse"] + best[arm][f"{arm} se"] for arm in arms) for row in table]
    number = close.index(True) if any(close) else min(range(len(table)), key=lambda k: sum(table[k][f"{arm} rmse"] for arm in arms))
    for k, row in enumerate(table):
        row["within one standard error"], row["chosen"] = close[k], k == number
    return candidates[number], table


def project_of(plan: dict[str, Any]) -> Project:
    """The project part of a plan."""
    return assemble(ProjectConfig.model_validate({k: v for k, v in plan.items() if k in ProjectConfig.model_fields}), Path())


if __name__ == "__main__":
    raise SystemExit(main(__file__))
