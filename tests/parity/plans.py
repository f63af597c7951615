"""What the floors are opened with. Rows that would be in one another's way have a floor of their own."""

from __future__ import annotations

from tests.parity.floor import Plan, as_json
from tests.scenarios.harness import INSTANCE
from tests.scenarios.watched import Watched
from watchdog.sandbox.world import stable_id

SIGNED_OUT = "Signed out"
"""What the status of type OFFLINE is called on the floor `rules`."""

RULES = [
    {"name": "field", "if_profile_name_includes": ["Field"], "session_end_timer": 10, "status": "Away"},
    {"name": "night", "if_profile_name_includes": ["Night"], "status": stable_id(INSTANCE, "status", "Coaching")},
    {
        "name": "desk at lunch",
        "if_profile_name_includes": ["Desk"],
        "if_current_agent_state": ["Lunch"],
        "session_end_timer": 2,
        "status": "Break",
        # On return no status filter is asked, so that this one is for all of the profile.
        "initial_agent_state": "Coaching",
    },
    {"name": "desk", "if_profile_name_includes": ["Desk"], "session_end_timer": 1},
    {"name": "waits", "if_profile_name_includes": ["Chat"], "on_contact": "wait"},
    {"name": "skips", "if_profile_name_includes": ["Voice"], "on_contact": "skip"},
    {"name": "leaves contacts", "if_profile_name_includes": ["Archive"], "dismiss_contacts": False},
    {"name": "contractors", "if_profile_name_includes": ["Contractors"], "status": "Logout"},
    {
        "name": "two stages",
        "if_profile_name_includes": ["Outsourced"],
        "stages": [{"after": 1, "status": "Away"}, {"after": 12, "status": "Logout"}],
    },
    {"name": "trainees", "if_profile_name_includes": ["Trainees"], "status": "Training"},
    {"name": "flex", "if_profile_name_includes": ["Flex"], "initial_agent_state": "previous"},
    {"name": "temps", "if_profile_name_includes": ["Temps"], "initial_agent_state": "none"},
]

PROFILES = (
    *("EMEA Sales", "Customer support", "Billing"),  # of the plain variables: two match, one does not
    *("Field", "Night", "Desk", "Chat", "Voice", "Archive", "Contractors", "Outsourced", "Trainees", "Flex", "Temps"),
)

PLANS = {
    "plain": Plan(
        {"WATCHDOG_REASON_CODES": as_json({"shift-end": "Lunch"})}, profiles=("One queue", "Two queues", "No queue")
    ),
    "rules": Plan(
        {
            "WATCHDOG_RULES": as_json(RULES),
            "WATCHDOG_IF_PROFILE_NAME_INCLUDES": "sales, Support",
            "WATCHDOG_IF_CURRENT_AGENT_STATE": "available, Lunch",
        },
        statuses=("Lunch", "Away", "Break", "Coaching", "Training"),
        profiles=PROFILES,
        offline=SIGNED_OUT,
    ),
    # The timer that nobody has set.
    "dry": Plan({"WATCHDOG_DRY_RUN": "true", "WATCHDOG_SESSION_END_TIMER": None}),
    # Nobody else is to be in its recording.
    "recorded": Plan({"WATCHDOG_DRY_RUN": "true", "WATCHDOG_SESSION_END_TIMER": None}),
    "window": Plan({"WATCHDOG_RETURN_WINDOW": "0.1"}),
    "brake": Plan({"WATCHDOG_BRAKE_MIN_AGENTS": "5", "WATCHDOG_BRAKE_FRACTION": "0.3"}),
    "ordered": Plan({"WATCHDOG_STATUS": "Logout"}),
    "outage": Plan({"WATCHDOG_RESUME_GRACE": "3"}),
    "scarce": Plan({"WATCHDOG_CONNECT_RATE": "2", "WATCHDOG_CONNECT_BURST": "2"}),
    "crossing": Plan(model=Watched),
    "notified": Plan(started=False),
    "unknown names": Plan(started=False),
    "unreachable at the start": Plan(profiles=("Night",), started=False),
}
