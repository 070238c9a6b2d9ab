"""Many lanes through a program that is written for one: like `jax.vmap`, with the lane axis last in every array.

The layout decides the speed of small models on a processor: with lanes last, each operation on a model's arrays runs
over neighbouring lanes at full vector width, a gather moves whole rows of lanes, and sums over regulators are sums of
rows. `jax.vmap` moves the lane axis to the front in every gather, concatenation and reshape. Here the one-lane
program is traced once and then evaluated with every array widened by a last axis, loops included: a `while_loop` runs
until the slowest lane is done, and lanes that are done keep their values.

The laws: for every function of arrays, `lanes_last(f)(shared, lanes)` is `jax.vmap(f, (None, -1), -1)(shared, lanes)`
up to rounding. Operations without a rule of their own go through that `vmap`. Derivatives are those of the operations
that run: custom derivative rules of the traced function are not kept.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

Shared = TypeVar("Shared")
Lanes = TypeVar("Lanes")
Out = TypeVar("Out")


def lanes_last(fn: Callable[[Shared, Lanes], Out]) -> Callable[[Shared, Lanes], Out]:
    """`fn(shared, lane)` for one lane as a function of `shared` and of many lanes.

    **Arguments:** `fn`: pure, from two trees to a tree of arrays.

    **Returns** a function of the same two trees, in which every array of the second, and of the result, has one
    further axis, the last, over lanes.
    """

    def mapped(shared: Shared, lanes: Lanes) -> Out:
        arrays, rest = eqx.partition((shared, lanes), eqx.is_array)
        leaves, tree = jax.tree.flatten(arrays)
        ours = [False] * len(jax.tree.leaves(arrays[0])) + [True] * len(jax.tree.leaves(arrays[1]))
        count = next(leaf.shape[-1] for leaf, laned in zip(leaves, ours, strict=True) if laned)

        def flat(*given: Array) -> Any:
            return fn(*eqx.combine(jax.tree.unflatten(tree, given), rest))

        shapes = [leaf.shape[:-1] if laned else leaf.shape for leaf, laned in zip(leaves, ours, strict=True)]
        one = [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(shapes, leaves, strict=True)]
        program, made = jax.make_jaxpr(flat, return_shape=True)(*one)
        found = _closed(program, _values([jnp.asarray(leaf) for leaf in leaves], ours), count)
        return jax.tree.unflatten(jax.tree.structure(made), [_widened(value, count) for value in found])

    return mapped


class _Value(NamedTuple):
    """An array, and whether its last axis is that of lanes."""

    array: Any
    laned: bool


_Rule = Callable[..., Sequence[_Value]]
_RULES: dict[str, _Rule] = {}


def _run(jaxpr: Any, consts: Sequence[_Value], arguments: Sequence[_Value], count: int) -> list[_Value]:
    known: dict[Any, _Value] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(atom: Any) -> _Value:
        return _Value(atom.val, False) if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if any(value.laned for value in inputs) or name in _PROGRAMS:
            outputs = _RULES.get(name, _mapped)(equation, inputs, count)
        else:
            outputs = [_Value(array, False) for array in _bound(equation, [value.array for value in inputs])]
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _bound(equation: Any, arrays: Sequence[Any], **changed: Any) -> list[Any]:
    found = equation.primitive.bind(*arrays, **{**equation.params, **changed})
    return list(found) if equation.primitive.multiple_results else [found]


def _mapped(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    axes = [-1 if value.laned else None for value in inputs]
    found = jax.vmap(lambda *arrays: _bound(equation, arrays), axes, -1)(*(value.array for value in inputs))
    return [_Value(array, True) for array in found]


def _widened(value: _Value, count: int) -> Array:
    array = jnp.asarray(value.array)
    return array if value.laned else jnp.broadcast_to(array[..., None], (*array.shape, count))


def _rule(*names: str) -> Callable[[_Rule], _Rule]:
    def note(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return note


# Element by element

_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz "
    "convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igammac integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or polygamma "
    "population_count pow reduce_precision rem round rsqrt select_n shift_left shift_right_arithmetic "
    "shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh threefry2x32 xor "
)


@_rule(*_ELEMENTWISE.split())
def _elementwise(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    shape = (*equation.outvars[0].aval.shape, count)
    arrays = [_spread(value, shape) for value in inputs]
    changed = {"sharding": None} if "sharding" in equation.params else {}
    return [_Value(array, True) for array in _bound(equation, arrays, **changed)]


def _spread(value: _Value, shape: tuple[int, ...]) -> Array:
    """To the whole shape, by an operation that is free inside a fused loop."""
    array = jnp.asarray(value.array)
    if array.shape == shape:
        return array
    own = array.shape[:-1] if value.laned else array.shape
    axes = tuple(range(len(own))) + ((len(shape) - 1,) if value.laned else ())
    return jax.lax.broadcast_in_dim(array, shape, axes)


# Shapes: the same change, beside a last axis that stays


@_rule("broadcast_in_dim")
def _broadcast(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    return _one(jax.lax.broadcast_in_dim(inputs[0].array, (*shape, count), (*axes, len(shape))))


@_rule("reshape", "squeeze")
def _reshape(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    return _one(jnp.reshape(inputs[0].array, (*equation.outvars[0].aval.shape, count)))


@_rule("transpose")
def _transpose(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    order = equation.params["permutation"]
    return _one(jax.lax.transpose(inputs[0].array, (*order, len(order))))


@_rule("slice")
def _slice(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    at = equation.params
    strides = None if at["strides"] is None else (*at["strides"], 1)
    return _one(jax.lax.slice(inputs[0].array, (*at["start_indices"], 0), (*at["limit_indices"], count), strides))


@_rule("concatenate")
def _concatenate(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    return _one(jax.lax.concatenate([_widened(value, count) for value in inputs], equation.params["dimension"]))


@_rule("pad")
def _pad(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    if inputs[1].laned:
        return _mapped(equation, inputs, count)
    return _one(jax.lax.pad(inputs[0].array, inputs[1].array, (*equation.params["padding_config"], (0, 0, 0))))


@_rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
@_rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "rev", "split")
def _along(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    changed = {"out_sharding": None} if "out_sharding" in equation.params else {}
    return [_Value(array, True) for array in _bound(equation, [inputs[0].array], **changed)]


@_rule("dynamic_slice")
def _dynamic_slice(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    operand, *starts = inputs
    if any(start.laned for start in starts):
        return _mapped(equation, inputs, count)
    first = [*(start.array for start in starts), jnp.zeros_like(jnp.asarray(starts[0].array))]
    return _one(jax.lax.dynamic_slice(operand.array, first, (*equation.params["slice_sizes"], count)))


@_rule("dynamic_update_slice")
def _dynamic_update_slice(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    operand, update, *starts = inputs
    if any(start.laned for start in starts):
        return _mapped(equation, inputs, count)
    first = [*(start.array for start in starts), jnp.zeros_like(jnp.asarray(starts[0].array))]
    return _one(jax.lax.dynamic_update_slice(_widened(operand, count), _widened(update, count), first))


# Rows and sums of products


@_rule("gather")
def _gather(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    """Rows of lanes: the last axis is taken whole."""
    operand, indices = inputs
    numbers = equation.params["dimension_numbers"]
    if indices.laned:
        return _mapped(equation, inputs, count)
    wider = jax.lax.GatherDimensionNumbers(
        offset_dims=(*numbers.offset_dims, len(equation.outvars[0].aval.shape)),
        collapsed_slice_dims=numbers.collapsed_slice_dims,
        start_index_map=numbers.start_index_map,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.start_indices_batching_dims,
    )
    sizes = (*equation.params["slice_sizes"], count)
    return _one(_bound(equation, [operand.array, indices.array], dimension_numbers=wider, slice_sizes=sizes)[0])


@_rule("scatter", "scatter-add", "scatter_add")
def _scatter(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    operand, indices, updates = inputs
    if indices.laned:
        return _mapped(equation, inputs, count)
    numbers = equation.params["dimension_numbers"]
    wider = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(*numbers.update_window_dims, len(equation.invars[2].aval.shape)),
        inserted_window_dims=numbers.inserted_window_dims,
        scatter_dims_to_operand_dims=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        scatter_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    arrays = [_widened(operand, count), indices.array, _widened(updates, count)]
    return _one(_bound(equation, arrays, dimension_numbers=wider)[0])


@_rule("dot_general")
def _dot(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    left, right = inputs
    ((of_left, of_right), (pairs_left, pairs_right)) = equation.params["dimension_numbers"]
    if not left.laned:
        return _one(_bound(equation, [left.array, right.array], out_sharding=None)[0])
    if not right.laned:
        # Lanes are a free axis of the left: it comes before the free axes of the right.
        free = len(equation.invars[1].aval.shape) - len(of_right) - len(pairs_right)
        found = _bound(equation, [left.array, right.array], out_sharding=None)[0]
        return _one(jnp.moveaxis(found, -1 - free, -1))
    # Different matrices in every lane: products are summed lane beside lane.
    rank_left, rank_right = (len(atom.aval.shape) for atom in equation.invars)
    free_left = [axis for axis in range(rank_left) if axis not in (*of_left, *pairs_left)]
    free_right = [axis for axis in range(rank_right) if axis not in (*of_right, *pairs_right)]
    a = jnp.transpose(left.array, (*pairs_left, *free_left, *of_left, rank_left))
    b = jnp.transpose(right.array, (*pairs_right, *free_right, *of_right, rank_right))
    pairs, rows, columns = len(pairs_left), len(free_left), len(free_right)
    a = jnp.expand_dims(a, tuple(range(pairs + rows, pairs + rows + columns)))
    b = jnp.expand_dims(b, tuple(range(pairs, pairs + rows)))
    total = jnp.sum(a * b, axis=tuple(range(pairs + rows + columns, pairs + rows + columns + len(of_left))))
    return _one(total.astype(equation.outvars[0].aval.dtype))


def _one(array: Array) -> list[_Value]:
    return [_Value(array, True)]


def _chosen(where: Array, this: Array, that: Array) -> Array:
    """By lane."""
    return jax.lax.select(_spread(_Value(where, True), this.shape), this, that)


# Programs inside programs

_LONG = 16  # equations from which on a jitted function stays one
_PROGRAMS = ("pjit", "jit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp_call", "custom_vjp_call")


@_rule(*_PROGRAMS)
def _inline(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    keys = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    inner = next(equation.params[key] for key in keys if key in equation.params)
    if equation.primitive.name in ("jit", "pjit") and len(inner.jaxpr.eqns) >= _LONG and not inner.consts:
        flags = tuple(v.laned for v in inputs)
        found = _once(inner, flags, count, *(jnp.asarray(v.array) for v in inputs))
        return _values(found, _flags(inner.jaxpr, flags))
    consts = [_Value(c, False) for c in getattr(inner, "consts", ())]
    return _run(getattr(inner, "jaxpr", inner), consts, inputs, count)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _once(program: Any, flags: tuple[bool, ...], count: int, *arrays: Array) -> list[Array]:
    """A program that is called in several places, such as a model's right-hand side, is widened for the first only."""
    found = _closed(program, _values(arrays, flags), count)
    return _arrays(found, _flags(program.jaxpr, flags), count)


