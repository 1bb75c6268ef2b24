"""The HTTP interface: paths, bodies, watches."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml
from aiohttp import web

from apiserver import discovery, errors
from apiserver.api import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Api
from apiserver.errors import StatusError
from apiserver.faults import Faults, RecordedRequest
from apiserver.incoming import Options, Target
from apiserver.kinds import Object, Served
from apiserver.selectors import Matches, selected
from apiserver.streams import Streams
from apiserver.tables import ACCEPT, table
from apiserver.watching import watch

_FORMATS = {"application/json", "application/yaml", JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH}
_SILENCE_SECONDS = 0.05
_MAX_BODY = 4 * 1024 * 1024


@dataclass
class Server:
    """Serves requests and records them."""

    api: Api
    served: Served
    streams: Streams
    faults: Faults = field(default_factory=Faults)
    requests: list[RecordedRequest] = field(default_factory=list)

    def application(self) -> web.Application:
        """Return the application for aiohttp."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        agent = request.headers.get("User-Agent", "")
        recorded = RecordedRequest(request.method, request.path, dict(request.query), agent)
        self.requests.append(recorded)
        while self.faults.is_silent(recorded):
            await asyncio.sleep(_SILENCE_SECONDS)
        try:
            self.faults.check(recorded)
            response = await self._respond(request, recorded)
        except StatusError as error:
            response = _json(error.body, status=error.code)
        recorded.status = response.status
        return response

    async def _respond(self, request: web.Request, recorded: RecordedRequest) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if target := self._target(parts):
            return await self._on_objects(request, target, recorded)
        discovered = self._discovery(parts, request.headers.get("Accept", ""))
        if discovered is not None:
            return discovered
        if parts[:1] in (["api"], ["apis"]) and len(parts) > 2:
            raise errors.no_such_path()
        return web.Response(status=404, text="404 page not found\n")

    def _target(self, parts: list[str]) -> Target | None:
        """Parse a path: [/api/VERSION | /apis/GROUP/VERSION][/namespaces/NS]/PLURAL[/NAME[/SUB]]."""
        group, prefix = ("", 2) if parts[:1] == ["api"] else ("/".join(parts[1:2]), 3)
        if parts[:1] not in (["api"], ["apis"]) or len(parts) <= prefix:
            return None
        version, rest, namespace = parts[prefix - 1], parts[prefix:], ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        resource = self.served.find(group, version, rest[0])
        if resource is None:
            return None
        return Target(resource, version, namespace, *rest[1:3])

    def _discovery(self, parts: list[str], accept: str) -> web.Response | None:
        if parts in (["readyz"], ["livez"], ["healthz"]):
            return web.Response(text="ok")
        if parts == ["version"]:
            return _json(discovery.VERSION)
        if parts in (["api"], ["apis"]) and "APIGroupDiscoveryList" in accept:
            body = discovery.aggregated(self.served, core=parts == ["api"])
            return web.Response(text=json.dumps(body), headers={"Content-Type": discovery.AGGREGATED})
        found = self._described(parts)
        return None if found is None else _json(found)

    def _described(self, parts: list[str]) -> Object | None:
        if parts[:2] == ["openapi", "v3"]:
            group_version = _group_version(parts[2:])
            if len(parts) == 2:
                return discovery.openapi_index(self.served)
            return discovery.openapi(self.served, *group_version) if group_version else None
        if parts in (["api"], ["apis"]):
            return discovery.api_versions() if parts == ["api"] else discovery.api_groups(self.served)
        if parts[:1] == ["apis"] and len(parts) == 2:
            return discovery.api_group(self.served, parts[1])
        group_version = _group_version(parts)
        return discovery.api_resources(self.served, *group_version) if group_version else None

    async def _on_objects(
        self, request: web.Request, target: Target, recorded: RecordedRequest
    ) -> web.StreamResponse:
        if target.subresource == "log":
            return await self.streams.log(request, self.api.get(target))
        if target.subresource == "exec":
            return await self.streams.execute(request, self.api.get(target))
        if target.subresource and target.subresource not in target.resource.subresources:
            raise errors.no_such_path()
        if request.method == "GET":
            return await self._read(request, target, recorded)
        return await self._change(request, target)

    async def _read(
        self, request: web.Request, target: Target, recorded: RecordedRequest
    ) -> web.StreamResponse:
        as_table = ACCEPT in request.headers.get("Accept", "")
        query = request.query
        if target.name and target.subresource == "scale":
            return _json(_scale(self.api.get(target)))
        if target.name:
            one = self.api.get(target)
            version = one["metadata"]["resourceVersion"]
            return _json(table(target.resource, [one], version) if as_table else one)
        matches = selected(
            target.resource.kind, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        if query.get("watch") in {"1", "true"}:
            recorded.status = 200  # before the stream ends
            return await watch(request, self.api.store, target, matches, as_table=as_table)
        return _json(self._listed(target, matches, as_table=as_table))

    def _listed(self, target: Target, matches: Matches, *, as_table: bool) -> Object:
        with self.api.store.lock:
            found = [one for one in self.api.objects(target) if matches(one)]
            version = str(self.api.store.version)
        if as_table:
            return table(target.resource, found, version)
        for one in found:
            if not target.resource.custom:
                one.pop("kind"), one.pop("apiVersion")
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.resource.api_version(target.version),
            "metadata": {"resourceVersion": version},
            "items": found,
        }

    async def _change(self, request: web.Request, target: Target) -> web.Response:
        if request.can_read_body and request.content_type not in _FORMATS:
            raise errors.unknown_format()
        body = _parsed(await request.text())
        options = _options(request)
        status, changed = self._changed(request, target, body, options)
        response = _json(changed, status)
        for warning in options.warnings:
            response.headers.add("Warning", f"299 - {json.dumps(warning)}")
        return response

    def _changed(
        self, request: web.Request, target: Target, body: Any, options: Options
    ) -> tuple[int, Object]:
        if request.method == "POST" and not target.name:
            return 201, self.api.create(target, body, options)
        if request.method == "DELETE":
            return 200, self._delete(request, target, body or {}, options)
        if target.subresource == "scale":
            return 200, self._set_scale(request, target, body, options)
        if request.method == "PUT":
            return 200, self.api.update(target, body, options)
        if request.method == "PATCH":
            changed, created = self.api.patch(target, request.content_type, body, options)
            return 201 if created else 200, changed
        message = "the server does not allow this method on the requested resource"
        raise StatusError(405, "MethodNotAllowed", message, {})

    def _set_scale(self, request: web.Request, target: Target, body: Object, options: Options) -> Object:
        if "replicas" not in body.get("spec", {}):
            raise errors.bad_request(f"{request.method} of a scale without replicas")
        patch = {"spec": {"replicas": body["spec"]["replicas"]}}
        return _scale(self.api.patch(target, MERGE_PATCH, patch, options)[0])

    def _delete(self, request: web.Request, target: Target, body: Object, options: Options) -> Object:
        if target.name:
            return self.api.delete(target, body, options)
        query = request.query
        matches = selected(
            target.resource.kind, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        removed = [one for one in self.api.objects(target) if matches(one)]
        for one in removed:
            meta = one["metadata"]
            each = Target(target.resource, target.version, meta.get("namespace", ""), meta["name"])
            with contextlib.suppress(StatusError):  # deleted in the meantime
                self.api.delete(each, body, options)
        return {"kind": f"{target.resource.kind}List", "apiVersion": "v1", "metadata": {}, "items": removed}


def _group_version(parts: list[str]) -> tuple[str, str] | None:
    """Return the group and version of api/VERSION or apis/GROUP/VERSION."""
    if parts[:1] == ["api"] and len(parts) == 2:
        return "", parts[1]
    return (parts[1], parts[2]) if parts[:1] == ["apis"] and len(parts) == 3 else None


def _json(body: Any, status: int = 200) -> web.Response:
    """Return compact JSON, as a real server does: the scripts search for texts in it."""
    return web.json_response(body, status=status, dumps=partial(json.dumps, separators=(",", ":")))


def _options(request: web.Request) -> Options:
    query: Mapping[str, str] = request.query
    applies = request.content_type == APPLY_PATCH
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Options(
        manager=query.get("fieldManager") or ("unknown" if applies else agent),
        force=query.get("force") == "true",
        dry_run="dryRun" in query,
        validation=query.get("fieldValidation", "Warn"),
    )


def _parsed(text: str) -> Any:
    """Parse a body as JSON or YAML.

    Raises:
        StatusError: it is neither.
    """
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from error


def _scale(one: Object) -> Object:
    meta = {k: v for k, v in one["metadata"].items() if k in {"name", "namespace", "uid", "resourceVersion"}}
    selector = one["spec"]["selector"].get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": one["spec"]["replicas"]},
        "status": {
            "replicas": one.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in selector.items()),
        },
    }
