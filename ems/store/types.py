"""What the store gives back where no type of the cycle fits."""

from dataclasses import dataclass
from datetime import datetime

from ems.codec import FloatArray, IntArray
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
    source: str
    """The model that made it, or `tariff`."""
    quality: str
    """`good`, `estimated`, `cold` or `fallback`; prices: `good`, or `estimated` when some are not published yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveredSetpoint:
    """A setpoint and what became of it."""

    setpoint: Setpoint
    """What was asked."""
    delivery: Delivery | None
    """What came of it; None when nothing is known."""
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