def _closed(program: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    return _run(program.jaxpr, [_Value(c, False) for c in program.consts], inputs, count)


def _flags(jaxpr: Any, given: Sequence[bool]) -> list[bool]:
    """Which results can differ between lanes, where these inputs do."""
    laned = {atom for atom, flag in zip(jaxpr.invars, given, strict=True) if flag}
    for equation in jaxpr.eqns:
        if any(not isinstance(atom, core.Literal) and atom in laned for atom in equation.invars):
            laned.update(equation.outvars)
    return [not isinstance(atom, core.Literal) and atom in laned for atom in jaxpr.outvars]


def _settled(step: Callable[[list[bool]], list[bool]], flags: list[bool]) -> list[bool]:
    while (new := [a or b for a, b in zip(flags, step(flags), strict=True)]) != flags:
        flags = new
    return flags


def _values(arrays: Sequence[Any], flags: Sequence[bool]) -> list[_Value]:
    return [_Value(array, flag) for array, flag in zip(arrays, flags, strict=True)]


def _arrays(values: Sequence[_Value], flags: Sequence[bool], count: int) -> list[Array]:
    return [_widened(v, count) if flag else jnp.asarray(v.array) for v, flag in zip(values, flags, strict=True)]


@_rule("while")
def _while(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    at = equation.params
    body, test = at["body_jaxpr"], at["cond_jaxpr"]
    of_test, of_body = inputs[: at["cond_nconsts"]], inputs[at["cond_nconsts"] :][: at["body_nconsts"]]
    start = inputs[at["cond_nconsts"] + at["body_nconsts"] :]
    test_flags, body_flags = [v.laned for v in of_test], [v.laned for v in of_body]
    flags = _settled(lambda flags: _flags(body.jaxpr, [*body_flags, *flags]), [v.laned for v in start])
    going = _flags(test.jaxpr, [*test_flags, *flags])[0]
    flags = [True] * len(flags) if going else flags

    def more(carry: Sequence[Array]) -> _Value:
        return _closed(test, [*of_test, *_values(carry, flags)], count)[0]

    def step(carry: Sequence[Array]) -> list[Array]:
        return _arrays(_closed(body, [*of_body, *_values(carry, flags)], count), flags, count)

    first = _arrays(start, flags, count)
    if not going:
        return _values(jax.lax.while_loop(lambda carry: more(carry).array, step, first), flags)

    def masked(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
        active, old = carry
        new = [_chosen(active, after, before) for after, before in zip(step(old), old, strict=True)]
        return active & _widened(more(new), count), new

    begin = (_widened(more(first), count), first)
    _, last = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), masked, begin)
    return _values(last, flags)


@_rule("scan")
def _scan(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    at = equation.params
    # Numbers in older JAX, trees in newer.
    sizes = (at["num_consts"], at["num_carry"]) if "num_consts" in at else [len(t) for t in at["ft_in"].unpack()]
    consts, rest = inputs[: sizes[0]], inputs[sizes[0] :]
    start, items = rest[: sizes[1]], rest[sizes[1] :]
    body, carried = at["jaxpr"], len(start)
    fixed, item_flags = [v.laned for v in consts], [v.laned for v in items]

    def after(flags: list[bool]) -> list[bool]:
        return _flags(body.jaxpr, [*fixed, *flags, *item_flags])

    flags = _settled(lambda flags: after(flags)[:carried], [v.laned for v in start])
    made = after(flags)[carried:]

    def step(carry: Sequence[Array], item: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        found = _closed(body, [*consts, *_values(carry, flags), *_values(item, item_flags)], count)
        return _arrays(found[:carried], flags, count), _arrays(found[carried:], made, count)

    how = {name: at[name] for name in ("length", "reverse", "unroll")}
    last, outputs = jax.lax.scan(step, _arrays(start, flags, count), [jnp.asarray(v.array) for v in items], **how)
    return _values([*last, *outputs], [*flags, *made])


@_rule("cond")
def _cond(equation: Any, inputs: Sequence[_Value], count: int) -> list[_Value]:
    which, *operands = inputs
    branches = equation.params["branches"]
    if which.laned:
        # All branches run; each lane keeps its own.
        found = [[_widened(v, count) for v in _closed(branch, operands, count)] for branch in branches]
        best = found[0]
        for number, cases in enumerate(found[1:], 1):
            here = which.array >= number
            best = [_chosen(here, case, before) for case, before in zip(cases, best, strict=True)]
        return [_Value(array, True) for array in best]
    operand_flags = [v.laned for v in operands]
    every = [_flags(branch.jaxpr, operand_flags) for branch in branches]
    flags = [any(column) for column in zip(*every, strict=True)]

    def chosen_branch(branch: Any) -> Callable[..., list[Array]]:
        return lambda *arrays: _arrays(_closed(branch, _values(arrays, operand_flags), count), flags, count)

    arrays = [jnp.asarray(v.array) for v in operands]
    return _values(jax.lax.switch(which.array, [chosen_branch(b) for b in branches], *arrays), flags)
