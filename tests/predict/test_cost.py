"""Costs that are foretold, against those of the compiled program."""

import jax
import pytest
from problems import network_of

from fitting.predict import measured_cost, simulation_cost


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True])
def test_memory_is_foretold_within_a_factor_of_two(gradient, directed):
    """Of what the compiled program holds."""
    network = network_of(*directed, drive=0.7)
    told = simulation_cost(network, duration=20_000.0, dt=0.5, gradient=gradient)
    compiled = measured_cost(network, duration=20_000.0, dt=0.5, gradient=gradient)
    assert 0.5 < told.bytes / compiled.bytes < 2
    # Twice the steps are twice the memory, foretold and compiled.
    assert simulation_cost(network, duration=40_000.0, dt=0.5, gradient=gradient).bytes == 2 * told.bytes


def test_numbers_of_64_bits_need_twice_the_memory(directed, float32):
    network = network_of(*directed)
    narrow = simulation_cost(network, duration=20_000.0, dt=0.5).bytes
    jax.config.update("jax_enable_x64", True)
    assert simulation_cost(network, duration=20_000.0, dt=0.5).bytes == 2 * narrow


def test_costs_read_as_words(directed):
    cost = simulation_cost(network_of(*directed), duration=20_000.0, dt=0.5)
    assert str(cost._replace(seconds=1.25, bytes=12_345_678)) == "12 MB, about 1.2 s"
