"""Connect Presence Watchdog: sets Amazon Connect agents Offline when their last session is gone.

Here is the version, and nothing else: importing this package must stay cheap and free of effects.
"""

__version__ = "0.1.0"
