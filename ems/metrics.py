"""What the service counts, for Prometheus; one registry per service, none global."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFigures:
    """What one device counted since the service started."""

    site: str
    """The site."""
    device: str
    """Its name there."""
    failed_reads: int
    """Passes with trouble."""
    writes: int
    """Write requests sent."""
    writes_saved: int
    """Setpoints it held already."""
    refusals: int
    """Setpoints refused, by us or by the device."""
    unverified: int
    """Setpoints that reading back did not show."""
    writes_today: int
    """Register writes on this UTC day, those before a restart included."""
    budget_left: int | None
    """Writes that the register nearest to its daily budget bears now; None while none was written."""
    flags: Mapping[str, int] = field(default_factory=dict)
    """Readings flagged, by plausibility rule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFigures:
    """What happened on one endpoint since the service started."""

    endpoint: str
    """Scheme and address, without options."""
    outcomes: Mapping[str, int]
    """Requests by what came of them: answered, timeout, garbled, exception, not_sent (backing off), late."""
    connects: int
    """Connections made."""
    failed_connects: int
    """Connections refused or timed out."""


class _FieldCollector:
    """Asks devices and links when somebody scrapes, so that counting costs a pass nothing."""

    def __init__(
        self, devices: Callable[[], Iterable[DeviceFigures]], links: Callable[[], Iterable[LinkFigures]]
    ) -> None:
        self._devices, self._links = devices, links

    def collect(self) -> Iterator[Metric]:
        yield from self._of_devices()
        yield from self._of_links()

    def _of_links(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "ems_link_requests", "Requests by what came of them", labels=["endpoint", "outcome"]
        )
        connects = CounterMetricFamily(
            "ems_link_connects", "Connections tried, by outcome", labels=["endpoint", "outcome"]
        )
        for one in self._links():
            for outcome, count in one.outcomes.items():
                requests.add_metric([one.endpoint, outcome], count)
            connects.add_metric([one.endpoint, "made"], one.connects)
            connects.add_metric([one.endpoint, "failed"], one.failed_connects)
        return iter((requests, connects))

    def _of_devices(self) -> Iterator[Metric]:
        names = ["site", "device"]
        failed = CounterMetricFamily("ems_device_failed_reads", "Passes with trouble", labels=names)
        setpoints = CounterMetricFamily(
            "ems_device_setpoints", "Setpoints by what came of them at the device", labels=[*names, "outcome"]
        )
        writes = CounterMetricFamily("ems_device_writes", "Write requests sent", labels=names)
        today = GaugeMetricFamily(
            "ems_device_writes_today", "Register writes on this UTC day, restarts included", labels=names
        )
        left = GaugeMetricFamily(
            "ems_device_write_budget_left", "Writes the scarcest register bears now", labels=names
        )
        flags = CounterMetricFamily(
            "ems_device_flags", "Readings flagged, by plausibility rule", labels=[*names, "rule"]
        )
        for one in self._devices():
            labels = [one.site, one.device]
            failed.add_metric(labels, one.failed_reads)
            writes.add_metric(labels, one.writes)
            today.add_metric(labels, one.writes_today)
            if one.budget_left is not None:
                left.add_metric(labels, one.budget_left)
            for outcome, count in (
                ("saved", one.writes_saved),
                ("refused", one.refusals),
                ("unverified", one.unverified),
            ):
                setpoints.add_metric([*labels, outcome], count)
            for rule, count in one.flags.items():
                flags.add_metric([*labels, rule], count)
        return iter((failed, writes, today, left, setpoints, flags))


class Skill(Protocol):
    """How good the forecasts of one model were."""

    @property
    def series(self) -> str:
        """`load` or `pv`."""
        ...

    @property
    def source(self) -> str:
        """The model."""
        ...

    @property
    def lead_h(self) -> int:
        """End of the lead bucket [h]."""
        ...


