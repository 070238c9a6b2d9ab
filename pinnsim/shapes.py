"""The names of dimensions, once.

Every array in pinnsim is annotated with these aliases, so that the same word always means the same axis:
`phase` (a time interval of a perturbation), `reaction`, `species`, `edge`, `input` (an external signal), `gene`,
`regulator`, `time`, `lane` (one simulated cell of a batch), `condition` and `replicate` (of a data set), `start` (one
start of a fit).
"""

from collections.abc import Sequence

from jaxtyping import Array, ArrayLike, Bool, Float, Int

Scalar = Float[Array, ""]
State = Float[Array, " species"]
Amounts = Float[Array, " amount"]  # the part of a state that is abundance
Hidden = Float[Array, " hidden"]  # the part that is hidden activity
Rates = Float[Array, " reaction"]
PerGene = Float[Array, " gene"]
PerRegulator = Float[Array, " regulator"]
PerEdge = Float[Array, " edge"]
PerInput = Float[Array, " input"]
PerPhase = Float[Array, " phase"]
Times = Float[Array, " time"]
Trajectory = Float[Array, "time species"]
Readings = Float[Array, "time gene"]
GeneIndex = Int[Array, " gene"]
EdgeIndex = Int[Array, " edge"]
Flag = Bool[Array, ""]
Outcomes = Int[Array, ""]

Numbers = ArrayLike | Sequence[int | float]  # what a caller may give where numbers are read on the host
