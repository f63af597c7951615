"""Recordings, played: who was set rightly, who was not, and files that are none."""

from __future__ import annotations

import json
import sys

import pytest

from watchdog import cli
from watchdog.errors import RecordingError
from watchdog.simulation.recorded import MAX_LINE, Recorded
from watchdog.simulation.replay import Replay, run

SETTINGS = {
    "session_end_timer_s": 5.0,
    "session_ttl_s": 35.0,
    "throttled_session_ttl_s": 150.0,
    "heartbeat_interval_s": 10.0,
    "connect_rate": 2.0,
}
HEAD = {"format": "watchdog.recording", "version": 1, "for_s": 3600, "settings": SETTINGS}


def beat(t, agent=1, session=1, kind="beat", **more):
    return {"t": t, "kind": kind, "a": agent, "s": session, "i": 0, "lease": "session", **more}


def beats(begin, end, **more):
    return [beat(float(t), **more) for t in range(begin, end + 1, 10)]


def end(t):
    return {"t": t, "kind": "end", "complete": True}


def written(path, *lines):
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


def played(tmp_path, *lines, timer_s=5.0, ttl_s=35.0):
    """The figures of one pair of settings, and the replay."""
    ordered = sorted(lines, key=lambda line: line["t"])
    path = written(tmp_path / "recorded.jsonl", HEAD, *ordered)
    with path.open("rb") as file:
        recorded = Recorded(path, file)
        replay = Replay(recorded.head, [(timer_s, ttl_s)], recorded.head.rate)
        replay.play(recorded)
    return replay.players[0].figures, replay


def test_who_falls_silent_and_never_returns_had_left(tmp_path):
    figures, replay = played(tmp_path, *beats(0, 100), end(300.0))
    assert (figures.false, figures.excused, figures.writes) == (0, 0, 1)
    assert figures.detection_s == [pytest.approx(40.25, abs=0.3)]
    assert replay.present_s == 100.0


def test_who_says_bye_and_does_not_return_is_found_after_the_timer(tmp_path):
    figures, _ = played(tmp_path, *beats(0, 100), beat(104.0, kind="bye"), end(300.0))
    assert figures.detection_s == [pytest.approx(5.25, abs=0.3)]


def test_the_same_page_that_beats_later_was_there_all_the_time(tmp_path):
    lines = [*beats(0, 100), *beats(160, 300), end(310.0)]
    assert played(tmp_path, *lines)[0].false == 1
    assert played(tmp_path, *lines, ttl_s=90.0)[0].false == 0


def test_a_page_that_slept_was_not_there(tmp_path):
    lines = [*beats(0, 100), beat(160.0, gap_ms=59_000), *beats(170, 300), end(310.0)]
    figures, _ = played(tmp_path, *lines)
    assert (figures.false, figures.excused) == (0, 1)
    awake = [*beats(0, 100), beat(160.0, gap_ms=1_000), *beats(170, 300), end(310.0)]
    figures, _ = played(tmp_path, *awake)
    assert (figures.false, figures.excused) == (1, 0)


def test_a_reload_that_takes_longer_than_the_timer_is_a_mistake_and_a_later_return_is_none(tmp_path):
    def returned_at(t):
        return [*beats(0, 100), beat(104.0, kind="bye"), *beats(t, 300, session=2), end(310.0)]

    assert played(tmp_path, *returned_at(112))[0].false == 1
    assert played(tmp_path, *returned_at(112), timer_s=15.0)[0].false == 0
    figures, _ = played(tmp_path, *returned_at(200))
    assert (figures.false, len(figures.detection_s)) == (0, 1)


def test_a_beat_that_was_in_flight_when_the_page_said_bye_proves_nothing(tmp_path):
    figures, _ = played(tmp_path, *beats(0, 100), beat(104.0, kind="bye"), beat(114.0), end(300.0))
    assert (figures.false, len(figures.detection_s)) == (0, 1)


def test_an_agent_with_another_session_is_not_set(tmp_path):
    figures, _ = played(tmp_path, *beats(0, 100), *beats(5, 300, session=2), end(310.0))
    assert figures.writes == 0


def test_a_throttled_page_has_its_own_lease_and_one_that_hangs_none(tmp_path):
    slow = [beat(float(t), lease="throttled") for t in range(0, 600, 100)]
    assert played(tmp_path, *slow, end(600.0))[0].writes == 0
    hung = [*beats(0, 100), *beats(110, 300, lease=None), end(310.0)]
    figures, _ = played(tmp_path, *hung)
    assert (figures.writes, figures.false) == (1, 0)


def test_the_quota_makes_those_who_leave_together_wait(tmp_path):
    crowd = [beat(0.0, agent=each, session=each) for each in range(1, 101)]
    figures, _ = played(tmp_path, *crowd, end(300.0))
    assert figures.writes == 100
    assert figures.drain_s == pytest.approx(60, abs=5)