class Metrics:
    """Counters, gauges and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # processor time, memory, open files
        self.cycles = Counter("ems_cycles_total", "Planning cycles completed", registry=self.registry)
        self.missed = Counter(
            "ems_cycles_missed_total", "Planning instants without a cycle", registry=self.registry
        )
        self.overlapped = Counter(
            "ems_cycles_overlapped_total",
            "Planning instants skipped, a cycle still ran",
            registry=self.registry,
        )
        self.failed = Counter(
            "ems_cycles_failed_total", "Cycles that ended in an error", registry=self.registry
        )
        self.cycle_seconds = Histogram(
            "ems_cycle_seconds", "Wall time of a cycle", registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )  # fmt: skip
        self.solve_seconds = Histogram(
            "ems_solve_seconds", "Time to solve one site", registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1, 5),
        )  # fmt: skip
        self.plans = Counter(
            "ems_plans_total", "Plans made, by rung of the ladder", ["source"], registry=self.registry
        )
        self.setpoints = Counter(
            "ems_setpoints_total", "Setpoints delivered, by outcome", ["outcome"], registry=self.registry
        )
        self.acknowledgements = Counter(
            "ems_acknowledgements_total",
            "Acknowledgements of building controllers on record",
            ["channel", "state"],
            registry=self.registry,
        )
        self.acknowledgements_ignored = Counter(
            "ems_acknowledgements_ignored_total",
            "Acknowledgements that changed nothing: duplicate, late, unknown, not_yours, malformed",
            ["channel", "verdict"],
            registry=self.registry,
        )
        self.unverified = Counter(
            "ems_setpoints_unverified_total",
            "Setpoints a building controller did not acknowledge in time",
            ["channel"],
            registry=self.registry,
        )
        self.controllers_away = Gauge(
            "ems_controllers_away",
            "Building controllers that cannot be reached or do not answer",
            ["channel", "trouble"],
            registry=self.registry,
        )
        self.readings = Counter(
            "ems_readings_total", "Samples read, by quality", ["quality"], registry=self.registry
        )
        self.device_troubles = Counter(
            "ems_device_troubles_total",
            "Devices that could not be read in a pass",
            ["site"],
            registry=self.registry,
        )
        self.fast_loop_seconds = Histogram(
            "ems_fast_loop_seconds", "Wall time of one look of the fast loop at a site", registry=self.registry,
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
        )  # fmt: skip
        self.last_cycle_timestamp = Gauge(
            "ems_last_cycle_timestamp_seconds", "Site time of the latest cycle", registry=self.registry
        )
        self.store_queue = Gauge("ems_store_queue", "Writes waiting for the store", registry=self.registry)
        self.leader = Gauge(
            "ems_leader",
            "1 when this instance writes to devices, 0 when it stands by",
            registry=self.registry,
        )
        self.rungs = Gauge(
            "ems_sites",
            "Sites at present, by rung of the ladder of control",
            ["rung"],
            registry=self.registry,
        )
        self.clock_jumps = Counter(
            "ems_clock_jumps_total", "Times the clock was set, or the machine slept", registry=self.registry
        )
        by_model = ["series", "model", "lead_h"]
        self.forecast_error_ratio = Gauge(
            "ems_forecast_error_ratio",
            "Absolute error of forecasts of the last four weeks over that of the 7-day mean",
            by_model,
            registry=self.registry,
        )
        self.forecast_pinball_ratio = Gauge(
            "ems_forecast_pinball_ratio",
            "Pinball loss of forecasts of the last four weeks over that of the 7-day mean",
            by_model,
            registry=self.registry,
        )
        self.forecast_bias = Gauge(
            "ems_forecast_bias_fraction",
            "Mean error of forecasts over mean level; positive: too high",
            by_model,
            registry=self.registry,
        )
        self.forecast_coverage = Gauge(
            "ems_forecast_coverage_fraction",
            "Share of truths inside the 80 % band",
            by_model,
            registry=self.registry,
        )
        self.forecast_drifting = Gauge(
            "ems_forecast_drifting_sites",
            "Sites whose ways have changed, forecast by a simpler model",
            ["series"],
            registry=self.registry,
        )
        self.weather_age_seconds = Gauge(
            "ems_weather_age_seconds",
            "Age of the oldest weather forecast in use; +Inf as long as a place has none",
            registry=self.registry,
        )

    def tell_skill(self, scores: Sequence[Skill]) -> None:
        """Set the gauges of forecasts anew; a model that serves no site any more is not told of."""
        told = (
            (self.forecast_error_ratio, "error_ratio"),
            (self.forecast_pinball_ratio, "pinball_ratio"),
            (self.forecast_bias, "bias_frac"),
            (self.forecast_coverage, "coverage_frac"),
        )
        for gauge, name in told:
            gauge.clear()
            for score in scores:
                value = getattr(score, name)
                if value is not None:
                    gauge.labels(series=score.series, model=score.source, lead_h=str(score.lead_h)).set(value)

    def watch(
        self, devices: Callable[[], Iterable[DeviceFigures]], links: Callable[[], Iterable[LinkFigures]]
    ) -> None:
        """Show what devices and links counted; asked at every scrape."""
        self.registry.register(_FieldCollector(devices, links))
