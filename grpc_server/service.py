"""The last hop: answers every call itself."""

import time
import uuid
from collections.abc import AsyncIterator

import grpc

from grpc_server.greetings import check_count, greeting, listed
from hello_mesh.base.errors import TooManyGreetingsError
from hello_mesh.net.pb import landing_pb2_grpc
from hello_mesh.net.pb.landing_pb2 import OK, TalkRequest, TalkResponse, TalkResult
from hello_mesh.net.rpc import MAX_MESSAGE_BYTES, STATUS_ANSWERED

Context = grpc.aio.ServicerContext[TalkRequest, TalkResponse]


class LandingService(landing_pb2_grpc.LandingServiceServicer):
    """The four patterns. Greeting errors come out as they are; `grpc_server.call` makes statuses of them."""

    def __init__(self, max_results: int) -> None:
        """`max_results`: how many greetings one call may ask for."""
        self._max_results = max_results

    async def Talk(self, request: TalkRequest, context: Context) -> TalkResponse:
        return _response(_result(request.data))

    async def TalkOneAnswerMore(self, request: TalkRequest, context: Context) -> AsyncIterator[TalkResponse]:
        for index in listed(request.data, self._max_results):
            yield _response(_result(index))

    async def TalkMoreAnswerOne(
        self, request_iterator: AsyncIterator[TalkRequest], context: Context
    ) -> TalkResponse:
        results: list[TalkResult] = []
        size = 0
        async for request in request_iterator:
            check_count(len(results) + 1, self._max_results)
            results.append(_result(request.data))
            # Counting is not enough: an index as asked can be padded with a megabyte of zeros.
            size += results[-1].ByteSize()
            if size > MAX_MESSAGE_BYTES:
                raise TooManyGreetingsError(
                    f"the answer would not fit into one message of {MAX_MESSAGE_BYTES} bytes"
                )
        return _response(*results)

    async def TalkBidirectional(
        self, request_iterator: AsyncIterator[TalkRequest], context: Context
    ) -> AsyncIterator[TalkResponse]:
        async for request in request_iterator:
            yield _response(_result(request.data))


def _response(*results: TalkResult) -> TalkResponse:
    return TalkResponse(status=STATUS_ANSWERED, results=results)


def _result(index: str) -> TalkResult:
    kv = {"id": str(uuid.uuid4()), "idx": index, "data": greeting(index), "meta": "PYTHON"}
    return TalkResult(id=int(time.time()), type=OK, kv=kv)