def test_what_the_daemon_did_and_what_was_lost_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    done = {"t": 50.0, "kind": "action", "a": 9, "intent": "set_status", "outcome": "confirmed", "calls": 3}
    lost = {"t": 60.0, "kind": "lost", "lines": 17}
    lines = [*beats(0, 40), done, lost, end(300.0)]
    html = tmp_path / "report.html"
    run(written(tmp_path / "r.jsonl", HEAD, *lines), None, None, None, html)
    told = capsys.readouterr().out
    assert "confirmed" in told
    assert "3 calls of Connect" in told
    assert "17 lines could not be recorded" in told
    assert "<svg" in html.read_text(encoding="utf-8")


GOOD = beat(1.0)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (b"", 1, "no recording"),
        (b"\x00\x01\x02\n", 1, "not valid JSON"),
        (b"PK\x03\x04" + b"x" * 10_000, 1, "more than 4096 bytes"),
        (b"[1, 2]\n", 1, "not a JSON object"),
        (b'{"format": "har"}\n', 1, "no recording"),
        ({**HEAD, "version": 2}, 1, "version 1 only"),
        ({**HEAD, "settings": None}, 1, "`settings` is missing"),
        ({**HEAD, "settings": {**SETTINGS, "connect_rate": 0}}, 1, "`connect_rate`"),
        ([HEAD, {**GOOD, "t": -1}], 2, "`t`"),
        ([HEAD, {**GOOD, "t": "1"}], 2, "`t`"),
        ([HEAD, {**GOOD, "t": True}], 2, "`t`"),
        ([HEAD, {**GOOD, "t": 1e300}], 2, "`t`"),
        ([HEAD, GOOD, beat(0.5)], 3, "earlier"),
        ([HEAD, {**GOOD, "a": 0}], 2, "`a`"),
        ([HEAD, {**GOOD, "s": 1.5}], 2, "`s`"),
        ([HEAD, {**GOOD, "i": -1}], 2, "`i`"),
        ([HEAD, {**GOOD, "q": None}], 2, "`q`"),
        ([HEAD, {**GOOD, "lease": ["session"]}], 2, "`lease`"),
        ([HEAD, {**GOOD, "kind": ["beat"]}], 2, "`kind`"),
        ([HEAD, {**GOOD, "kind": "shout"}], 2, "`kind`"),
        ([HEAD, {"t": 1.0, "kind": "action", "a": 1, "calls": 1}], 2, "`outcome`"),
        ([HEAD, {"t": 1.0, "kind": "action", "a": 1, "outcome": "[/b]", "calls": 1}], 2, "`outcome`"),
        ([HEAD, {"t": 1.0, "kind": "lost", "lines": 0}], 2, "`lines`"),
        ([HEAD, GOOD], 3, "cut off"),
        ([HEAD, GOOD, end(1.0), GOOD], 4, "something follows"),
        (json.dumps(HEAD).encode() + b'\n{"t": 1.0, "ki', 2, "cut off"),
        (json.dumps(HEAD).encode() + b"\n" + b"x" * (MAX_LINE + 1), 2, "more than 4096 bytes"),
        (json.dumps(HEAD).encode() + b'\n{"t": NaN}\n', 2, "not valid JSON"),
        (json.dumps(HEAD).encode() + b'\n{"t": 1.0, "kind": "\xff"}\n', 2, "not valid JSON"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_line(tmp_path, text, line, why):
    path = tmp_path / "wrong.jsonl"
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        written(path, *(text if isinstance(text, list) else [text]))
    with pytest.raises(RecordingError) as refused:
        run(path, None, None, None, None)
    assert str(refused.value).startswith(f"{path}, line {line}: ")
    assert why in str(refused.value)


def test_what_is_appended_to_a_file_that_was_cut_off_mends_it(tmp_path, capsys):
    path = written(tmp_path / "r[bold].jsonl", HEAD, *beats(0, 40))
    with pytest.raises(RecordingError) as refused:
        run(path, None, None, None, None)
    line = str(refused.value).partition("append ")[2].partition("}")[0] + "}"
    with path.open("a") as file:
        file.write(line + "\n")
    run(path, None, None, None, None)
    assert "r[bold].jsonl: 1 agents" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["missing.jsonl", "folder", "wrong.jsonl"])
def test_the_command_ends_with_2_for_a_file_that_it_cannot_use(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrong.jsonl").write_text("no\n")
    monkeypatch.setattr(sys, "argv", ["watchdog", "replay", str(tmp_path / name)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert name in capsys.readouterr().err


def test_nothing_is_read_ahead(tmp_path):
    path = written(tmp_path / "r.jsonl", HEAD, *beats(0, 20_000), end(20_000.0))
    with path.open("rb", buffering=4096) as file:
        lines = Recorded(path, file).lines()
        for _ in range(10):
            next(lines)
        assert file.tell() < 4 * 4096
