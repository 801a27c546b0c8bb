"""What waits holds up nothing that must not wait."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_mlpipex.domain.errors import PlaneUnavailable
from airflow_provider_mlpipex.serving.plane.lanes import Lane


def test_a_full_lane_refuses_and_another_goes_on() -> None:
    async def main() -> None:
        go_on = threading.Event()
        slow, quick = Lane("releases", threads=1, waiting=1), Lane("plans", threads=1, waiting=0)
        waiting = [asyncio.ensure_future(slow.run(go_on.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(PlaneUnavailable, match="releases.*at most 2"):
            await slow.run(int)
        assert await quick.run(int, "7") == 7
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        # The places are free again, as soon as the threads are.
        assert await slow.run(int, "8") == 8

    asyncio.run(main())


def test_a_caller_that_hung_up_holds_its_place_as_long_as_its_verb_runs() -> None:
    async def main() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def verb() -> None:
            begun.set()
            go_on.wait()

        lane = Lane("releases", threads=1, waiting=0)
        caller = asyncio.ensure_future(lane.run(verb))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        with pytest.raises(PlaneUnavailable):
            await lane.run(int)
        go_on.set()
        while True:
            try:
                assert await lane.run(int, "9") == 9
                return
            except PlaneUnavailable:
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_what_a_verb_raises_reaches_its_caller() -> None:
    async def main() -> None:
        with pytest.raises(ValueError):
            await Lane("plans", threads=1, waiting=0).run(int, "x")

    asyncio.run(main())
