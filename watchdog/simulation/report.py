"""The HTML report: one file that asks for nothing else, with the tables and plots of a comparison."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from pathlib import Path

from watchdog import __version__
from watchdog.errors import WatchdogError
from watchdog.simulation.player import Figures
from watchdog.simulation.plots import bars, shares
from watchdog.simulation.sheets import Sheet, pair, quantile, rate

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --paper: #fff; --faint: #5b6475; --line: #d5d9e2;
  --c0: #2563b0; --c1: #b4490f; --c2: #1a7a4c; --c3: #8a3fa0; --c4: #7a6400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --paper: #14181f; --faint: #a3abba; --line: #3a4250;
  --c0: #78aef0; --c1: #f09a66; --c2: #63c794; --c3: #cf93e0; --c4: #d9c04f; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, footer { color: var(--faint); max-width: 45rem; }
.wide { overflow-x: auto; margin-top: 1rem; }
.wide:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
svg { width: 100%; height: auto; display: block; }
svg { max-width: 34rem; }
svg text { fill: var(--ink); font-size: 14px; }
.grid { stroke: var(--line); }
.line { fill: none; stroke-width: 2.5; }
rect.c0 { fill: var(--c0); }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); stroke-dasharray: 8 3; }
.line.c2 { stroke: var(--c2); stroke-dasharray: 3 3; } .line.c3 { stroke: var(--c3); stroke-dasharray: 10 3 2 3; }
.line.c4 { stroke: var(--c4); stroke-dasharray: 1 4; }
.legend { list-style: none; padding: 0; margin: .25rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.key { display: inline-block; width: 1.2rem; height: .7rem; margin-right: .4rem; border-radius: 2px; }
.key.c0 { background: var(--c0); } .key.c1 { background: var(--c1); } .key.c2 { background: var(--c2); }
.key.c3 { background: var(--c3); } .key.c4 { background: var(--c4); }
"""


def render(title: str, found: list[Figures], sheets: list[Sheet], agent_hours: float) -> str:
    """The report.

    Args:
        title: What was compared.
        found: One for each pair of settings, for the plots.
        sheets: The tables; the first one is that of `found`.
        agent_hours: That were played.
    """
    computed = all(each.computed is not None for each in found)
    wrong = [_wrong(each, agent_hours) for each in found]
    name = "Computed false Offlines" if computed else "False Offlines"
    plots = [
        bars(f"{name} per 10⁶ agent-hours (logarithmic)", wrong, logarithmic=True),
        bars("Time until found, 99 %", [_seconds(each, quantile(each.detection_s, 0.99)) for each in found]),
        bars("Ghost-seconds of agents who could get contacts", [_seconds(each, each.ghost_s) for each in found]),
        bars("Longest wait for the quota", [_seconds(each, each.drain_s) for each in found]),
        shares("Share found within a time after leaving", "s", [(pair(each), each.detection_s) for each in found]),
    ]
    first, *others = sheets
    made = f"watchdog {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Whoever mails it around can trust it: nothing is loaded, no script runs.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f'<h2>Settings side by side</h2>{_table(first)}<h2>Plots</h2><div class="plots">{"".join(plots)}</div>'
        + ("<h2>What lost requests cost</h2>" if others else "")
        + "".join(map(_table, others))
        + f"</main><footer><p>{made}.</p></footer></body></html>\n"
    )


def write(path: Path, text: str) -> None:
    """Puts the report into a file.

    Raises:
        WatchdogError: It cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WatchdogError(f"{path} cannot be written: {error.strerror}. Name another file with --html.") from None


def _wrong(figures: Figures, agent_hours: float) -> tuple[str, float, str]:
    drawn = figures.false / agent_hours if agent_hours else 0.0
    value = drawn if figures.computed is None else figures.computed
    return pair(figures), value, rate(value)


def _seconds(figures: Figures, value: float) -> tuple[str, float, str]:
    return pair(figures), value, f"{value:,.0f} s"


def _table(sheet: Sheet) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in sheet.headings)
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in sheet.rows
    )
    note = f"<p>{escape(sheet.note)}</p>" if sheet.note else ""
    title = escape(sheet.title)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{title}"><table><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )
