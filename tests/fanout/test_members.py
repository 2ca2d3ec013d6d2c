"""A topic and its members, without sockets."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest


def member(package: ModuleType, got: list[Any], fails: bool = False) -> Any:
    members = importlib.import_module(f"{package.__name__}.fanout.members")

    class Plain(members.Member):  # type: ignore[misc, name-defined]
        def take(self, publication: Any, plain: Any) -> bool:
            if fails:
                raise RuntimeError("broken")
            got.append(self)
            return True

        def miss(self, messages: int) -> None:
            got.append(messages)

    return Plain()


@pytest.fixture
def topic(package: ModuleType) -> Any:
    return importlib.import_module(f"{package.__name__}.fanout.members").Topic("a", None)


@pytest.fixture
def publication(package: ModuleType) -> Any:
    message = importlib.import_module(f"{package.__name__}.fanout.message")
    return message.Publication("a", message.TEXT, b"x")


def test_whoever_leaves_gets_nothing_and_all_others_do(
    package: ModuleType, topic: Any, publication: Any
) -> None:
    got: list[Any] = []
    members = [member(package, got) for _ in range(5)]
    for each in members:
        topic.join(each)
    topic.leave(members[1])
    topic.leave(members[4])
    assert topic.deliver(publication) == 3
    assert set(got) == {members[0], members[2], members[3]}
    assert members[1].topic is None


def test_a_member_that_raises_costs_the_others_nothing(
    package: ModuleType, topic: Any, publication: Any, log: Any
) -> None:
    got: list[Any] = []
    broken = member(package, got, fails=True)
    others = [member(package, got) for _ in range(2)]
    for each in (others[0], broken, others[1]):
        topic.join(each)
    assert topic.deliver(publication) == 2
    assert set(got) == set(others)
    assert "Exception in a delivery" in log[0].getMessage()


def test_a_loss_is_told_to_all(package: ModuleType, topic: Any) -> None:
    got: list[Any] = []
    for _ in range(2):
        topic.join(member(package, got))
    topic.miss(3)
    assert got == [3, 3]
