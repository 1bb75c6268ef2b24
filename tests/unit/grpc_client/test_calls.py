"""What a run of calls does besides calling."""

import asyncio
import contextlib

import pytest

from grpc_client.calls import _heed_cancellation


async def test_a_cancellation_that_a_failing_call_kept_to_itself_still_ends_the_worker() -> None:
    async def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):  # as grpc.aio does with a call that is failing
            await asyncio.Event().wait()
        _heed_cancellation()
        raise AssertionError("the worker went on to its next call")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_that_nobody_cancelled_goes_on() -> None:
    _heed_cancellation()
