"""Summarizes the checks over all calls of a run: passed, failed, the most frequent reason, and a hint."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation, Mismatch, coverage, evaluated_checks
from grpc_client.hints import hint

# The texts of failures can differ from call to call. This bounds the different texts kept for each check.
_MAX_REASONS = 100


@dataclass(frozen=True)
class CheckResult:
    """The result of one check over all calls."""

    check: Check
    calls: int
    """How many calls had data for the check."""
    failed: int
    """How many of them failed it."""
    text: str = ""
    """The most frequent mismatch."""
    hint: str = ""
    """How to fix it, "" if that is not known."""


@dataclass
class Checks:
    """The checks of a run, updated with each call."""

    expected: Expectation
    calls: int = 0
    covered: tuple[int, int] | None = None
    """Of the call with the fewest reports: how many hops reported, and how many there are at least."""
    _evaluated: Counter[Check] = field(default_factory=Counter)
    _failed: Counter[Check] = field(default_factory=Counter)
    _reasons: dict[Check, Counter[str]] = field(default_factory=dict)
    _hints: dict[tuple[Check, str], str] = field(default_factory=dict)

    def add(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        """Count one call and its mismatches."""
        self.calls += 1
        if outcome.ok:
            pairs = filter(None, (self.covered, coverage(outcome, self.expected)))
            self.covered = min(pairs, key=lambda pair: pair[0] / pair[1])
        failed = {mismatch.check for mismatch in found}
        self._evaluated.update(evaluated_checks(outcome, self.expected) | failed)
        self._failed.update(failed)
        for mismatch in found:
            reasons = self._reasons.setdefault(mismatch.check, Counter())
            if mismatch.text not in reasons:
                if len(reasons) == _MAX_REASONS:
                    continue
                self._hints[mismatch.check, mismatch.text] = hint(mismatch.check, outcome, self.expected)
            reasons[mismatch.text] += 1

    def results(self) -> list[CheckResult]:
        """Return a result for each check that the expectation requires."""
        required = [check for check in Check if check is not Check.SIDECARS or self.expected.sidecars]
        return [self._result(check) for check in required]

    def _result(self, check: Check) -> CheckResult:
        reasons = self._reasons.get(check)
        if not reasons:
            return CheckResult(check, self._evaluated[check], 0)
        ((text, _),) = reasons.most_common(1)
        return CheckResult(check, self._evaluated[check], self._failed[check], text, self._hints[check, text])
