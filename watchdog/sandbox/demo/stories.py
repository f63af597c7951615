"""Who does what, when, and how it must end for them. Values only: `agents.py` acts, `verdict.py` judges.

All times are seconds; those of a step count from the start of the story, at which every agent arrives.
"""

from collections.abc import Iterator
from dataclasses import replace

from watchdog.sandbox.demo.roles import (
    AVAILABLE,
    AWAY,
    BACK_OFFICE,
    DISMISSED,
    LOGOUT,
    OFFLINE,
    SIGN_OUT_AFTER_S,
    TIMING,
    TRAINING,
    Act,
    Change,
    Expectation,
    Mark,
    Role,
    Step,
    Story,
)

KILL_AT_S = 18.0
"""When the daemon is killed. What was to be written for who left before is written by then, but for two stories.

The end of the call and the return come well after: what was done before has been read back by then, on any machine.
"""

_UNTOUCHED = Expectation()
_SET = ("set_status confirmed",)
_AFTER_BYE = Expectation(
    (Change(OFFLINE, Mark.BYE, TIMING.least_s(Mark.BYE)),), _SET, status=OFFLINE, state="away", tabs=0
)
_AFTER_SILENCE = replace(_AFTER_BYE, changes=(Change(OFFLINE, Mark.SILENCE, TIMING.least_s(Mark.SILENCE)),))

_AFTER_RESTART = replace(
    _AFTER_SILENCE, changes=(Change(OFFLINE, Mark.SILENCE, TIMING.least_s(Mark.SILENCE), 2.0),), restart=True
)

_WORKS = "works"
_CLOSED = Step(0, Act.CLOSE_TAB, "closes the tab", "closed the tab")
_OFF = Step(0, Act.CUT, "loses the network", "no network")
_CRASHES = Step(0, Act.CRASH, "the browser crashes", "browser crashed")
_SECOND_TAB = Step(-3, Act.OPEN_TAB, "opens a second tab", "works in two tabs")

_PRESENCE = (
    Story("works all the time", (0.0,) * 2, (), _UNTOUCHED),
    Story("closes the tab", (3.5,), (_CLOSED,), _AFTER_BYE),
    Story(
        "reloads the page",
        (4.5,),
        (
            Step(0, Act.CLOSE_TAB, "reloads the page", "reloading"),
            Step(1.5, Act.OPEN_TAB, "has loaded the page again", _WORKS),
        ),
        _UNTOUCHED,
    ),
    Story("the browser crashes", (4.0, 7.0), (_CRASHES,), _AFTER_SILENCE),
    Story(
        "closes one of two tabs",
        (6.5,),
        (_SECOND_TAB, Step(0, Act.CLOSE_TAB, "closes one of two tabs", _WORKS)),
        _UNTOUCHED,
    ),
    Story(
        "closes both tabs",
        (7.0,),
        (
            _SECOND_TAB,
            Step(0, Act.CLOSE_TAB, "closes one of two tabs", _WORKS),
            Step(2.5, Act.CLOSE_TAB, "closes the other tab", "closed both tabs"),
        ),
        _AFTER_BYE,
    ),
    Story(
        "sleeps, back in time",
        (6.0,),
        (
            Step(0, Act.CUT, "closes the lid", "lid closed"),
            Step(5.3, Act.RECONNECT, "opens the lid inside the timer", _WORKS),
        ),
        _UNTOUCHED,
    ),
    Story(
        "a short network outage",
        (7.5, 11.0),
        (_OFF, Step(2.2, Act.RECONNECT, "has the network again", _WORKS)),
        _UNTOUCHED,
    ),
    Story(
        "a long network outage",
        (4.2,),
        (
            _OFF,
            Step(12.1, Act.RECONNECT, "has the network again", "back, still Offline"),
            Step(13.2, Act.AVAILABLE, "becomes Available again", _WORKS),
        ),
        replace(_AFTER_SILENCE, status=AVAILABLE, state="live", tabs=1),
    ),
)
_OFFLINE = _AFTER_BYE.changes[0]

