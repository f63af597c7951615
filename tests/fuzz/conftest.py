"""The application over a dictionary, as in `tests/ingest`."""

from tests.ingest.conftest import make_world

__all__ = ["make_world"]
