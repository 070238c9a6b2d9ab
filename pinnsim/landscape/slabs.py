"""Many lanes through one compiled program, some at a time: what a long sweep needs to show how far it is.

A slab is a fixed number of chunks of lanes. All slabs have one shape, the last one filled up with copies of its last
lane, so that a sweep of any length compiles once; between two slabs the host sees what is done. Fewer lanes than a slab
holds are one call.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from pinnsim.landscape.coordinates import in_chunks, out_of_chunks

CHUNKS = 16


def in_slabs(
    run: Callable[..., tuple[Array, ...]], arrays: Sequence[np.ndarray], size: int, label: str | None = None
) -> tuple[np.ndarray, ...]:
    """`run` on lanes, slab by slab.

    **Arguments:** `run`: of arrays (chunk, lane, ...), gives arrays (chunk, lane, ...); `arrays`: (lane, ...) each;
    `size`: lanes per chunk; `label`: of a progress bar, `None` for none.

    **Returns** results on the host, (lane, ...) each.
    """
    count, most = len(arrays[0]), CHUNKS * size
    if count <= most:
        return out_of_chunks(run(*in_chunks(arrays, size)), count)
    parts = []
    with tqdm(total=count, desc=label, unit="lane", disable=None if label else True) as bar:
        for first in range(0, count, most):
            some = [array[first : first + most] for array in arrays]
            here = len(some[0])
            whole = [np.concatenate([a, np.repeat(a[-1:], most - here, axis=0)]) for a in some]
            parts.append(out_of_chunks(run(*in_chunks(whole, size)), here))
            bar.update(here)
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
