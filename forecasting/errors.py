"""What forecasting refuses, as one small tree.

ForecastingError
├── BrokenSeries      a series, grid or level that cannot mean anything
├── NotFitted         a prediction asked of a model that has not been fitted
└── UnsafeModel       a stored model that is damaged or of another format
"""


class ForecastingError(Exception):
    """Root of every error this package raises on purpose."""


class BrokenSeries(ForecastingError, ValueError):
    """A series, grid or level that cannot mean anything; the message names field and value."""


class NotFitted(ForecastingError, RuntimeError):
    """A prediction was asked of a model that has not been fitted."""


class UnsafeModel(ForecastingError, ValueError):
    """A stored model is damaged, of another kind, or of a newer format."""
