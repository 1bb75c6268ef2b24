"""Logs of containers, and commands in them."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from apiserver.behaviour import Behaviour
from apiserver.errors import StatusError, bad_request
from apiserver.incoming import now
from apiserver.kinds import PODS, Object
from apiserver.store import Store

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_POLL_SECONDS = 0.02
_CHUNK = 65536

_NOT_STARTED = {
    "ImagePullBackOff": "trying and failing to pull image",
    "ContainerCreating": "ContainerCreating",
    "PodInitializing": "PodInitializing",
}


@dataclass
class Streams:
    """Serves logs and commands."""

    store: Store
    behaviour: Behaviour

    async def log(self, request: web.Request, pod: Object) -> web.StreamResponse:
        """Stream the log of a container; with `follow`, until its pod is deleted."""
        container = _container(pod, request.query.get("container"))
        _check_started(pod, container)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        sent, tail = 0, request.query.get("tailLines")
        if tail is not None:
            sent = max(0, len(self._lines(pod, container)) - int(tail))
        stamp = f"{now()} " if request.query.get("timestamps") == "true" else ""
        while True:
            lines = self._lines(pod, container)
            new, sent = lines[sent:], len(lines)
            await response.write("".join(f"{stamp}{line}\n" for line in new).encode())
            if request.query.get("follow") != "true" or not self._exists(pod):
                return response
            await asyncio.sleep(_POLL_SECONDS)

    def _lines(self, pod: Object, container: Object) -> Sequence[str]:
        logs, name = self.behaviour.logs, container["name"]
        return tuple(logs.get(f"{pod['metadata']['name']}/{name}", logs.get(name, ())))

    def _exists(self, pod: Object) -> bool:
        meta = pod["metadata"]
        live = self.store.get(PODS, meta["namespace"], meta["name"])
        return live is not None and live["metadata"]["uid"] == meta["uid"]

    async def execute(self, request: web.Request, pod: Object) -> web.StreamResponse:
        """Run a command over a websocket with one channel per stream, and send its result at the end."""
        container = _container(pod, request.query.get("container"))
        _check_running(pod, container)
        socket = web.WebSocketResponse(protocols=_PROTOCOLS)
        if not socket.can_prepare(request):
            raise bad_request("Upgrade request required")
        command, variables = self.behaviour.run(pod, container, request.query.getall("command"))
        await socket.prepare(request)
        has_stdin = request.query.get("stdin") == "true"
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(variables),
                stdin=PIPE if has_stdin else DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
            )
        except OSError as error:
            await _send(socket, _ERROR, json.dumps(_not_started(command[0], error)).encode())
            await socket.close()
            return socket
        try:
            code = await _run(socket, process, has_stdin=has_stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await _send(socket, _ERROR, json.dumps(_result(code)).encode())
        await socket.close()
        return socket


async def _run(socket: web.WebSocketResponse, process: Process, *, has_stdin: bool) -> int:
    """Forward the streams of a process until it exits. Terminate it if the client disconnects."""
    incoming = asyncio.create_task(_pump_in(socket, process, has_stdin=has_stdin))
    outgoing = asyncio.gather(
        _pump_out(socket, process.stdout, _STDOUT), _pump_out(socket, process.stderr, _STDERR)
    )
    try:
        await outgoing
        return await process.wait()
    finally:
        incoming.cancel()
        outgoing.cancel()


async def _pump_out(socket: web.WebSocketResponse, stream: asyncio.StreamReader | None, channel: int) -> None:
    while stream is not None and (data := await stream.read(_CHUNK)):
        await _send(socket, channel, data)


async def _pump_in(socket: web.WebSocketResponse, process: Process, *, has_stdin: bool) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not has_stdin or process.stdin is None:
            continue
        if message.data[0] == _STDIN:
            process.stdin.write(message.data[1:])
            await process.stdin.drain()
        elif message.data[0] == _CLOSE and message.data[1] == _STDIN:
            process.stdin.close()
    if process.returncode is None:
        process.terminate()  # the client disconnected


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    if not socket.closed:
        await socket.send_bytes(bytes([channel]) + data)


def _result(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    code = 128 - code if code < 0 else code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _not_started(program: str, error: OSError) -> Object:
    why = "executable file not found in $PATH" if isinstance(error, FileNotFoundError) else str(error)
    message = f'error executing command in container: failed to exec: exec: "{program}": {why}: unknown'
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def _container(pod: Object, name: str | None) -> Object:
    meta, spec = pod["metadata"], pod["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    if not name:
        if len(spec["containers"]) == 1:
            only: Object = spec["containers"][0]
            return only
        names = " ".join(one["name"] for one in spec["containers"])
        init = " ".join(one["name"] for one in spec.get("initContainers", []))
        more = f" or one of the init containers: [{init}]" if init else ""
        raise bad_request(
            f"a container name must be specified for pod {meta['name']}, choose one of: [{names}]{more}"
        )
    found: Object | None = next((one for one in containers if one["name"] == name), None)
    if found is None:
        raise bad_request(f"container {name} is not valid for pod {meta['name']}")
    return found


def _state(pod: Object, container: Object) -> Object:
    status = pod.get("status", {})
    known = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    state: Object = next((one["state"] for one in known if one["name"] == container["name"]), {})
    return state


def _check_started(pod: Object, container: Object) -> None:
    """Refuse logs of a container that has not started."""
    reason = _state(pod, container).get("waiting", {}).get("reason")
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    if reason in _NOT_STARTED:
        name, why = pod["metadata"]["name"], _NOT_STARTED[reason]
        raise bad_request(f'container "{container["name"]}" in pod "{name}" is waiting to start: {why}')


def _check_running(pod: Object, container: Object) -> None:
    if "running" not in _state(pod, container):
        raise StatusError(500, "InternalError", f'container not found ("{container["name"]}")')
