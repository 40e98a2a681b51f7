"""What `ems forecast` does once its arguments are read: one forecast per series, or its rolling-origin skill."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from rich.table import Table

from ems.codec import FloatArray
from ems.errors import DataError
from ems.foresight import site_context
from ems.recorded import Recording
from ems.site import Site
from forecasting import (
    BacktestReport,
    ForecastingError,
    History,
    LoadForecaster,
    SolarForecaster,
    Weather,
    backtest_report,
    write_backtest_svg,
)

LEAD_HOURS = (1.0, 2.0, 4.0, 8.0, 24.0)
WARM_UP_DAYS = 28


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedForecast:
    """One forecast as `ems forecast` prints it."""

    series: str
    """`<site>.load_kw` or `<site>.pv_kw`."""
    issued_at: datetime
    """Nothing known later went in (aware UTC)."""
    start_at: datetime
    """Start of the first interval (aware UTC)."""
    step_min: int
    """Interval length [min]."""
    source: str
    """The model."""
    quality: str
    """How far to trust it."""
    mean_kw: list[float]
    """Expected power per interval [kW]."""
    low_kw: list[float]
    """10 % quantile [kW]."""
    high_kw: list[float]
    """90 % quantile [kW]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeadRow:
    """One model on one series so many hours ahead, issued every hour of the test days."""

    lead_h: float
    """The hour up to this far ahead [h]."""
    nmae_frac: float
    """Mean absolute error over mean level."""
    rmse_kw: float
    """Root mean squared error [kW]."""
    bias_kw: float
    """Mean of forecast less truth [kW]."""
    pinball_kw: float
    """Mean pinball loss over nine levels [kW]."""
    pinball_ratio: float
    """The same over that of the 7-day mean."""
    coverage_frac: float
    """Share of truths inside the 80 % band."""
    mae_ratios: dict[str, float]
    """Mean absolute error over that of yesterday, of last week and of the 7-day mean, on the same intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkillRow:
    """One model on one series over the test days."""

    model: str
    """Its name."""
    nmae_frac: float
    """Mean absolute error over mean level."""
    mae_ratio: float
    """Mean absolute error over that of the 7-day mean."""
    rmse_kw: float
    """Root mean squared error [kW]."""
    bias_kw: float
    """Mean of forecast less truth [kW]."""
    pinball_kw: float
    """Mean pinball loss over nine levels [kW]."""
    pinball_ratio: float
    """The same over that of the 7-day mean."""
    coverage_frac: float
    """Share of truths inside the 80 % band."""
    by_lead: list[LeadRow]
    """The same by hours ahead, corrected within the day; empty for yardsticks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesSkill:
    """The skill of every model on one series."""

    series: str
    """`<site>.load_kw` or `<site>.pv_kw`."""
    test_days: int
    """Days forecast, each issued at local midnight."""
    first_at: datetime
    """First issue (aware UTC)."""
    last_at: datetime
    """Last issue (aware UTC)."""
    rows: list[SkillRow]
    """Yardsticks first, then the service's model."""


def forecast_sites(
    sites: Sequence[Site], recording: Recording, *, at: datetime | None, hours: float
) -> tuple[IssuedForecast, ...]:
    """Issue one forecast per series, knowing only what the recording holds before `at`."""
    made = []
    for name, history, weather, model in _series(sites, recording):
        issued_at = history.end_at if at is None else at
        known = history.until(issued_at)
        if not len(known):
            raise DataError(
                f"--at {issued_at.isoformat()}: nothing is recorded before it; choose a later instant"
            )
        horizon = max(1, round(timedelta(hours=hours) / history.step))
        forecast = model.fit(known, weather=weather).predict(
            issued_at, horizon, recent=known, weather=weather
        )
        made.append(
            IssuedForecast(
                series=name,
                issued_at=issued_at,
                start_at=forecast.start_at,
                step_min=int(history.step.total_seconds()) // 60,
                source=forecast.source,
                quality=str(forecast.quality),
                mean_kw=_rounded(forecast.mean_kw),
                low_kw=_rounded(forecast.quantile(0.1)),
                high_kw=_rounded(forecast.quantile(0.9)),
            )
        )
    return tuple(made)


