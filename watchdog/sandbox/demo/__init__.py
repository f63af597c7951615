"""The demo: the stand-in of Connect and the daemon as processes, and twenty agents who come and go.

`stories.py` says who does what and how it must end, in the words of `roles.py`; `verdict.py` judges how it ended.
`agents.py` plays the agents over HTTP, `processes.py` runs the two children, `watching.py` reads what they know,
`play.py` puts it all on the stage. `screen.py` and `summary.py` show it. The daemon is spoken
to as any client does; nothing of it is imported.
"""

from watchdog.sandbox.demo.play import run_demo

__all__ = ["run_demo"]
