"""What the service counts, for Prometheus; one registry per service, none global."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters, gauges and histograms of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
            "ems_fast_loop_seconds", "Wall time of one pass of the fast loop", registry=self.registry,
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
