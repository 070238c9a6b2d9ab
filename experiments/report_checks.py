"""Is the report a file that one can send to a colleague: small, whole, quiet, legible and accessible in a browser?

Two reports: that of the demonstration (real measurements) and that of a simulated study of 350 genes, which the command
line fits. Each is opened in Chromium at the widths of a phone and of a desk, by day and by night. Without a
browser only the sizes are measured, and the result says so.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

from pinnsim.cli import run as call
from pinnsim.errors import PinnsimError
from pinnsim.experiment import Acceptance, Findings, companion, main
from pinnsim.formats.toml import to_toml
from pinnsim.prior import half_life

SMOKE: dict[str, Any] = {
    "demo": "",
    "uncertainty": False,
    "score": False,
    "landscape": False,
    "genes": 20,
    "conditions": 2,
    "fit": {"collocation_steps": 3, "starts": 1, "keep": 1},
}
BARS = {
    "console": "errors and warnings in the browser's console",
    "requests": "requests to the network",
    "unloaded": "pictures that were not loaded",
    "sideways": "views (of two widths, day and night) in which the page scrolls sideways",
    "overlaps": "parts that overlap",
    "nameless": "pictures, links, tables, regions and buttons without an accessible name",
    "faint": "texts with a contrast below 4.5",
    "structure": "faults of headings, landmarks, table headers, captions",
}


def run(plan: dict[str, Any], out: Path, progress: bool = True) -> Findings:
    """Makes the reports and looks at them."""
    work = out / "report_checks"
    pages = {f"a simulated study of {plan['genes']} genes": study(plan, work / "study")}
    if plan["demo"]:
        pages = {"the demonstration": demonstration(plan, work / "demo"), **pages}
    rows = [
        Acceptance(f"size of the report of {name} (MB)", path.stat().st_size / 1e6, plan["largest"])
        for name, path in pages.items()
    ]
    metrics: dict[str, Any] = {}
    tool = companion(__file__, "_browser")
    missing = tool.lacking()
    notes = [missing] if missing else []
    if not missing:
        with tool.browser() as driver:
            for name, path in pages.items():
                seen = tool.look(driver, path)
                found = seen.problems()
                rows += [Acceptance(f"{BARS[kind]}, {name}", len(found[kind]), 0) for kind in BARS]
                view = seen.views[min(seen.views)]
                metrics[name] = {key: view[key] for key in ("images", "texts", "boxes")}
                metrics[name]["first problems"] = [text for texts in found.values() for text in texts][:5]
    if plan["genes"] < 100 or plan["demo"] == "smoke":
        notes.append("the demonstration ran at its smoke size, or the study has few genes: its numbers mean nothing")
    return Findings(metrics, {}, tuple(rows), tuple(notes))


def study(plan: dict[str, Any], folder: Path) -> Path:
    """The report of a simulated study that the command line fits."""
    config = write_study(plan, folder)
    fitted = folder / "fitted"
    quiet = ["--no-progress"]
    sure = [] if plan["uncertainty"] else ["--no-uncertainty"]
    command("fit", config, "--out", fitted, *quiet, *sure)
    if plan["score"]:
        command("score", config, "--out", fitted, "--shuffles", "1", *quiet)
    if plan["landscape"]:
        files = ("--out", fitted / "landscape.csv", "--picture", fitted / "landscape.png")
        command("landscape", "toggle_switch", "--starts", "16", *files)
    command("report", fitted)
    return fitted / "report.html"


def demonstration(plan: dict[str, Any], folder: Path) -> Path:
    """The report of the demonstration."""
    command("demo", "--out", folder, *(["--smoke"] if plan["demo"] == "smoke" else []))
    return folder / "report.html"


def write_study(plan: dict[str, Any], folder: Path) -> Path:
    """Readings, network, half-lives and project file of a simulated study."""
    import numpy as np
    import pandas as pd

    sized = companion(__file__, "_fit_of_size")
    prior = sized.model_of(plan, plan["genes"])
    dataset = sized.simulated(plan, prior)
    rng = np.random.default_rng(plan["seeds"][0])
    network = sized.network_of(plan["genes"], plan["regulators"], rng)
    rates = sized.prior_of(network, plan["half_life_log_sd"], rng).rate.median
    folder.mkdir(parents=True, exist_ok=True)
    dataset.to_frame()[["condition", "gene", "time", "value"]].to_csv(folder / "readings.csv", index=False)
    edges = {
        "source": [network.regulators[s] for s in network.source],
        "target": [network.genes[t] for t in network.target],
        "sign": network.sign,
    }
    pd.DataFrame(edges).to_csv(folder / "network.csv", index=False)
    lives = pd.DataFrame({"gene": network.genes, "half_life": np.asarray(half_life(np.asarray(rates)))})
    lives.to_csv(folder / "half_lives.csv", index=False)
    project = {
        "data": {
            "tidy": "readings.csv",
            "condition": "condition",
            "time_unit": "h",
            "scale": "log2",
            "simulated": True,
            "source": f"simulated: {plan['genes']} genes, {plan['regulators']} regulators each",
        },
        "treatments": dict(zip(dataset.conditions, map(str, dataset.treatments), strict=True)),
        "network": {"path": "network.csv"},
        "prior": {"half_lives": "half_lives.csv", "unit": "h", "log_sd": plan["half_life_log_sd"]},
        "model": plan["model"],
        "fit": {**plan["fit"], "seed": plan["seeds"][0]},
    }
    path = folder / "project.toml"
    path.write_text(to_toml(project), encoding="utf-8")
    return path


def command(*arguments: object) -> None:
    """A command line in this process. **Raises** `E_USAGE` with what it said where it fails."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = call([str(argument) for argument in arguments])
    if status:
        raise PinnsimError.of("E_USAGE", f"'pinnsim {arguments[0]}' ended with status {status}: {err.getvalue()}")


if __name__ == "__main__":
    raise SystemExit(main(__file__))
