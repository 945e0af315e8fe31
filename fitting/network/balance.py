"""Inhibition that gives every region the same mean activity: the steady state of inhibitory plasticity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fitting.inverse import eliminate

#: Steps in which the other variables follow the coupled one, and their length in ms.
STEPS, PACE = 200, 5.0

#: A weight is looked for between its default divided and multiplied by this, in so many halvings, so many times over.
RANGE, HALVINGS, ROUNDS = 1e3, 60, 2


def balanced(
    move: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], dict[str, Any]],
    variables: tuple[str, ...],
    coupled: str,
    weight: str,
    parameters: Mapping[str, Float[Array, " region"]],
    current: Float[Array, " region"],
    start: Mapping[str, Float[Array, " region"]],
) -> Float[Array, " region"]:
    r"""The weight of inhibition in every region with which its activity is what it should be.

    If the coupled variable is at its target in every region, the input of each is known, and regions can be solved one
    by one: for the other variables and the weight :math:`w_i` at which the node's step changes nothing. This is the
    steady state of the plasticity :math:`\dot w_i = \eta\, I_i (E_i - \rho_i)`.

    Parameters
    ----------
    move : callable
        State after a step of the node without noise: of a state, its input and its parameters.
    variables : tuple of str
        Of the node.
    coupled, weight : str
        The variable that is to be at its target, and the parameter that is looked for.
    parameters : mapping
        By region; ``excitation`` is the target, and the default of ``weight`` is where the search begins.
    current : array (region,)
        Input to every node with all regions at their target.
    start : mapping
        Where the other variables begin.

    Returns
    -------
    array (region,)
        Differentiable by the implicit function. NaN where no weight within a thousandth and a thousand times the
        default will do.

    References
    ----------
    The plasticity: Vogels, Sprekeler, Zenke, Clopath and Gerstner, Science 334, 2011, 1569-1573. Whole-brain networks
    that it balances: Hellyer, Jachs, Clopath and Leech, NeuroImage 124, 2016, 85-95; Abeysuriya et al., PLOS
    Computational Biology 14, 2018, e1006007.
    """
    target, index = parameters["excitation"], variables.index(coupled)

    def change(y):
        """Of every variable in a step; the weight stands in the place of the coupled variable."""
        state = dict(zip(variables, y.T, strict=True)) | {coupled: target}
        new = move(state, current, {**parameters, weight: y[:, index]})
        return jnp.stack([new[name] - state[name] for name in variables], axis=1)

    def follow(y):
        def advance(_, y):
            return jnp.where(jnp.arange(len(variables)) == index, y, y + change(y))

        return lax.fori_loop(0, STEPS, advance, y)

    def halve(y):
        """The weight at which the coupled variable stands still: more inhibition lowers it."""
        default = parameters[weight]

        def closer(_, ends):
            low, high = ends
            middle = (low + high) / 2
            rises = change(y.at[:, index].set(default * jnp.exp(middle)))[:, index] > 0
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        far = jnp.full_like(default, jnp.log(RANGE))
        low, high = lax.fori_loop(0, HALVINGS, closer, (-far, far))
        return y.at[:, index].set(default * jnp.exp((low + high) / 2))

    def solve(_, y):
        return lax.fori_loop(0, ROUNDS, lambda _, y: halve(follow(y)), y)

    def tangent_solve(tangent, y):
        # Regions do not mix: one direction at a time serves all of them.
        directions = jnp.eye(y.shape[1], dtype=y.dtype)
        columns = jax.vmap(lambda direction: tangent(jnp.broadcast_to(direction, y.shape)))(directions)
        return jnp.einsum("rij,rj->ri", eliminate(jnp.moveaxis(columns, 0, -1)), y, precision=lax.Precision.HIGHEST)

    guess = jnp.stack([parameters[weight] if name == coupled else start[name] for name in variables], axis=1)
    solution = lax.custom_root(change, lax.stop_gradient(guess), solve, tangent_solve)
    size = jnp.log(jnp.abs(solution[:, index]) / parameters[weight])
    return jnp.where(jnp.abs(size) < 0.999 * jnp.log(RANGE), solution[:, index], jnp.nan)
