"""Makes text for people and JSON lines for programs from values. Prints nothing."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grpc_client.calls import Outcome
from grpc_client.checks import CheckResult, Checks
from grpc_client.expectation import Check
from grpc_client.plan import CallSpec
from grpc_client.stats import CallStats
from hello_mesh.base.text import LINE_WIDTH, count, excerpt, json_line, table
from hello_mesh.net.pb.landing_pb2 import OK, ResultType, TalkResponse, TalkResult
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import Hop, Role

# The text for a check that all calls passed. A hop that does not report is not covered.
_PASSED = {
    Check.ANSWERS: "all responses complete, in order, with their greetings",
    Check.PATH: "the expected path: reports of {covered}, in order",
    Check.TRACE: "one trace id at {covered}",
    Check.SIDECARS: "a new parent span at {covered}",
    Check.SAMPLED: "the sampled flag at {covered}",
}


def response_text(response: TalkResponse) -> str:
    """Return one line for each result: index, greeting, the server's language, id."""
    return "\n".join(f"  {_result_text(result)}" for result in response.results) or "  (an empty response)"


def outcome_verdict(outcome: Outcome) -> str:
    """Return the verdict on the trace, the id that the client sent if it is another, and the trace id."""
    verdict = outcome.verdict
    lines = [excerpt(verdict.text, 400)]
    if outcome.sent and outcome.sent.trace_id != verdict.trace_id:
        lines.append(f"trace id that the client sent: {outcome.sent.trace_id}")
    trace_id = f"trace id: {excerpt(verdict.trace_id)} " if verdict.trace_id else ""
    return "\n".join([*lines, f"{trace_id}({outcome.duration_ns / 1e6:.1f} ms)"])


def hop_table(hops: Sequence[Hop]) -> str:
    """Return a table with a row for each hop and header family that it saw; "" without hops."""
    if not hops:
        return ""
    rows = [("hop", "trace id", "parent span", "sampled")]
    for hop in hops:
        name = excerpt(hop.name)
        for context, suffix in ((hop.w3c, ""), (hop.b3, " (B3)")):
            if context:
                sampled = {True: "yes", False: "no", None: "-"}[context.sampled] + suffix
                rows.append((name, excerpt(context.trace_id), excerpt(context.span_id), sampled))
                name = ""
        if not (hop.w3c or hop.b3):
            rows.append((name, "-", "-", "-"))
    return table(rows)


def failure_text(outcome: Outcome) -> str:
    """Return one line with the hop, the status and the status text of a failed call."""
    where = "before any hop reported"
    if outcome.hops:
        last = outcome.hops[-1]
        where = f"{'at' if last.role is Role.LAST else 'downstream of'} {excerpt(last.name)}"
    details = excerpt(outcome.details, 300) or "(no text)"
    return f"{outcome.spec.method.rpc} failed {where}: {outcome.code.name}: {details}"


def stats_text(spec: CallSpec, stats: CallStats, seconds: float) -> str:
    """Return the counts, latencies, verdicts and first trace ids of many calls."""
    head = f"{spec.method.rpc}: {count(stats.calls, 'call')}, {count(stats.errors, 'error')}"
    if seconds > 0:
        head += f", {stats.calls / seconds:.0f} calls/s"
    lines = [head]
    lines.append("  ms        " + "  ".join(f"{name} {ms:.1f}" for name, ms in stats.percentiles().items()))
    lines.append("  verdicts  " + _counts_text(stats.verdicts))
    if stats.errors:
        lines.append("  statuses  " + _counts_text(stats.codes))
    labels = ["  traces    ", *[" " * 12] * len(stats.trace_ids)]
    lines += [label + excerpt(trace_id) for label, trace_id in zip(labels, stats.trace_ids, strict=False)]
    if stats.trace_ids and stats.calls > len(stats.trace_ids):
        lines.append(f"{' ' * 12}… --output json shows all {stats.calls} trace ids")
    return "\n".join(lines)


def checks_text(checks: Checks) -> str:
    """Return a line for each check; for a failed one also the reason and a hint."""
    results = checks.results()
    succeeded = any(result.calls for result in results if result.check is Check.PATH)
    missing = "no data in the hop reports" if succeeded else "no successful call"
    reported, hops = checks.covered or (0, 0)
    covered = f"{reported} of {count(hops, 'hop')}"
    lines = [line for result in results for line in _check_lines(result, missing, covered)]
    return "\n".join([f"checks of {count(checks.calls, 'call')}", *lines])


def response_json(number: int, spec: CallSpec, response: TalkResponse) -> str:
    """Return one response as a JSON line."""
    results = [
        {"id": result.id, "type": _type_name(result), "kv": dict(result.kv)} for result in response.results
    ]
    return _event_line("answer", call=number, rpc=spec.method.rpc, status=response.status, results=results)


def call_json(record: CallRecord) -> str:
    """Return the result of one call as a JSON line."""
    return _event_line("call", **record.to_json())


def stats_json(spec: CallSpec, stats: CallStats, seconds: float) -> str:
    """Return the counts of many calls as a JSON line."""
    return _event_line(
        "summary",
        rpc=spec.method.rpc,
        calls=stats.calls,
        errors=stats.errors,
        seconds=round(seconds, 3),
        ms={name: round(ms, 3) for name, ms in stats.percentiles().items()},
        verdicts=dict(stats.verdicts),
        codes=dict(stats.codes),
    )


def checks_json(checks: Checks) -> str:
    """Return the results of all checks as a JSON line."""
    results = [
        {
            "check": result.check,
            "calls": result.calls,
            "failed": result.failed,
            "text": result.text,
            "advice": result.hint,
        }
        for result in checks.results()
    ]
    reported, hops = checks.covered or (0, 0)
    covered = {"reported": reported, "hops": hops}
    return _event_line("checks", calls=checks.calls, covered=covered, checks=results)


def _check_lines(result: CheckResult, missing: str, covered: str) -> Iterator[str]:
    if not result.failed:
        passed = _PASSED[result.check].format(covered=covered)
        state, text = ("ok", passed) if result.calls else ("-", f"not checked: {missing}")
        yield f"  {state:<8}{result.check:<10}{text}"
        return
    indent = " " * 20
    wrapper = textwrap.TextWrapper(LINE_WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    yield from wrapper.wrap(f"  FAILED  {result.check:<10}{result.failed} of {result.calls}: {result.text}")
    if result.hint:
        yield from wrapper.wrap(f"{indent}→ {result.hint}")


def _event_line(event: str, **values: Any) -> str:
    return json_line({"event": event, **values})


def _result_text(result: TalkResult) -> str:
    kv = {key: excerpt(value) for key, value in result.kv.items()}
    text = f"{kv.get('idx', '')}  {kv.get('data', '')}  {kv.get('meta', '')}  {kv.get('id', '')}"
    return text if result.type == OK else f"{text}  {_type_name(result)}"


def _type_name(result: TalkResult) -> str:
    # A server of another version may know more types.
    return ResultType.Name(result.type) if result.type in ResultType.values() else str(result.type)


def _counts_text(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
