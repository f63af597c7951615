"""The decisions, as values and pure functions.

Nothing here does I/O, reads a clock, draws a random number or knows asyncio: values in, values out.
"""
