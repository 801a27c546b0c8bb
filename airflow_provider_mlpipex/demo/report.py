"""What the demo observed: steps, rollbacks and requests, as ``report.json`` and as a table on the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Step:
    """One step of the story. ``ok`` is decided by comparing, never by having reached the end.

    ``why``: where it is not, what the ledger tells of it.
    """

    name: str
    expected: str
    observed: str
    ok: bool
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)


@dataclass
class Rollback:
    """One rollback, measured from outside.

    :param detected_ms: from the cause (fault injected, or call made) to the decision.
    :param reverted_ms: from the decision to the last request that the bad release answered; 0 if none came after it.
    :param failed_requests: live requests that failed from the cause to the end of the revert.
    """

    cause: str
    endpoint: str
    from_release: str
    to_release: str
    detected_ms: float
    reverted_ms: float
    failed_requests: int


@dataclass
class Report:
    steps: list[Step] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    requests: dict[str, Any] = field(default_factory=dict)
    tenures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ok": self.ok, **asdict(self)}, indent=2, default=str) + "\n", encoding="utf-8")

    def summary(self) -> str:
        lines = ["", "Story", "-----"]
        lines += [
            f"{'ok  ' if step.ok else 'FAIL'} {step.seconds:6.1f} s  {step.name}\n"
            f"              expected {step.expected}\n              observed {step.observed}"
            + "".join(f"\n              why      {cause}" for cause in step.why)
            for step in self.steps
        ]
        lines += ["", "Rollbacks", "---------"]
        lines += [
            f"{r.endpoint}: {r.cause}: detected in {r.detected_ms:.0f} ms, last bad answer {r.reverted_ms:.0f} ms "
            f"after the decision, {r.failed_requests} requests failed"
            for r in self.rollbacks
        ]
        for endpoint, tenures in self.tenures.items():
            lines += ["", f"{endpoint}, what was current when", "-" * (len(endpoint) + 23)]
            lines += [
                f"{t['since'][11:19]} – {t['until'][11:19] if t['until'] else 'now':8}  {t['release']}" for t in tenures
            ]
        sent, failed = self.requests.get("sent", 0), self.requests.get("failed", 0)
        lines += ["", f"Requests: {sent} sent, {failed} failed"]
        lines += [
            f"  {count:6} answered by {release}" for release, count in self.requests.get("by_release", {}).items()
        ]
        return "\n".join(lines)
