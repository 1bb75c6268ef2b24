"""Watches, which stream the changes of matching objects."""

import asyncio
import json
from collections.abc import AsyncIterator

from aiohttp import web

from apiserver.incoming import Target
from apiserver.kinds import Object
from apiserver.selectors import Matches
from apiserver.store import Change, Store
from apiserver.tables import table

_INITIAL_END = "k8s.io/initial-events-end"


async def watch(
    request: web.Request, store: Store, target: Target, matches: Matches, *, as_table: bool
) -> web.StreamResponse:
    """Stream changes until the client disconnects or the timeout ends."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    seconds = float(request.query.get("timeoutSeconds", "1800"))
    try:
        async with asyncio.timeout(seconds):
            async for kind, one, version in _events(request, store, target, matches):
                shown = table(target.resource, [one], version) if as_table and kind != "BOOKMARK" else one
                await response.write(json.dumps({"type": kind, "object": shown}).encode() + b"\n")
    except TimeoutError:
        pass
    return response


async def _events(
    request: web.Request, store: Store, target: Target, matches: Matches
) -> AsyncIterator[tuple[str, Object, str]]:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Change]()

    def listener(change: Change) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, change)

    requested = request.query.get("resourceVersion", "0")
    from_now = requested in {"", "0"} or request.query.get("sendInitialEvents") == "true"
    with store.lock:
        present = store.objects(target.resource, target.namespace) if from_now else []
        missed = store.since(store.version if from_now else int(requested), listener)
        version = str(store.version)
    try:
        for one in present:
            if matches(one):
                yield "ADDED", _shown(target, one), version
        if request.query.get("sendInitialEvents") == "true":
            yield "BOOKMARK", _bookmark(target, version), version
        for change in missed:
            if event := _event(change, target, matches):
                yield event
        while True:
            if event := _event(await queue.get(), target, matches):
                yield event
    finally:
        store.forget(listener)


def _event(change: Change, target: Target, matches: Matches) -> tuple[str, Object, str] | None:
    """Return the event of a change, or None. An object that no longer matches is DELETED."""
    namespace = change.last["metadata"].get("namespace", "")
    if change.resource.full_name != target.resource.full_name or target.namespace not in {"", namespace}:
        return None
    was = change.before is not None and matches(change.before)
    is_now = change.after is not None and matches(change.after)
    if not was and not is_now:
        return None
    kind = "MODIFIED" if was and is_now else "ADDED" if is_now else "DELETED"
    return kind, _shown(target, change.last), str(change.version)


def _shown(target: Target, one: Object) -> Object:
    return {**one, "apiVersion": target.resource.api_version(target.version)}


def _bookmark(target: Target, version: str) -> Object:
    return {
        "kind": target.resource.kind,
        "apiVersion": target.resource.api_version(target.version),
        "metadata": {"resourceVersion": version, "annotations": {_INITIAL_END: "true"}},
    }