def backtest_sites(
    sites: Sequence[Site],
    recording: Recording,
    *,
    test_days: int | None,
    chart: Path | None,
    progress: Callable[[int], None],
) -> tuple[SeriesSkill, ...]:
    """Score the service's models beside yesterday, last week and the 7-day mean; `progress` gets percent.

    With `chart`, one SVG is written per series, its name added to the file's.
    """
    found = list(_series(sites, recording))
    skills = []
    for index, (name, history, weather, model) in enumerate(found):

        def tell(done: int, total: int, before: int = index) -> None:
            progress(round(100 * (before + done / max(1, total)) / len(found)))

        try:
            report = backtest_report(
                history,
                {"model": model},
                context=model.context,
                test_days=test_days,
                warm_up_days=min(WARM_UP_DAYS, max(7, len(history) // history.steps_per_day // 2)),
                lead_hours=LEAD_HOURS,
                weather=weather,
                progress=tell,
            )
        except ForecastingError as error:
            raise DataError(f"{name}: {error}") from error
        if chart is not None:
            path = chart if len(found) == 1 else chart.with_name(f"{chart.stem}-{name}{chart.suffix}")
            write_backtest_svg(report, path, title=name)
        skills.append(_skill(name, report))
    return tuple(skills)


def forecast_table(made: Sequence[IssuedForecast]) -> Table:
    """Return forecasts as a table, one row per interval."""
    table = Table(title=f"issued at {made[0].issued_at.isoformat(timespec='minutes')}")
    table.add_column("from")
    for one in made:
        table.add_column(f"{one.series}\n{one.source}, {one.quality}", justify="right")
    for index in range(len(made[0].mean_kw)):
        start_at = made[0].start_at + index * timedelta(minutes=made[0].step_min)
        cells = [
            f"{one.mean_kw[index]:.2f} ({one.low_kw[index]:.2f} .. {one.high_kw[index]:.2f})" for one in made
        ]
        table.add_row(start_at.isoformat(timespec="minutes"), *cells)
    return table


def backtest_table(skills: Sequence[SeriesSkill]) -> Table:
    """Return the skill of every model as a table."""
    table = Table(title=f"day-ahead, issued at local midnight, {skills[0].test_days} test days")
    for column in (
        "series",
        "model",
        "nMAE",
        "/ 7-day",
        "RMSE kW",
        "bias kW",
        "pinball kW",
        "/ 7-day",
        "80 % band",
    ):
        table.add_column(column, justify="left" if column in ("series", "model") else "right")
    for skill in skills:
        for row in skill.rows:
            table.add_row(
                skill.series,
                row.model,
                f"{row.nmae_frac:.1%}",
                f"{row.mae_ratio:.3f}",
                f"{row.rmse_kw:.3f}",
                f"{row.bias_kw:+.3f}",
                f"{row.pinball_kw:.4f}",
                f"{row.pinball_ratio:.3f}",
                f"{row.coverage_frac:.1%}",
            )
    return table


def horizon_table(skills: Sequence[SeriesSkill]) -> Table:
    """Return the skill of the service's models by hours ahead as a table."""
    table = Table(title="by hours ahead, issued every hour; errors over those of the yardsticks")
    columns = ("series", "ahead", "nMAE", "RMSE kW", "bias kW", "pinball kW", "80 % band")
    yardsticks = ("yesterday", "last-week", "mean-7d")
    for column in (*columns, *(f"/ {name}" for name in yardsticks)):
        table.add_column(column, justify="left" if column == "series" else "right")
    for skill in skills:
        for row in skill.rows:
            for lead in row.by_lead:
                table.add_row(
                    skill.series,
                    f"{lead.lead_h:g} h",
                    f"{lead.nmae_frac:.1%}",
                    f"{lead.rmse_kw:.3f}",
                    f"{lead.bias_kw:+.3f}",
                    f"{lead.pinball_kw:.4f}",
                    f"{lead.coverage_frac:.1%}",
                    *(f"{lead.mae_ratios[name]:.3f}" for name in yardsticks),
                )
    return table


def _series(
    sites: Sequence[Site], recording: Recording
) -> Iterator[tuple[str, History, Weather | None, LoadForecaster | SolarForecaster]]:
    """Yield every series of the sites that was recorded, with an unfitted model for it."""
    weather = _weather(recording)
    found = False
    for site in sites:
        makers: tuple[tuple[str, type[LoadForecaster] | type[SolarForecaster]], ...] = (
            ("load_kw", LoadForecaster),
            ("pv_kw", SolarForecaster),
        )
        for quantity, make in makers:
            values = recording.column(f"{site.id}.{quantity}")
            if values is None and len(sites) == 1:
                values = recording.column(quantity)
            if values is None or (quantity == "pv_kw" and not site.pvs):
                continue
            found = True
            history = History(start_at=recording.start_at, step=recording.step, values=values)
            yield f"{site.id}.{quantity}", history, weather, make(site_context(site))
    if not found:
        raise DataError("the recording has no load_kw or pv_kw of these sites; name columns <site>.load_kw")


def _weather(recording: Recording) -> Weather | None:
    outdoor_degc = recording.column("outdoor_degc")
    ghi_w_m2 = recording.column("ghi_w_m2")
    if outdoor_degc is None and ghi_w_m2 is None:
        return None
    return Weather(
        start_at=recording.start_at,
        step=recording.step,
        outdoor_degc=outdoor_degc,
        ghi_w_m2=ghi_w_m2,
        source="recording",
    )


def _skill(name: str, report: BacktestReport) -> SeriesSkill:
    return SeriesSkill(
        series=name,
        test_days=report.test_days,
        first_at=report.first_at,
        last_at=report.last_at,
        rows=[
            SkillRow(
                model=model.name,
                nmae_frac=model.overall.nmae_frac,
                mae_ratio=model.mae_ratio,
                rmse_kw=model.overall.rmse,
                bias_kw=model.overall.bias,
                pinball_kw=model.overall.pinball,
                pinball_ratio=model.pinball_ratio,
                coverage_frac=model.overall.coverage_frac,
                by_lead=[
                    LeadRow(
                        lead_h=lead.to_h,
                        nmae_frac=lead.scores.nmae_frac,
                        rmse_kw=lead.scores.rmse,
                        bias_kw=lead.scores.bias,
                        pinball_kw=lead.scores.pinball,
                        pinball_ratio=lead.pinball_ratio,
                        coverage_frac=lead.scores.coverage_frac,
                        mae_ratios=dict(lead.mae_ratios),
                    )
                    for lead in model.per_lead
                ],
            )
            for model in report.models
        ],
    )


def _rounded(power_kw: FloatArray) -> list[float]:
    rounded: list[float] = np.round(power_kw, 4).tolist()
    return rounded
