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
    return in_batches(lambda *whole: out_of_chunks(run(*in_chunks(whole, size)), most), arrays, most, label)


def in_batches(
    run: Callable[..., Sequence[Array | np.ndarray]], arrays: Sequence[np.ndarray], size: int, label: str | None = None
) -> tuple[np.ndarray, ...]:
    """`run` on lanes, always `size` of them: the last batch is filled up with copies of its last lane.

    **Arguments:** `run`: of arrays (lane, ...), gives arrays (lane, ...); `arrays`: (lane, ...) each;
    `label`: as of `in_slabs`. **Returns** results on the host, (lane, ...) each.
    """
    count, parts = len(arrays[0]), []
    with tqdm(total=count, desc=label, unit="lane", disable=None if label else True) as bar:
        for first in range(0, max(count, 1), size):
            some = [array[first : first + size] for array in arrays]
            here = len(some[0])
            found = run(*(np.concatenate([a, np.repeat(a[-1:], size - here, axis=0)]) for a in some))
            parts.append([np.asarray(values)[:here] for values in found])
            bar.update(here)
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
