"""An explicit pair for mild systems: Tsitouras' 5(4) with its own dense output of order 4.

Dense output between x0 and x1 with slopes f0 and f1 is the quartic through both, their slopes, and the pair's value in
the middle of the step. That is the pair's own interpolant, a quartic with the same five conditions, and needs one
array instead of five.

Source: Ch. Tsitouras, Comput. Math. Appl. 62:770 (2011).
"""

from pinnsim.shapes import Scalar, State
from pinnsim.simulate.adaptive import AbstractPair, Attempt, Ends, Field, weighted

_STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
)
_NODES = (0.161, 0.327, 0.9, 0.9800255409045097, 1.0)
_STEP = (
    0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774
)  # fmt: skip
_ERROR = (
    0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629, -0.5823571654525552,
    0.45808210592918697, -0.015151515151515152,
)  # fmt: skip
_MIDDLE = (
    0.10741235230096871, 0.01135625, 0.39560903056045305, -0.34475214352593553, 1.3161853649581645,
    -1.0170608542936508, 0.03125,
)  # fmt: skip


class Tsitouras(AbstractPair):
    """Six right-hand sides per step (the last is the next step's first); stable for `h |lambda| < 3.5`."""

    order: int = 5

    def attempt(self, field: Field, time: Scalar, state: State, slope: State, step: Scalar) -> Attempt:
        slopes = [slope]
        for node, row in zip(_NODES, _STAGES, strict=True):
            slopes.append(field(time + node * step, state + step * weighted(row, slopes)))
        new = state + step * weighted(_STEP, slopes)
        slopes.append(field(time + step, new))
        return Attempt(new, slopes[-1], step * weighted(_ERROR, slopes), (state + step * weighted(_MIDDLE, slopes),))

    def between(self, share: Scalar, ends: Ends, inside: tuple[State, ...]) -> State:
        x0, x1, f0, f1 = ends
        (middle,) = inside
        fourth = 2.0 * (f1 - f0) - 8.0 * (x1 + x0) + 16.0 * middle
        third = 5.0 * f0 - 3.0 * f1 + 18.0 * x0 + 14.0 * x1 - 32.0 * middle
        second = f1 - 4.0 * f0 - 11.0 * x0 - 5.0 * x1 + 16.0 * middle
        return x0 + share * (f0 + share * (second + share * (third + share * fourth)))
