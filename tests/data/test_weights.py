"""The scale of weights: what each rule promises, and that a connectome's units do not matter."""

import numpy as np
import pytest

from fitting import InputError
from fitting.data import connectome, hcp_aal2, scale_weights

LABELS = ["A.L", "A.R", "B.L"]


def of(weights):
    weights = np.asarray(weights, float)
    return connectome(weights, np.where(weights > 0, 40.0, 0.0), LABELS)


DIRECTED = of([[0, 2, 4], [8, 0, 0], [1, 6, 0]])


def test_rules_do_what_they_say():
    weights = {rule: scale_weights(DIRECTED, rule).weights.values for rule in ("max", "row", "spectral", "log", "none")}
    raw = DIRECTED.weights.values
    np.testing.assert_allclose(weights["max"], raw / 8)
    np.testing.assert_allclose(weights["row"].sum(1), 1)
    assert np.abs(np.linalg.eigvals(weights["spectral"])).max() == pytest.approx(1)
    np.testing.assert_allclose(weights["log"], np.log1p(raw) / np.log(9))
    np.testing.assert_array_equal(weights["none"], raw)


@pytest.mark.parametrize("rule", ["max", "row", "spectral", "log"])
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_of_weights_do_not_matter(rule, factor):
    many = hcp_aal2(regions=12)
    other = many.assign(weights=factor * many.weights)
    np.testing.assert_allclose(scale_weights(other, rule).weights, scale_weights(many, rule).weights, rtol=1e-12)


def test_the_embedded_connectome_is_unchanged_by_the_default():
    np.testing.assert_array_equal(scale_weights(hcp_aal2()).weights, hcp_aal2().weights)


def test_what_cannot_be_scaled_gets_a_sentence():
    with pytest.raises(InputError, match="unknown rule for weights 'maximum'; choose from max, row"):
        scale_weights(DIRECTED, "maximum")
    with pytest.raises(InputError, match="without loops has spectral radius zero"):
        scale_weights(of([[0, 0, 0], [1, 0, 0], [1, 1, 0]]), "spectral")
    with pytest.raises(InputError, match="all weights are zero"):
        scale_weights(DIRECTED.assign(weights=0 * DIRECTED.weights))
