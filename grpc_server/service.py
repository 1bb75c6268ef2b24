"""The last hop: answers the four methods itself. Bytes in, bytes out."""

import time
import uuid
from collections.abc import AsyncIterator

from grpc_server.call import CallContext, Calls, read_requests
from grpc_server.greetings import check_count, greeting, parse_indexes
from hello_mesh.net.pb.landing_pb2 import OK, TalkRequest, TalkResponse, TalkResult
from hello_mesh.net.rpc import STATUS_ANSWERED


class Answering:
    """The four methods, each bound once to the server."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Talk(self, request: bytes, context: CallContext) -> bytes:
        """Answer one index with one greeting."""
        async with self._calls.serve("Talk", context):
            return _response(_result(TalkRequest.FromString(request).data))

    async def TalkOneAnswerMore(self, request: bytes, context: CallContext) -> AsyncIterator[bytes]:
        """Answer a list of indexes, one response each."""
        async with self._calls.serve("TalkOneAnswerMore", context):
            for index in parse_indexes(TalkRequest.FromString(request).data):
                yield _response(_result(index))

    async def TalkMoreAnswerOne(self, _requests: AsyncIterator[bytes], context: CallContext) -> bytes:
        """Answer a stream of indexes with one response that holds a result for each."""
        async with self._calls.serve("TalkMoreAnswerOne", context):
            results: list[TalkResult] = []
            async for message in read_requests(context):
                check_count(len(results) + 1)
                results.append(_result(TalkRequest.FromString(message).data))
            return _response(*results)

    async def TalkBidirectional(
        self, _requests: AsyncIterator[bytes], context: CallContext
    ) -> AsyncIterator[bytes]:
        """Answer each message as it arrives."""
        async with self._calls.serve("TalkBidirectional", context):
            async for message in read_requests(context):
                yield _response(_result(TalkRequest.FromString(message).data))


def _response(*results: TalkResult) -> bytes:
    return TalkResponse(status=STATUS_ANSWERED, results=results).SerializeToString()


def _result(index: str) -> TalkResult:
    kv = {"id": str(uuid.uuid4()), "idx": index, "data": greeting(index), "meta": "PYTHON"}
    return TalkResult(id=int(time.time()), type=OK, kv=kv)
