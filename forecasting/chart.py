"""A backtest as one SVG picture: the last test week with its band, and every model's error.

Written by hand: a bar chart and three paths do not earn a plotting dependency, and the file is text that
any browser shows and any diff reads.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from forecasting.backtest import BacktestReport, LastWeek
from forecasting.types import FloatArray

_WIDTH, _LEFT, _PLOT = 960, 70, 860
_TOP, _HEIGHT = 50, 260
_BAR = 26


def backtest_svg(report: BacktestReport, *, title: str, unit: str = "kW") -> str:
    """Draw the report; returns the text of an SVG file."""
    bars_top = _TOP + _HEIGHT + 90
    height = bars_top + _BAR * len(report.models) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="28" font-size="17">{escape(title)}</text>',
        *_week(report.last_week, unit),
        f'<text x="{_LEFT}" y="{bars_top - 14}">Mean absolute error against the 7-day mean '
        f"({report.test_days} test days); coverage of the outer band in brackets</text>",
        *_bars(report, bars_top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def write_backtest_svg(report: BacktestReport, path: Path, *, title: str, unit: str = "kW") -> None:
    """Write the picture to a file."""
    path.write_text(backtest_svg(report, title=title, unit=unit), encoding="utf-8")


def _week(week: LastWeek, unit: str) -> list[str]:
    known = np.concatenate([week.truth, week.high])
    known = known[np.isfinite(known)]
    lowest = np.concatenate([week.truth, week.low, [0.0]])
    bottom = float(np.nanmin(lowest))
    top = float(known.max()) if len(known) else 1.0
    top = top if top > bottom else bottom + 1.0
    count = len(week.truth)
    x = _LEFT + _PLOT * (np.arange(count) + 0.5) / max(count, 1)

    def y(values: FloatArray) -> FloatArray:
        return np.asarray(_TOP + _HEIGHT * (1.0 - (values - bottom) / (top - bottom)))

    band = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y(week.high), strict=True) if np.isfinite(b)]
    band += [f"{a:.1f},{b:.1f}" for a, b in zip(x[::-1], y(week.low)[::-1], strict=True) if np.isfinite(b)]
    per_day = max(round(86_400 / week.step.total_seconds()), 1)
    lines = []
    for index in range(0, count, per_day):
        at = week.start_at + index * week.step
        place = _LEFT + _PLOT * index / max(count, 1)
        lines.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#dddddd"/>'
        )
        lines.append(f'<text x="{place + 4:.1f}" y="{_TOP + _HEIGHT + 18}">{at:%Y-%m-%d %H:%M} UTC</text>'
                     if index % (2 * per_day) == 0 else "")  # fmt: skip
    for value in np.linspace(bottom, top, 5):
        lines.append(
            f'<text x="{_LEFT - 8}" y="{float(y(np.array(value))):.1f}" text-anchor="end">{value:.2f}</text>'
        )
    return [
        *lines,
        f'<text x="{_LEFT}" y="{_TOP - 6}" fill="#444444">last test week [{escape(unit)}]: measured (black), '
        "median forecast (blue), band (light blue)</text>",
        f'<polygon points="{" ".join(band)}" fill="#bcd9f5" stroke="none"/>',
        _path(x, y(week.median), "#1767b3"),
        _path(x, y(week.truth), "#222222"),
    ]


def _path(x: FloatArray, y: FloatArray, colour: str) -> str:
    """A line that breaks where a value is missing."""
    steps, pen_up = [], True
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            pen_up = True
            continue
        steps.append(f"{'M' if pen_up else 'L'}{a:.1f} {b:.1f}")
        pen_up = False
    return f'<path d="{" ".join(steps)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _bars(report: BacktestReport, top: int) -> list[str]:
    widest = max((m.mae_ratio for m in report.models if np.isfinite(m.mae_ratio)), default=1.0)
    parts = []
    for row, model in enumerate(report.models):
        at = top + row * _BAR
        ratio = model.mae_ratio if np.isfinite(model.mae_ratio) else 0.0
        width = 480 * ratio / max(widest, 1e-9)
        parts.append(f'<text x="{_LEFT + 110}" y="{at + 16}" text-anchor="end">{escape(model.name)}</text>')
        parts.append(f'<rect x="{_LEFT + 120}" y="{at + 3}" width="{width:.1f}" height="18" fill="#5b9bd5"/>')
        covered = model.overall.coverage_frac
        told = f"{covered:.0%}" if np.isfinite(covered) else "no band"
        parts.append(
            f'<text x="{_LEFT + 128 + width:.1f}" y="{at + 17}">{model.mae_ratio:.3f} ({told})</text>'
        )
    return parts
