"""A clock that stands until a test moves it, and an instance with three agents on it."""

from dataclasses import dataclass

import pytest

from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.seed import seed
from watchdog.sandbox.world import Instance

START = 1_800_000_000.0


@dataclass
class Clock:
    at: float = START

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model(clock: Clock) -> ConnectModel:
    return ConnectModel(clock)


@pytest.fixture
def instance(model: ConnectModel) -> Instance:
    return seed(model, agents=3, statuses=("Lunch", "Training"))


@pytest.fixture
def agents(instance: Instance) -> list[str]:
    return list(instance.users)
