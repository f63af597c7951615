"""What comes in over HTTP: heartbeats, and the questions of operators.

Knows HTTP, tokens and the buffer; nothing of timers, and nothing of Amazon Connect.
"""
