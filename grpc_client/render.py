"""Values → text for people, or JSON lines for programs. Prints nothing."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grpc_client.calls import Outcome
from grpc_client.checks import Checks, Row
from grpc_client.expectation import Check, Mismatch
from grpc_client.plan import Talk
from grpc_client.stats import Tally
from hello_mesh.base.text import excerpt, json_line
from hello_mesh.net.pb.landing_pb2 import OK, ResultType, TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role

_WIDTH = 80

# What it says of the calls that a check passed.
_PASSED = {
    Check.ANSWERS: "as asked",
    Check.WAY: "by the expected hops, in order",
    Check.TRACE: "one trace id at every hop",
    Check.SIDECARS: "another parent span at every hop: a sidecar before each",
    Check.SAMPLED: "the mesh records the trace",
}


def answer_text(answer: TalkResponse) -> str:
    """One line for each result: index, greeting, the server's language, its id."""
    return "\n".join(f"  {_result_text(result)}" for result in answer.results) or "  (an empty answer)"


def verdict(outcome: Outcome) -> str:
    """What became of the trace, in a line, and below it the trace id to look up and how long it took."""
    verdict = outcome.verdict
    trace_id = f"trace id: {excerpt(verdict.trace_id)} " if verdict.trace_id else ""
    return f"{excerpt(verdict.text, 300)}\n{trace_id}({outcome.seconds * 1000:.1f} ms)"


def hop_table(hops: Sequence[Hop]) -> str:
    """A line for each hop and header family that it saw, aligned under a headline; "" without hops."""
    if not hops:
        return ""
    rows = [("hop", "trace id", "parent span", "sampled")]
    for hop in hops:
        name = excerpt(hop.name)
        if hop.w3c:
            sampled = {True: "yes", False: "no", None: "-"}[hop.w3c.sampled]
            rows.append((name, excerpt(hop.w3c.trace_id), excerpt(hop.w3c.span_id), sampled))
            name = ""
        if hop.b3:
            rows.append((name, excerpt(hop.b3.trace_id), excerpt(hop.b3.span_id), "(B3)"))
        if not (hop.w3c or hop.b3):
            rows.append((name, "-", "-", "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def failure(outcome: Outcome) -> str:
    """One line: which hop failed, with which status and text."""
    where = "before any hop could report"
    if outcome.hops:
        last = outcome.hops[-1]
        where = f"{'at' if last.role is Role.LAST else 'behind'} {excerpt(last.name)}"
    details = excerpt(outcome.details, 300) or "(no text)"
    return f"{outcome.talk.pattern.rpc} failed {where}: {outcome.code.name}: {details}"


def tally_text(talk: Talk, tally: Tally, seconds: float) -> str:
    """Calls, errors, latencies and verdicts of many calls."""
    lines = [f"{talk.pattern.rpc}: {tally.calls} calls, {tally.errors} errors"]
    if seconds > 0:
        lines[0] += f", {tally.calls / seconds:.0f} calls/s"
    lines.append("  ms        " + "  ".join(f"{name} {ms:.1f}" for name, ms in tally.percentiles().items()))
    lines.append("  verdicts  " + _counts(tally.verdicts))
    if tally.errors:
        lines.append("  statuses  " + _counts(tally.codes))
    heads = ["  traces    ", *[" " * 12] * len(tally.trace_ids)]
    lines += [head + excerpt(trace_id) for head, trace_id in zip(heads, tally.trace_ids, strict=False)]
    if tally.trace_ids and tally.calls > len(tally.trace_ids):
        lines.append(f"{' ' * 12}… those of all {tally.calls} calls: --record FILE")
    return "\n".join(lines)


def checks_text(checks: Checks) -> str:
    """A line for each check, and below those that calls failed, why and what to do."""
    head = "checks of 1 call" if checks.calls == 1 else f"checks of {checks.calls} calls"
    return "\n".join([head, *(line for row in checks.rows() for line in _check_lines(row))])


def answer_json(number: int, talk: Talk, answer: TalkResponse) -> str:
    """One answer as a JSON line."""
    results = [
        {"id": result.id, "type": _type_name(result), "kv": dict(result.kv)} for result in answer.results
    ]
    return _line("answer", call=number, rpc=talk.pattern.rpc, status=answer.status, results=results)


def outcome_json(outcome: Outcome, mismatches: Sequence[Mismatch]) -> str:
    """How one call went, as a JSON line."""
    verdict = outcome.verdict
    return _line(
        "call",
        call=outcome.number,
        rpc=outcome.talk.pattern.rpc,
        code=outcome.code.name,
        status=outcome.code.value[0],
        details=outcome.details,
        ms=round(outcome.seconds * 1000, 3),
        trace_id=verdict.trace_id,
        sent_trace_id=outcome.sent_trace_id,
        verdict={"kind": verdict.kind, "hop": verdict.hop, "text": verdict.text},
        hops=[hop.to_pairs() for hop in outcome.hops],
        mismatches=[mismatch.text for mismatch in mismatches],
    )


def tally_json(talk: Talk, tally: Tally, seconds: float) -> str:
    """The counts of many calls, as a JSON line."""
    return _line(
        "summary",
        rpc=talk.pattern.rpc,
        calls=tally.calls,
        errors=tally.errors,
        seconds=round(seconds, 3),
        ms={name: round(ms, 3) for name, ms in tally.percentiles().items()},
        verdicts=dict(tally.verdicts),
        codes=dict(tally.codes),
    )


def checks_json(checks: Checks) -> str:
    """The same as a JSON line."""
    rows = [
        {"check": row.check, "calls": row.calls, "failed": row.failed, "text": row.text, "advice": row.advice}
        for row in checks.rows()
    ]
    return _line("checks", calls=checks.calls, checks=rows)


def _check_lines(row: Row) -> Iterator[str]:
    if not row.failed:
        state, text = ("ok", _PASSED[row.check]) if row.calls else ("-", "not to be told from these calls")
        yield f"  {state:<8}{row.check:<10}{text}"
        return
    indent = " " * 20
    wrap = textwrap.TextWrapper(_WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    yield from wrap.wrap(f"  FAILED  {row.check:<10}{row.failed} of {row.calls}: {row.text}")
    yield from wrap.wrap(f"{indent}→ {row.advice}")


def _line(event: str, **values: Any) -> str:
    return json_line({"event": event, **values})


def _result_text(result: TalkResult) -> str:
    kv = {key: excerpt(value) for key, value in result.kv.items()}
    text = f"{kv.get('idx', '')}  {kv.get('data', '')}  {kv.get('meta', '')}  {kv.get('id', '')}"
    return text if result.type == OK else f"{text}  {_type_name(result)}"


def _type_name(result: TalkResult) -> str:
    # A server of another version may know more types.
    return ResultType.Name(result.type) if result.type in ResultType.values() else str(result.type)


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
