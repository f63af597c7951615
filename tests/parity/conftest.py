"""The floors, and the rows that are shown on them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parity.floor import show_rows
from tests.parity.plans import PLANS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.parity.floor import Floor


@pytest.fixture(scope="session")
def rows_shown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The selected rows by the tests' ids, all of them begun."""
    floors: dict[str, list[tuple[Callable[[Floor], None], Future[None]]]] = {}
    told: dict[str, Future[None]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and hasattr(item.function, "row"):
            name, show = item.function.row
            told[item.nodeid] = Future()
            floors.setdefault(name, []).append((show, told[item.nodeid]))
    with ThreadPoolExecutor(len(floors)) as pool:
        for name, rows in floors.items():
            pool.submit(show_rows, PLANS[name], tmp_path_factory.mktemp(name), rows)
        yield told