_POLICY = (
    Story(
        "leaves during a call",
        (5.0,),
        (
            Step(-2, Act.CALL, "takes a call", "in a call"),
            Step(0, Act.CLOSE_TAB, "closes the tab in the call", "closed the tab"),
            Step(KILL_AT_S, Act.CALL_ENDS, "the call is over", "closed the tab"),
        ),
        replace(
            _AFTER_BYE,
            history=("set_status next_status", "set_status confirmed"),
            in_force=Mark.CALL_END,
            says="Offline next, in force at its end",
        ),
    ),
    Story(
        "leaves a failed call",
        (5.5,),
        (
            Step(-1, Act.CALL_FAILS, "a call fails and stays open", "a failed call"),
            _CLOSED,
        ),
        replace(
            _AFTER_BYE,
            changes=(_OFFLINE, Change(DISMISSED, Mark.BEFORE, margin_s=TIMING.slow_margin_s)),
            history=("dismiss confirmed", *_SET),
            in_force=Mark.BEFORE,
            says="Offline next, call dismissed",
        ),
    ),
    Story(
        "a profile left alone",
        (6.0,),
        (_CLOSED,),
        Expectation(history=("set_status skipped_profile",), state="gone", tabs=0, says="untouched: skipped_profile"),
        TRAINING,
    ),
    Story(
        "a rule of two stages",
        (2.6,),
        (_CLOSED,),
        replace(
            _AFTER_BYE,
            changes=(
                Change(AWAY, Mark.BYE, TIMING.away_s, TIMING.slow_margin_s),
                Change(OFFLINE, Mark.BYE, TIMING.logout_s, TIMING.slow_margin_s),
                Change(LOGOUT, Mark.BEFORE, SIGN_OUT_AFTER_S, TIMING.sign_out_margin_s),
            ),
            history=(*_SET, *_SET, "sign_out confirmed"),
        ),
        BACK_OFFICE,
    ),
    Story(
        "returns with a new page",
        (4.0,),
        (_CLOSED, Step(KILL_AT_S + 2, Act.OPEN_TAB, "opens a new page, signed in", _WORKS)),
        Expectation(
            (_OFFLINE, Change(AVAILABLE, Mark.PAGE, margin_s=TIMING.slow_margin_s)),
            (*_SET, "restore confirmed"),
            says="Offline, Available again at once",
        ),
    ),
    Story(
        "logged out by someone",
        (8.0,),
        (Step(0, Act.LOG_OUT, "is logged out by an operator", "logged out"),),
        replace(
            _AFTER_BYE,
            changes=(
                Change(OFFLINE, Mark.ORDER, margin_s=TIMING.slow_margin_s),
                Change(LOGOUT, Mark.BEFORE, margin_s=TIMING.slow_margin_s),
            ),
            history=("sign_out confirmed",),
            stopped=1,
            says="Offline, logout, the page stops",
        ),
    ),
)
_RESTART = (
    Story("crashes before the kill", (KILL_AT_S - 1,), (_CRASHES,), _AFTER_RESTART),
    Story("closes after the kill", (KILL_AT_S + 6.5,), (_CLOSED,), _AFTER_BYE),
)

GROUPS = {"Presence": _PRESENCE, "Policy": _POLICY, "Restart": _RESTART}
"""Who is there and who is not; contacts, filters, rules, the return and the logout; a daemon that is killed."""

STORIES: tuple[Story, ...] = tuple(story for stories in GROUPS.values() for story in stories)
"""All stories, in the order of the table."""


def cast(stories: tuple[Story, ...] = STORIES) -> tuple[Role, ...]:
    """Give the agents their parts, numbered in the order of the stories."""
    return tuple(Role(number, story, steps) for number, (story, steps) in enumerate(_parts(stories), start=1))


def _parts(stories: tuple[Story, ...]) -> Iterator[tuple[Story, tuple[Step, ...]]]:
    for story in stories:
        for start in story.starts:
            yield story, tuple(Step(start + step.at_s, step.act, step.says, step.now) for step in story.steps)


def group_of(story: Story) -> str:
    """Give the name of the group that a story belongs to."""
    return next(name for name, stories in GROUPS.items() if story in stories)
