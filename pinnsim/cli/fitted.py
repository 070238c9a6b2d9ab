"""What the report says of a fit: data and coverage, the fit gene by gene, the course of its objective, what the data
identify, and the network as a result."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnsim.cli.fit import COURSE, EDGES, FITTED, MODEL, PRIOR, RATES, STARTS
from pinnsim.cli.report import Told, provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.report import Report

_EDGES = 15  # edges that the page lists
_RATES = 1500  # rates that it lists
_AGAIN = "run 'pinnsim fit' again for it"


def tell_fit(page: "Report", path: Path) -> Told:
    """All sections on a fit. **Raises** whatever a file that pinnsim did not write makes it raise."""
    found, folder = json.loads(path.read_text(encoding="utf-8")), path.parent
    data = found["data"]
    _data(page, data)
    if found["interrupted"]:
        page.notice("The fit was interrupted: this is the best so far.")
    _model(page, found)
    brief = _genes(page, found, folder)
    _training(page, found, folder)
    brief += _certainty(page, folder)
    _network(page, data, folder)
    return Told(provenance_of(data, found["seed"]) | _origins(found, folder), brief)


def _data(page: "Report", data: dict[str, Any]) -> None:
    from pinnsim.report import add_coverage

    page.section("Data and coverage").text(f"{data['description'].splitlines()[0]}.")
    if "coverage" not in data:
        page.absent(f"This fit is of an older version, which kept no coverage; {_AGAIN}.")
        return
    unit, simulated = data["time_unit"], data["simulated"]
    add_coverage(page, data["coverage"], data["conditions"], genes=data["genes"], time_unit=unit, simulated=simulated)


def _model(page: "Report", found: dict[str, Any]) -> None:
    model = found["model"]
    learned = "none" if model["residual"] == "none" else f"{model['residual']}, gate {found['gate']:.3g} (0: unused)"
    page.section("The fit").facts(
        {
            "model": f"{' and '.join(model['layers'])} of {model['genes']} genes, {model['edges']} signed edges from "
            f"{model['regulators']} regulators",
            "neural residual": learned,
            "starts": ", ".join(f"{count} {outcome}" for outcome, count in found["outcomes"].items()),
        }
    )


def _genes(page: "Report", found: dict[str, Any], folder: Path) -> list[str]:
    """The fit of the worst, the median and the best genes, and a score of each."""
    from pinnsim.report import add_genes

    if not (folder / FITTED).is_file():
        page.absent(f"This fit is of an older version, which kept no intervals of fitted readings; {_AGAIN}.")
        for picture in sorted(folder.glob("fit_*.png")):
            page.picture(picture, f"Measured and fitted courses: {picture.stem.removeprefix('fit_')}.")
        return []
    data, made = found["data"], found.get("intervals", {})
    source = (
        "draws from the posterior" if made.get("from") == "posterior" else "kept start(s): too narrow by themselves"
    )
    return add_genes(
        page,
        _read_fitted(folder / FITTED),
        f"the measurement's error and {made.get('members', 0)} {source}",
        time_unit=data["time_unit"],
        scale=data["scale"],
        simulated=data["simulated"],
    )


def _training(page: "Report", found: dict[str, Any], folder: Path) -> None:
    import pandas as pd

    from pinnsim.report import add_course

    page.section("Training")
    kept = pd.DataFrame({"kept start": range(1, len(found["objective"]) + 1), "objective": found["objective"]})
    page.table(kept.assign(**found["terms"]), "Objective of the kept starts and its named terms, nats, best first.")
    course = pd.read_csv(folder / COURSE) if (folder / COURSE).is_file() else pd.DataFrame()
    if len(course):
        add_course(page, course, simulated=found["data"]["simulated"])
    else:
        page.absent(f"The course of the objective was not kept; {_AGAIN}.")
    if (folder / STARTS).is_file():
        starts = pd.read_csv(folder / STARTS)
        columns = [name for name in ("start", "objective", "outcome", "failure", "at bounds", "kept") if name in starts]
        page.table(starts[columns].dropna(axis="columns", how="all"), "All starts.")


def _certainty(page: "Report", folder: Path) -> list[str]:
    """What the data identify."""
    import pandas as pd

    from pinnsim.fit import verdict_counts

    page.section("What the data identify")
    if (folder / PRIOR).is_file():
        page.table(_priors(pd.read_csv(folder / PRIOR)), "Which prior of decay the genes got, and from where.")
    if (folder / "half_lives.png").is_file():
        page.picture(folder / "half_lives.png", "Fitted half-lives beside the prior that each gene got.")
    if not (folder / RATES).is_file():
        page.absent(
            "Whether the data identify the rates was not computed (--no-uncertainty, or interrupted).",
            f"pinnsim fit project.toml --out {shlex.quote(str(folder))}",
        )
        return []
    text = ("parameter", "unit", "verdict")
    rates = pd.read_csv(folder / RATES, keep_default_na=False, dtype=dict.fromkeys(text, str))
    page.text(
        "Identified: the posterior is at most half as wide as the prior. Prior echo: at least nine tenths as wide; the "
        "data hardly speak of it. In part: between. At bound: its interval is not to be trusted."
    )
    page.table(verdict_counts(rates), f"Parameters by kind and verdict, {len(rates)} in all.")
    shown = rates.sort_values("width", kind="stable").head(_RATES)
    listed = pd.DataFrame(
        {
            "parameter": shown["parameter"],
            "verdict": shown["verdict"],
            "estimate": shown["estimate"],
            "90 % interval": _intervals(shown, "lo", "hi"),
            "prior": shown["prior"],
            "90 % of the prior": _intervals(shown, "prior_lo", "prior_hi"),
            "unit": shown["unit"],
            "width": shown["width"],
        }
    )
    some = f"The {_RATES} of {len(rates)} rates that the data tell most of" if len(rates) > _RATES else "Every rate"
    page.table(
        listed,
        f"{some}, best known first; width is posterior over prior. In full: {RATES}.",
    )
    counts = rates["verdict"].value_counts()
    told = ", ".join(
        f"{counts[name]} {name}" for name in ("identified", "in part", "prior echo", "at bound") if name in counts
    )
    return [f"Of {len(rates)} parameters: {told}."]


def _network(page: "Report", data: dict[str, Any], folder: Path) -> None:
    import pandas as pd

    from pinnsim.report import add_network

    page.section("Network")
    if (folder / EDGES).is_file():
        edges = pd.read_csv(folder / EDGES, keep_default_na=False, dtype={"source": str, "target": str})
        attended = [name for name in ("attention", "contribution") if name in edges]
        shown = edges[["rank", "source", "target", "strength", "lo", "hi", "width", *attended]].head(_EDGES)
        text = (
            f"The clearest {len(shown)} of {len(edges)} edges: signed strength with a 90 % interval; width is posterior"
            f" over prior, so that an edge near 1 is clear by its prior alone. All: {EDGES}."
        )
        if attended:
            text += (
                " Attention and contribution (log-odds) are what the learned correction made of an edge, not evidence"
                " that it exists."
            )
        what = "fitted strengths, clearest first"
    else:
        edges, shown, text = _prior_edges(folder), None, ""
        what = "signs as the prior network gives them, surest first; strengths were not asked for"
    if not len(edges):
        page.absent("The model has no edge: every gene is on its own.")
        return
    add_network(page, edges, what, simulated=data["simulated"])
    if shown is not None:
        page.table(shown, text)


def _prior_edges(folder: Path) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    from pinnsim.formats.bundle import load_model

    network = load_model(folder / MODEL).network
    order = np.argsort(-np.asarray(network.confidence), kind="stable")
    names = [edge.partition("->") for edge in network.edges]
    return pd.DataFrame(
        {
            "source": [names[k][0] for k in order],
            "target": [names[k][2] for k in order],
            "strength": np.asarray(network.sign)[order],
        }
    )


def _origins(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What else makes a fit repeatable."""
    plan, manifest = found["plan"], folder / MODEL / "manifest.json"
    steps = {name: plan[name] for name in plan if name.endswith("_steps") and name != "max_steps" and plan[name]}
    facts = {
        "project": found["project"],
        "plan_of_the_fit": ", ".join(
            [f"{plan['starts']} starts, {plan['keep']} kept", *(f"{n} {k.replace('_', ' ')}" for k, n in steps.items())]
        ),
        "fitted_with": ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
    }
    if manifest.is_file():
        facts["model_digest_(sha256)"] = json.loads(manifest.read_text(encoding="utf-8"))["digest"]
    return facts


def _read_fitted(path: Path) -> "pd.DataFrame":
    """Names stay names, whatever they look like: a gene may be called NA."""
    import pandas as pd

    names = {"condition": str, "replicate": str, "gene": str}
    blank = {name: [""] for name in ("time", "measured", "fitted", "lo", "hi")}
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=blank)


def _intervals(table: "pd.DataFrame", low: str, high: str) -> list[str]:
    return [f"{a:.3g} to {b:.3g}" for a, b in zip(table[low].astype(float), table[high].astype(float), strict=True)]


def _priors(table: "pd.DataFrame") -> "pd.DataFrame":
    grouped = table.groupby("source", sort=False)
    unit = table["unit"].iloc[0]
    return (
        grouped["half_life"]
        .agg(["count", "min", "median", "max"])
        .reset_index()
        .rename(columns={"count": "genes", **{name: f"{name} half-life ({unit})" for name in ("min", "median", "max")}})
    )
