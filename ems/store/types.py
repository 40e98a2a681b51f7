"""What the store gives back where no type of the cycle fits."""

from dataclasses import dataclass, fields, replace
from datetime import datetime

from ems.codec import FloatArray, IntArray
from ems.conduct import DeliveryScore
from ems.messages import Acknowledgement
from ems.publishing import Delivery
from ems.readings import Quality
from ems.setpoints import Setpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleRow:
    """One cycle in figures; the whole is its record."""

    at: datetime
    """Start of the first planned interval (aware UTC)."""
    took_ms: float
    """Wall time of the whole cycle [ms]."""
    missed: int
    """Planning instants since the previous cycle at which none ran."""
    overlapped: int
    """Planning instants skipped because a cycle was still running."""
    n_sites: int
    """Sites in the batch."""
    n_fallback: int
    """Sites whose plan is not an optimal one."""
    n_troubles: int
    """Devices that could not be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSample:
    """One kept value of one quantity."""

    at: datetime
    """Instant of the pass, or start of the interval when `span_s` > 0 (aware UTC)."""
    span_s: int
    """0 for a value as read; else the length of the interval it is the mean of [s] (counters: the last value)."""
    value: float | None
    """In the unit of the series; None is absent, never 0."""
    quality: Quality
    """Trust in it; a mean is as good as the worst value that went in."""
    measured_at: datetime
    """When the device's answer arrived (aware UTC)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSeries:
    """Kept values of one quantity of one site, in order of time."""

    site_id: str
    """The site."""
    key: str
    """`device.quantity`, e.g. `meter.net_import_kw`."""
    unit: str
    """Unit of the values; empty when there are none."""
    samples: tuple[StoredSample, ...]
    """Oldest first."""
    complete: bool
    """False when the limit cut the answer; ask again from the last `at`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredForecast:
    """One issued forecast of one series."""

    site_id: str
    """The site."""
    series: str
    """`load`, `pv.<asset>`, `buy` or `sell`."""
    unit: str
    """`kW`, or `1/kWh` for prices."""
    issued_at: datetime
    """Nothing known later went in (aware UTC)."""
    starts_s: IntArray
    """Interval starts [epoch s], shape (T,)."""
    step_s: int
    """Interval length [s]."""
    mean: FloatArray
    """Expected value, shape (T,); kept in single precision (7 digits), exact in the cycle record."""
    low: FloatArray | None
    """10 % quantile, shape (T,); None for prices."""
    high: FloatArray | None
    """90 % quantile, shape (T,); None for prices."""
    median: FloatArray | None
    """50 % quantile, shape (T,); None for prices and where it was not kept."""
    source: str
    """The model that made it, or `tariff`."""
    quality: str
    """`good`, `estimated`, `cold` or `fallback`; prices: `good`, or `estimated` when some are not published yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastScore:
    """How forecasts of one series came out, as sums: scores of several days add up to the score of them all.

    One forecast of one interval is one *pair*. The pinball loss is the mean over the levels 0.1, 0.5 and 0.9. `naive` is
    the mean of the same local time of the seven days before, judged on the pairs where it is known.
    """

    series: str
    """`load` or `pv` (all roofs together)."""
    source: str
    """The model that made the forecasts."""
    lead_h: int
    """Intervals that begin less than this many hours after the issue, and not less than the bucket before [h]."""
    scored: int
    """Pairs."""
    truth_kw: float
    """Sum of what was measured [kW]."""
    size_kw: float
    """Sum of the mean of measured and median, both without sign [kW]: what losses of a day are held against."""
    error_kw: float
    """Sum of the expected path less the truth [kW]."""
    abs_error_kw: float
    """Sum of the errors of the median without sign [kW]."""
    squared_error_kw2: float
    """Sum of the squared errors of the expected path [kW2]."""
    pinball_kw: float
    """Sum of the pinball losses [kW]."""
    banded: int
    """Pairs with a band of any width: not the night of a roof."""
    inside: int
    """Of these, how many truths lay in the 80 % band."""
    compared: int
    """Pairs for which the naive forecast is known."""
    compared_abs_error_kw: float
    """`abs_error_kw` over these [kW]."""
    naive_abs_error_kw: float
    """The same of the naive forecast [kW]."""
    compared_pinball_kw: float
    """`pinball_kw` over these [kW]."""
    naive_pinball_kw: float
    """The same of the naive forecast's seven values [kW]."""

    def __add__(self, other: "ForecastScore") -> "ForecastScore":
        """Return the score of both together."""
        same = ("series", "source", "lead_h")
        sums = [field.name for field in fields(self) if field.name not in same]
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in sums})

    @property
    def nmae_frac(self) -> float | None:
        """Mean absolute error over mean level; None where nothing flowed."""
        return _ratio(self.abs_error_kw, self.truth_kw)

    @property
    def bias_frac(self) -> float | None:
        """Mean error over mean level; positive: forecast too high."""
        return _ratio(self.error_kw, self.truth_kw)

    @property
    def rmse_kw(self) -> float | None:
        """Root mean squared error [kW]."""
        mean = _ratio(self.squared_error_kw2, self.scored)
        return None if mean is None else mean**0.5

    @property
    def mean_pinball_kw(self) -> float | None:
        """Mean pinball loss [kW]."""
        return _ratio(self.pinball_kw, self.scored)

    @property
    def coverage_frac(self) -> float | None:
        """Share of truths inside the 80 % band."""
        return _ratio(self.inside, self.banded)

    @property
    def error_ratio(self) -> float | None:
        """Absolute error over that of the 7-day mean; below 1 the model is better."""
        return _ratio(self.compared_abs_error_kw, self.naive_abs_error_kw)

    @property
    def pinball_ratio(self) -> float | None:
        """Pinball loss over that of the 7-day mean; below 1 the model is better."""
        return _ratio(self.compared_pinball_kw, self.naive_pinball_kw)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredDay:
    """How the forecasts of one local day of one site came out."""

    site_id: str
    """The site."""
    day_at: datetime
    """First instant of the local day (aware UTC)."""
    score: ForecastScore
    """The sums."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DayLoss:
    """Loss of one series of one site on one local day: what an alarm for drift rests on."""

    site_id: str
    """The site."""
    series: str
    """`load` or `pv`."""
    day_at: datetime
    """First instant of the local day (aware UTC)."""
    loss: float
    """Pinball loss over the mean of what was forecast and measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """One version of a fitted forecast model."""

    kind: str
    """`load` or `solar`."""
    fitted_at: datetime
    """When (aware UTC)."""
    body: bytes
    """What `forecasting.dump_model` wrote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveredSetpoint:
    """A setpoint and what became of it."""

    setpoint: Setpoint
    """What was asked."""
    delivery: Delivery | None
    """What came of it; None when nothing is known."""
    score: DeliveryScore | None = None
    """How it was followed; None while it is in force and where that could not be said."""
    acknowledgements: tuple[Acknowledgement, ...] = ()
    """What building controllers said about it, in order of arrival."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSums:
    """Energy and money of one site between two instants. A sum is None when no interval of it is known."""

    site_id: str
    """The site."""
    start_at: datetime
    """First instant (aware UTC)."""
    end_at: datetime
    """End, exclusive (aware UTC)."""
    intervals: int
    """Intervals on record."""
    intervals_priced: int
    """Intervals whose cost and idle cost are both known: what `saving` rests on."""
    import_kwh: float | None
    """Drawn from the grid [kWh]."""
    export_kwh: float | None
    """Fed into the grid [kWh]."""
    load_kwh: float | None
    """Household load without storage and vehicle [kWh]."""
    pv_kwh: float | None
    """Solar energy delivered [kWh]."""
    charged_kwh: float | None
    """Drawn by batteries [kWh]."""
    discharged_kwh: float | None
    """Given by batteries [kWh]."""
    vehicle_kwh: float | None
    """Drawn by vehicles [kWh]."""
    cost: float | None
    """Paid, in the site's currency; income is negative."""
    cost_idle: float | None
    """The same with storage idle."""
    saving: float | None
    """`cost_idle` - `cost` over the priced intervals, in the site's currency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPvHistory:
    """Measured load and solar of many sites on one grid: what forecasts learn from."""

    site_ids: tuple[str, ...]
    """Rows, in the order asked for."""
    start_at: datetime
    """Start of the first interval (aware UTC)."""
    step_s: int
    """Interval length [s]."""
    load_kw: FloatArray
    """Mean household load [kW], shape (S, T); nan is missing."""
    pv_kw: FloatArray
    """Mean solar power delivered [kW], shape (S, T); nan is missing."""
    curtailed: IntArray
    """1 where solar was held back, shape (S, T)."""
    quality: IntArray
    """Worst quality in the interval, shape (S, T): 3 good, 2 estimated, 1 stale, 0 bad or missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """How long what is kept [days]."""

    readings_days: float = 14
    """Readings as read; older ones become interval means."""
    mean_step_s: int = 900
    """Interval of those means [s]."""
    means_days: float = 400
    """Interval means of readings."""
    accounts_days: float = 1100
    """Interval accounts: three years and a bill."""
    forecasts_days: float = 7
    """Issued forecasts."""
    scores_days: float = 120
    """Scores of forecasts, by site and local day."""
    plans_days: float = 7
    """Plans."""
    records_days: float = 3
    """Cycle records, from which a cycle can be replayed; plans stay two days longer than these."""
    setpoints_days: float = 14
    """Setpoints, their deliveries and acknowledgements."""
    cycles_days: float = 400
    """Cycles in figures."""
    edges_days: float = 400
    """Edges."""
    orders_days: float = 400
    """Orders after their end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What one pass of retention removed."""

    readings: int
    """Readings replaced by means."""
    means_made: int
    """Interval means made of them."""
    means: int
    """Interval means removed."""
    accounts: int
    """Interval accounts removed."""
    forecasts: int
    """Forecasts removed."""
    scores: int
    """Scores of forecasts removed."""
    plans: int
    """Plans removed."""
    records: int
    """Parts of cycle records removed."""
    setpoints: int
    """Setpoints, deliveries and acknowledgements removed."""
    cycles: int
    """Cycles removed."""
    edges: int
    """Edges removed."""
    orders: int
    """Orders removed."""
    freed_bytes: int
    """Given back to the file system; a steady file reuses its pages and gives back none."""


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
