"""A signed network as a picture that stays legible: its clearest edges, regulators left, targets right."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from pinnsim.errors import PinnsimError
from pinnsim.plot.style import BLUE, GREY, INK, RED, new_axes, styled, titled

MOST = 36
_SWEEPS = 8


@styled
def network_panel(
    edges: pd.DataFrame, *, most: int = MOST, title: str | None = None, simulated: bool = False, ax: Axes | None = None
) -> Axes:
    """The first `most` edges: activating ones blue, solid, with an arrow; repressing ones red, dashed, with a bar; of
    unknown sign grey, dotted. Width tells strength. A gene that is both stands on both sides.

    **Arguments:** `edges`: `source`, `target` and `strength` (signed), clearest first.

    **Raises** `E_NETWORK_EMPTY` without an edge.
    """
    if not len(edges):
        raise PinnsimError.of("E_NETWORK_EMPTY", "There is no edge to draw; give a network with edges.")
    shown = edges.head(most)
    source, target = shown["source"].astype(str).tolist(), shown["target"].astype(str).tolist()
    left, right = _ordered(source, target)
    tall = max(len(left), len(right))
    ax = new_axes(ax, (6.4, 1.2 + 0.235 * tall))
    here = {name: (0.0, _place(k, len(left), tall)) for k, name in enumerate(left)}
    there = {name: (1.0, _place(k, len(right), tall)) for k, name in enumerate(right)}
    strength = shown["strength"].to_numpy(float)
    widest = max(float(np.nanmax(np.abs(strength))), 1e-12)
    for a, b, value in zip(source, target, strength, strict=True):
        known = np.isfinite(value) and value != 0
        colour, dash, head = (BLUE, "-", "-|>,head_length=5,head_width=2.2") if value > 0 else (RED, "--", "|-|")
        if not known:
            colour, dash, head = GREY, ":", "-"
        elif value < 0:
            head = "|-|,widthA=0,widthB=2.6"
        width = 0.7 + 1.8 * (abs(value) / widest if known else 0.0)
        ax.add_patch(
            FancyArrowPatch(
                here[a],
                there[b],
                arrowstyle=head,
                color=colour,
                linestyle=dash,
                linewidth=width,
                shrinkA=3,
                shrinkB=4,
                mutation_scale=1.0,
                connectionstyle="arc3,rad=0",
            )
        )
    for names, side, offset in ((here, "right", -0.02), (there, "left", 0.02)):
        for name, (x, y) in names.items():
            ax.text(
                x + offset, y, name[:24], ha=side, va="center", fontsize=8, fontstyle="italic", color=INK,
                parse_math=False,
            )  # fmt: skip
    ax.set_xlim(-0.35, 1.35)
    ax.set_ylim(tall - 0.4, -1.0)
    for x, name in ((0.0, "regulators"), (1.0, "targets")):
        ax.text(x, -0.8, name, ha="center", va="bottom", fontsize=8.5, fontweight="bold", color=INK)
    ax.set_axis_off()
    more = f"The {len(shown)} clearest of {len(edges)} edges" if len(edges) > len(shown) else f"All {len(edges)} edges"
    ax.set_title(titled(more if title is None else title, simulated), pad=14)
    lines = [
        Line2D([], [], color=BLUE, linestyle="-", label="activates (arrow)"),
        Line2D([], [], color=RED, linestyle="--", label="represses (bar)"),
    ]
    if not (np.isfinite(strength) & (strength != 0)).all():
        lines.append(Line2D([], [], color=GREY, linestyle=":", label="sign unknown"))
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)
    return ax


def _place(k: int, count: int, tall: int) -> float:
    """Spread over the height of the taller side."""
    return (k + 0.5) * tall / count - 0.5


def _ordered(source: Sequence[str], target: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both sides in an order with few crossings: each in turn by the mean place of what it is tied to."""
    left, right = list(dict.fromkeys(source)), list(dict.fromkeys(target))
    for _ in range(_SWEEPS):
        right = _by_partners(right, target, source, left)
        left = _by_partners(left, source, target, right)
    return left, right


def _by_partners(side: list[str], own: Sequence[str], other: Sequence[str], partners: list[str]) -> list[str]:
    place = {name: (k + 0.5) / len(partners) for k, name in enumerate(partners)}
    mean = {name: np.mean([place[b] for a, b in zip(own, other, strict=True) if a == name]) for name in side}
    return sorted(side, key=lambda name: float(mean[name]))
