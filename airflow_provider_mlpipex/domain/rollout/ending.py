"""How a rollout may end."""

from __future__ import annotations

from typing import Literal

Ending = Literal["promoted", "rolled-back", "rejected"]
