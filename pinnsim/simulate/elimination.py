"""Small linear systems by elimination written out in whole arrays, so that many lanes are solved side by side.

A library factorises one matrix at a time, whatever the layout. Here the matrix is cut into blocks, A = L U with unit
blocks on the diagonal of U, and every block is one sum of products over all blocks before it,

    L_ik = A_ik - sum_j L_ij U_jk,        U_ki = L_kk^-1 (A_ki - sum_j L_kj U_ji),

which `pinnsim.lanes` runs over neighbouring lanes at full vector width. Rows are not exchanged. For the matrices
`s I - J` of implicit steps that is right where the diagonal dominates, which every small enough step makes it do;
elsewhere a pivot can come out small. Where one is less than `eps^(1/4)` of its diagonal entry, rounding errors may
have grown by `eps^(-1/2)`: then the solution is not a number, and the step that needed it is tried again, shorter.

Source: G. H. Golub and C. F. Van Loan, Matrix Computations (2013), 3.2.10 and 3.4.1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinnsim.shapes import Scalar

Matrix = Float[Array, "row column"]
Vector = Float[Array, " row"]

LARGEST = 64  # rows that are eliminated here; beyond, the program gets too long, and LAPACK is as fast
_BLOCK, _CELL = 10, 5  # rows of a block, and of the parts in which it is inverted


def devices_for(size: int, devices: int | None) -> int | None:
    """Over how many devices lanes with systems of `size` rows may be spread: as asked, but on one where LAPACK
    factorises them. Its batches share one pool of threads with the devices, and on several wait for it for ever."""
    return 1 if size > LARGEST else devices


def linear_solver(matrix: Matrix) -> Callable[[Vector], Vector]:
    """`b -> A^-1 b`, factorised once; NaN where no sound factorisation was found."""
    size = matrix.shape[0]
    if size > LARGEST:
        factors = jax.scipy.linalg.lu_factor(matrix)
        return lambda b: jax.scipy.linalg.lu_solve(factors, b)
    one = _unseen_one(matrix[0, 0])
    ends = [min(start + _BLOCK, size) for start in range(0, size, _BLOCK)]
    starts = [0, *ends[:-1]]
    lower: list[Matrix] = []  # by column of blocks, the rows below the diagonal
    upper: list[Matrix] = []  # by row of blocks, the columns right of the diagonal
    inverses, pivots = [], []
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        column, row = matrix[start:, start:end], matrix[start:end, end:]
        for first, left, right in zip(ends[:k], lower, upper, strict=False):
            at, to = start - first, end - first
            column = column - _product(left[at:], right[:, at:to])
            row = row - _product(left[at:to], right[:, to:])
        column = column / one
        inverse, found = _inverse(column[: end - start], one)
        inverses.append(inverse)
        pivots += found
        if end < size:
            lower.append(column[end - start :])
            upper.append(_product(inverse, row / one) / one)
    least = float(jnp.finfo(matrix.dtype).eps) ** 0.25
    sound = jnp.all(jnp.abs(jnp.stack(pivots)) > least * jnp.abs(jnp.diagonal(matrix)))
    trust = jnp.where(sound, one, jnp.nan)

    def solve(b: Vector) -> Vector:
        known: list[Vector] = []
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            right = b[start:end]
            for first, left, before in zip(ends[:k], lower, known, strict=False):
                right = right - _applied(left[start - first : end - first], before)
            known.append(_applied(inverses[k], right / trust) / one)
        solution = known.pop()
        for right, part in zip(upper[::-1], known[::-1], strict=True):
            solution = jnp.concatenate([(part - _applied(right, solution)) / one, solution])
        return solution

    return solve


def _unseen_one(number: Scalar) -> Scalar:
    """1 (NaN for NaN), unknown to the compiler: what is divided by it is kept in memory. Otherwise each of its users
    would work it out again, and each user of theirs."""
    return jnp.where(number == number, jnp.ones_like(number), jnp.nan)


def _product(a: Float[Array, "row inner"], b: Float[Array, "inner column"]) -> Matrix:
    """Written out: one pass over the result."""
    total = a[:, :1] * b[:1]
    for k in range(1, a.shape[1]):
        total = total + a[:, k : k + 1] * b[k : k + 1]
    return total


def _applied(a: Float[Array, "row inner"], x: Float[Array, " inner"]) -> Vector:
    total = a[:, 0] * x[0]
    for k in range(1, a.shape[1]):
        total = total + a[:, k] * x[k]
    return total


def _inverse(a: Matrix, one: Scalar) -> tuple[Matrix, list[Scalar]]:
    """A^-1 and the pivots of A = L U: Gauss and Jordan's for a cell, by halves for what is larger."""
    size = a.shape[0]
    if size > _CELL:
        half = size // 2
        first, pivots = _inverse(a[:half, :half], one)
        right = _product(first, a[:half, half:]) / one
        second, more = _inverse((a[half:, half:] - _product(a[half:, :half], right)) / one, one)
        left = _product(second, _product(a[half:, :half], first) / one) / one
        top = jnp.concatenate([first + _product(right, left), -_product(right, second)], axis=1)
        return jnp.concatenate([top, jnp.concatenate([-left, second], axis=1)]) / one, pivots + more
    pivots = []
    for k in range(size):
        here = np.arange(size) == k
        pivots.append(a[k, k])
        row = jnp.where(here, 1.0, a[k]) / a[k, k]
        others = jnp.where(here[None], 0.0, a) - a[:, k : k + 1] * row[None]
        a = jnp.where(here[:, None], row[None], others)
    return a / one, pivots
