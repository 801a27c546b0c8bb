"""How two releases or manifests differ, one typed change at a time."""

from __future__ import annotations

from typing import Literal, get_args

from airflow_provider_mlpipex.domain.values import Value

ChangeKind = Literal[
    "model", "runtime", "data", "features", "gate-tightened", "gate-loosened", "policy", "gate-undecided"
]
#: In which changes are shown.
CHANGE_ORDER: tuple[ChangeKind, ...] = get_args(ChangeKind)


class Change(Value):
    """One typed difference between two releases or manifests.

    Of kind ``gate-undecided`` it is none: it says what an offline gate asks, and why its rows cannot tell.
    """

    kind: ChangeKind
    what: str
    before: str
    after: str
