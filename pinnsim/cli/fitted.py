"""What the report says of a fit: data and coverage, the fit gene by gene, the course of its objective, what the data
identify, and the network as a result."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnsim.cli.fit import COURSE, EDGES, FITTED, MODEL, PRIOR, RATES, STARTS
from pinnsim.cli.report import Told, provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from pinnsim.report import Report

_EDGES = 15  # edges that the page lists
_RATES = 1500  # rates that it lists
_GENES = 3000  # genes that it lists
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
    from pinnsim.report import coverage_panel, coverage_table

    page.section("Data and coverage").text(f"{data['description'].splitlines()[0]}.")
    if "coverage" not in data:
        page.absent(f"This fit is of an older version, which kept no coverage; {_AGAIN}.")
        return
    unit = data["time_unit"]
    page.table(
        coverage_table(data["coverage"], data["conditions"], unit),
        f"What was measured of {data['genes']} genes, by condition; a reading is one gene in one sample.",
    )
    shown = len(data["coverage"])
    page.figure(
        coverage_panel(data["coverage"], unit, simulated=data["simulated"]),
        "Samples in time, by condition: the larger a point, the more cultures; the lighter, the more genes were read.",
        f"Times of the samples of {shown} conditions, from {data['times'][0]:g} to {data['times'][1]:g} {unit}.",
    )


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
    from pinnsim.report import fit_scores, gene_panels, shown_genes, summary_of

    if not (folder / FITTED).is_file():
        page.absent(f"This fit is of an older version, which kept no intervals of fitted readings; {_AGAIN}.")
        for picture in sorted(folder.glob("fit_*.png")):
            page.picture(picture, f"Measured and fitted courses: {picture.stem.removeprefix('fit_')}.")
        return []
    data, fitted = found["data"], _read_fitted(folder / FITTED)
    scores = fit_scores(fitted)
    sentences = summary_of(scores)
    page.part("Gene by gene").text(" ".join(sentences))
    made = found.get("intervals", {})
    source = "draws from the posterior" if made.get("from") == "posterior" else "kept starts: too narrow by themselves"
    unit = "" if data["scale"] == "linear" else data["scale"]
    for kind, genes in shown_genes(scores).items():
        title = "All genes" if kind == "all" else f"The {len(genes)} genes of the {kind} fit"
        if kind == "median":
            title = f"{len(genes)} genes around the median fit"
        page.figure(
            gene_panels(
                fitted, genes, time_unit=data["time_unit"], unit=unit, title=title, simulated=data["simulated"]
            ),
            f"{title}: readings (points), fitted courses (lines), and the 90 % interval of a reading (bands), from the "
            f"measurement's error and {made.get('members', 0)} {source}.",
            f"{title}, measured and fitted over time: {', '.join(genes)}.",
        )
    shown = scores.head(_GENES)
    shown = shown.assign(inside=[f"{100 * share:.0f} %" if share == share else "" for share in shown["inside"]])
    more = f" The {_GENES} worst of {len(scores)}; all readings: {FITTED}." if len(scores) > _GENES else ""
    page.table(
        shown.rename(columns={"RMSE": f"RMSE ({data['scale']})", "inside": "inside 90 % interval"}),
        "Every gene, worst first. RMSE of no change: were each culture to stay as its first sample; skill: the reduction "
        f"of RMSE against that.{more}",
    )
    return sentences[:1]


def _training(page: "Report", found: dict[str, Any], folder: Path) -> None:
    import pandas as pd

    from pinnsim.report import history_panels

    page.section("Training")
    kept = pd.DataFrame({"kept start": range(1, len(found["objective"]) + 1), "objective": found["objective"]})
    page.table(kept.assign(**found["terms"]), "Objective of the kept starts and its named terms, nats, best first.")
    course = pd.read_csv(folder / COURSE) if (folder / COURSE).is_file() else pd.DataFrame()
    if len(course):
        page.figure(
            history_panels(course, simulated=found["data"]["simulated"]),
            "Left: the objective of every start over steps, above the lowest of its stage (stages measure different "
            "things, so that their values do not compare). Right: the terms of the best start; data is what the prior's "
            "terms leave of the objective.",
            "Objective of every start and terms of the best one over optimisation steps.",
        )
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
            "Whether the data identify the rates was not computed: the fit ran with --no-uncertainty, or was interrupted.",
            f"pinnsim fit project.toml --out {folder}",
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
    told = ", ".join(f"{counts[name]} {name}" for name in ("identified", "in part", "prior echo", "at bound") if name in counts)
    return [f"Of {len(rates)} parameters: {told}."]


def _network(page: "Report", data: dict[str, Any], folder: Path) -> None:
    import pandas as pd

    from pinnsim.report import network_panel

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
    page.figure(
        network_panel(edges, simulated=data["simulated"]),
        f"Regulators (left) and their targets (right): {what}. Blue, solid, arrow: activates; red, dashed, bar: "
        "represses. The wider, the stronger.",
        f"Network of {len(edges)} edges, of which the clearest are drawn: "
        + ", ".join(f"{s} to {t}" for s, t in edges[["source", "target"]].head(5).itertuples(index=False)),
    )
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
    steps = {name: plan[name] for name in plan if name.endswith("_steps") and plan[name]}
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
