"""Two kinds of plots as inline SVG: bars and curves. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import count

WIDTH = 420
LABEL, VALUE = 84, 80
"""Room for texts on the left and on the right of bars."""

BAR = 22
CURVE_HEIGHT = 250
MARGIN = 50

_ids = count(1)


def bars(title: str, rows: Sequence[tuple[str, float, str]], *, logarithmic: bool = False) -> str:
    """Horizontal bars.

    Args:
        title: Also what a screen reader says.
        rows: Of each its label, its value (0 or more), and the value as text.
        logarithmic: Bars grow by powers of ten, from a tenth of the least value that is not 0.
    """
    values = [value for _, value, _ in rows if value > 0]
    least, most = (min(values) / 10, max(values)) if values else (0.0, 1.0)
    room = WIDTH - LABEL - VALUE
    parts = []
    for number, (label, value, text) in enumerate(rows):
        if value <= 0:
            part = 0.0
        elif logarithmic:
            part = math.log(value / least) / math.log(most / least)
        else:
            part = value / most
        top = number * (BAR + 8)
        parts.append(
            f'<text x="{LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(label)}</text>'
            f'<rect class="c0" x="{LABEL}" y="{top}" width="{max(1.0, part * room):.1f}" height="{BAR}" rx="2"/>'
            f'<text x="{LABEL + part * room + 6:.1f}" y="{top + 16}">{escape(text)}</text>'
        )
    told = "; ".join(f"{label}: {text}" for label, _, text in rows)
    return _figure(title, told, len(rows) * (BAR + 8), "".join(parts))


def shares(title: str, unit: str, series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """For each series the share of its values up to each value: one curve each.

    Args:
        title: Also what a screen reader says.
        unit: Of the values.
        series: Of each its name and its values, in any order.
    """
    series = [(name, sorted(values)) for name, values in series if values]
    # The last hundredth would squeeze everything else.
    most = max((values[int(0.99 * (len(values) - 1))] for _, values in series), default=1.0) or 1.0
    wide, high = WIDTH - 2 * MARGIN, CURVE_HEIGHT - 2 * MARGIN
    parts = []
    for step in range(5):
        y, x, value = MARGIN + high * (1 - step / 4), MARGIN + wide * step / 4, most * step / 4
        parts.append(
            f'<line class="grid" x1="{MARGIN}" y1="{y:.1f}" x2="{MARGIN + wide}" y2="{y:.1f}"/>'
            f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{step * 25}%</text>'
            f'<text x="{x:.1f}" y="{MARGIN + high + 20}" text-anchor="middle">{value:.0f} {escape(unit)}</text>'
        )
    legend = []
    for number, (name, values) in enumerate(series):
        points = [(0.0, 0.0)]
        for step in range(101):
            value = values[min(len(values) - 1, int(step / 100 * len(values)))]
            points.append((min(value, most), step / 100))
        path = " ".join(f"{MARGIN + wide * x / most:.1f},{MARGIN + high * (1 - y):.1f}" for x, y in points)
        style = f"c{number % 5}"
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        legend.append(f'<li><span class="key {style}"></span>{escape(name)}</li>')
    told = "; ".join(f"{name}: half within {values[len(values) // 2]:.0f} {unit}" for name, values in series)
    return _figure(title, told, CURVE_HEIGHT, "".join(parts), f'<ul class="legend">{"".join(legend)}</ul>')


def _figure(title: str, told: str, height: int, inside: str, below: str = "") -> str:
    name = f"plot{next(_ids)}"
    return (
        f'<figure><figcaption id="{name}">{escape(title)}</figcaption>'
        f'<svg role="img" aria-labelledby="{name} {name}d" viewBox="0 0 {WIDTH} {height}">'
        f'<desc id="{name}d">{escape(told)}</desc>{inside}</svg>{below}</figure>'
    )
