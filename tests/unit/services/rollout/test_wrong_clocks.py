"""A clock that was wrong for a moment does no harm to what comes after it."""

from __future__ import annotations

from airflow_provider_mlpipex.domain.rollout.events import AlertRaised
from airflow_provider_mlpipex.services import journal
from airflow_provider_mlpipex.services.rollout.history import audit
from tests.support.rollouts import ENDPOINT, World

YEAR_S = 365 * 86400.0


def test_an_entry_from_the_future_ends_no_later_trial() -> None:
    world = World()
    world.first_release()
    world.clock.advance(YEAR_S)
    journal.note(world.platform, ENDPOINT, AlertRaised(title="written by a clock that is a year ahead"))
    world.clock.advance(3600 - YEAR_S)
    world.bring("run-2", "1.1.0", to="promoted")
    assert world.state.current is not None
    assert world.state.current.model.version == "1.1.0"
    assert audit(world.platform) == {str(ENDPOINT): world.state.seq}
