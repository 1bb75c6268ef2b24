"""The last hop: answers every call itself."""

import time
import uuid
from collections.abc import AsyncIterator

from grpc_server.call import Calls, Context, all_requests, only_request
from grpc_server.greetings import check_count, greeting, listed
from hello_mesh.base.errors import TooManyGreetingsError
from hello_mesh.net.pb.landing_pb2 import OK, TalkRequest, TalkResponse, TalkResult
from hello_mesh.net.rpc import MAX_MESSAGE_BYTES, STATUS_ANSWERED


class LandingService:
    """The four patterns, bytes in and bytes out."""

    def __init__(self, calls: Calls, max_results: int) -> None:
        self._calls = calls
        self._max_results = max_results

    async def Talk(self, _requests: AsyncIterator[bytes], context: Context) -> bytes:
        async with self._calls.serve("Talk", context):
            request = TalkRequest.FromString(await only_request(context))
            return _response(_result(request.data))

    async def TalkOneAnswerMore(
        self, _requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async with self._calls.serve("TalkOneAnswerMore", context):
            request = TalkRequest.FromString(await only_request(context))
            for index in listed(request.data, self._max_results):
                yield _response(_result(index))

    async def TalkMoreAnswerOne(self, _requests: AsyncIterator[bytes], context: Context) -> bytes:
        async with self._calls.serve("TalkMoreAnswerOne", context):
            results: list[TalkResult] = []
            size = 0
            async for message in all_requests(context):
                check_count(len(results) + 1, self._max_results)
                results.append(_result(TalkRequest.FromString(message).data))
                size += results[-1].ByteSize()
                if size > MAX_MESSAGE_BYTES:
                    raise TooManyGreetingsError(
                        f"the answer would not fit into one message of {MAX_MESSAGE_BYTES} bytes"
                    )
            return _response(*results)

    async def TalkBidirectional(
        self, _requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async with self._calls.serve("TalkBidirectional", context):
            async for message in all_requests(context):
                yield _response(_result(TalkRequest.FromString(message).data))


def _response(*results: TalkResult) -> bytes:
    return TalkResponse(status=STATUS_ANSWERED, results=results).SerializeToString()


def _result(index: str) -> TalkResult:
    kv = {"id": str(uuid.uuid4()), "idx": index, "data": greeting(index), "meta": "PYTHON"}
    return TalkResult(id=int(time.time()), type=OK, kv=kv)
