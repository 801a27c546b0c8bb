"""An error that has crossed a process is the error that it was."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from airflow_provider_mlpipex.domain.errors import (
    ArtifactMismatch,
    MlpipexError,
    PlaneUnavailable,
    PlanRefused,
    error_from_dict,
)
from tests.support.factories import UNKNOWN_ERROR


@pytest.mark.parametrize("error", [PlanRefused("x", value=3, limit="y", remedy="z"), ArtifactMismatch("x")])
def test_a_known_class_comes_back_as_itself(error: MlpipexError) -> None:
    back = error_from_dict(error.as_dict(), nearest=PlaneUnavailable)
    assert type(back) is type(error)
    assert back.as_dict() == error.as_dict()


def test_what_was_said_on_the_way_up_comes_back_too() -> None:
    error = PlanRefused("x", remedy="do this")
    error.also("and that")
    assert "do: do this; and that" in str(error_from_dict(error.as_dict()))


@pytest.mark.parametrize("nearest", [MlpipexError, PlaneUnavailable])
def test_a_class_that_is_not_known_here_loses_nothing(nearest: type[MlpipexError]) -> None:
    back = error_from_dict(UNKNOWN_ERROR, nearest=nearest)
    assert type(back) is nearest
    assert back.as_dict() == UNKNOWN_ERROR
    assert str(back) == "quota of the plane | value: '9' | limit: 8 | do: retire one | runbook: quota-exceeded"
    assert pickle.loads(pickle.dumps(back)).as_dict() == UNKNOWN_ERROR
    assert nearest("y").runbook != "quota-exceeded", "it is this error's runbook, not the class's"


@pytest.mark.parametrize("told", [{}, {"error": None, "thing": None}, {"error": "SystemExit"}, {"error": "Mapping"}])
def test_what_is_no_error_of_ours_is_still_one(told: dict[str, Any]) -> None:
    back = error_from_dict(told)
    assert type(back) is MlpipexError
    assert back.thing == "unknown"
    assert back.runbook == "unexpected"
