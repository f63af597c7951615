"""Timers side by side on a described day."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

import pytest

from watchdog.errors import WatchdogError
from watchdog.simulation.compare import compare, measure, run
from watchdog.simulation.player import Figures
from watchdog.simulation.report import render, write
from watchdog.simulation.sheets import Sheet, quantile
from watchdog.simulation.workload import Day, Workload


def workload(**changes):
    told = {"agents": 60, "hours": 2.0, "loss": 0.0, "interval_s": 10.0, "timer_s": 5.0, "ttl_s": 35.0, "rate": 2.0}
    return Workload(**{**told, **changes})


def played(work, timer_s=5.0, ttl_s=35.0):
    events = sorted(event for number in range(work.agents) for event in Day(number, work).events())
    return measure(work, events, timer_s, ttl_s)


def test_without_loss_nobody_is_set_by_mistake_and_everyone_who_left_is_found():
    figures = played(workload())
    assert figures.false == 0
    assert figures.missed == 0
    assert len(figures.detection_s) >= 60
    assert max(figures.detection_s) <= 35 + 5 + figures.drain_s + 1


@pytest.mark.long
def test_a_longer_ttl_makes_fewer_mistakes_and_finds_later():
    work = workload(loss=0.3)
    short, long = played(work), played(work, ttl_s=90.0)
    assert long.false < short.false
    assert quantile(long.detection_s, 0.99) > quantile(short.detection_s, 0.99)


def test_the_quota_makes_those_who_leave_together_wait():
    assert played(workload(agents=400, hours=0.3, rate=0.5)).drain_s > 60


@pytest.mark.long
def test_each_pair_is_measured_on_the_same_day():
    found = compare(workload(agents=5))
    assert [(each.timer_s, each.ttl_s) for each in found] == [(5, 35), (5, 30), (5, 55), (15, 35), (30, 35)]
    assert len({len(each.detection_s) for each in found}) == 1


def told_by(capsys, **options):
    run(workload(agents=8, hours=1.0, loss=0.01), options.pop("html", None), **options)
    return capsys.readouterr().out


def test_the_table_has_what_was_drawn_and_what_is_computed_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    told = told_by(capsys)
    for heading in ("false", "computed", "found, 99 %", "ghost-seconds", "writes", "reads", "time to drain"):
        assert heading in told
    for pair in ("5 / 35 s", "5 / 30 s", "5 / 55 s", "15 / 35 s", "30 / 35 s"):
        assert pair in told
    assert "…" not in told


def test_explained_is_what_loss_costs_and_no_day_is_drawn(capsys):
    told = told_by(capsys, explain=True)
    assert "each 0.5 s, 10 times" in told
    assert "no bursts" in told
    assert "drain" not in told


class Page(HTMLParser):
    """What of a page matters to those who cannot see it, and to those who have no network."""

    def __init__(self):
        super().__init__()
        self.tags = Counter()
        self.links = []
        self.named, self.ids = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        values = dict(attrs)
        self.links += [values[name] for name in ("src", "href", "action", "data") if name in values]
        self.named |= set(values.get("aria-labelledby", "").split())
        self.ids += [values["id"]] if "id" in values else []


@pytest.mark.long
def test_the_report_asks_for_nothing_and_names_everything(tmp_path, capsys):
    path = tmp_path / "report.html"
    told_by(capsys, html=path)
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.links == []
    assert "url(" not in text
    assert page.tags["script"] == 0
    assert page.tags["table"] == page.tags["caption"] == 5
    assert page.tags["svg"] == page.tags["figcaption"] == page.tags["desc"] == 5
    assert page.named <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)) == 10
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_what_is_told_cannot_become_markup(tmp_path):
    sheet = Sheet("<b>", ("<i>", "<i>"), (("<u>", "<em>"),), "<s>")
    text = render("<script>", [Figures(5, 35)], [sheet], 1.0)
    page = Page()
    page.feed(text)
    assert {"b", "i", "u", "em", "s", "script"}.isdisjoint(page.tags)


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(WatchdogError, match="--html"):
        write(tmp_path / "missing" / "report.html", "")


@pytest.mark.long
def test_who_could_get_contacts_is_set_first():
    # 200 leave at once under a slow quota: first come, first served would cost the same for all.
    figures = played(workload(agents=200, hours=0.3, rate=0.2))
    assert 0 < figures.ghost_s < 0.6 * sum(figures.detection_s)


def test_who_is_offline_already_costs_no_write():
    figures = played(workload(agents=300, hours=0.5))
    assert figures.writes < 0.8 * len(figures.detection_s)


def test_a_hundred_are_read_in_one_call():
    figures = played(workload(agents=400, hours=0.3, rate=0.5))
    assert figures.reads < figures.writes + len(figures.detection_s) / 2


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([], 0.5, 0.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0)]
)
def test_quantiles(values, part, expected):
    assert quantile(values, part) == expected
