"""The correction within the day: what the last errors say of the next ones."""

from __future__ import annotations

import numpy as np

from forecasting import FloatArray
from forecasting.design import Design
from forecasting.slotmodel import SlotModel, fit_slot_model, intraday_signals

DAYS, SLOTS, STEP_H = 60, 96, 0.25
LASTING = 0.9


def lasting_errors(rng: np.random.Generator) -> FloatArray:
    """Errors that lose a tenth of themselves each quarter hour, shape (1, days x slots)."""
    errors = np.zeros(DAYS * SLOTS)
    for at in range(1, len(errors)):
        errors[at] = LASTING * errors[at - 1] + 0.1 * rng.standard_normal()
    return errors[None]


def fitted(errors: FloatArray) -> SlotModel:
    z = errors.reshape(1, DAYS, SLOTS)
    nothing_known = Design(base=np.zeros(z.shape), x=np.zeros((*z.shape, 1)))
    return fit_slot_model(nothing_known, z, np.ones(z.shape), step_h=STEP_H)


def expected_error(model: SlotModel, recent: FloatArray, *, lead: int = 0) -> float:
    return float(model.lead_coefficients[0, lead] @ intraday_signals(recent, STEP_H)[0])


def test_the_last_quarter_hour_counts_more_than_the_hour_it_ends() -> None:
    model = fitted(lasting_errors(np.random.default_rng(1)))
    rising, falling = np.zeros((1, SLOTS)), np.zeros((1, SLOTS))
    rising[0, -4:] = 0.1, 0.2, 0.3, 0.4
    falling[0, -4:] = 0.4, 0.3, 0.2, 0.1
    assert expected_error(model, rising) > 0.9 * LASTING * 0.4
    assert expected_error(model, falling) < 1.1 * LASTING * 0.1 + 0.02
    assert 0.0 < expected_error(model, rising, lead=8) < 0.7 * expected_error(model, rising)
