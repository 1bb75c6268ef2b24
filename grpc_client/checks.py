"""Sums up what a run's calls were checked for: which checks all passed, which some failed, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation, Mismatch, looked_at
from grpc_client.hints import advise

# Texts of failures can differ from call to call; so many different ones are kept of each check.
_MOST_REASONS = 100


@dataclass(frozen=True)
class Row:
    """How one check went over all calls."""

    check: Check
    calls: int
    """Of how many calls it could tell anything."""
    failed: int
    """How many of them failed it."""
    text: str = ""
    """What was wrong most often."""
    advice: str = ""
    """What to do about that."""


@dataclass
class Checks:
    """The checks of a run's calls, as they come in."""

    expected: Expectation
    calls: int = 0
    _seen: Counter[Check] = field(default_factory=Counter)
    _failed: Counter[Check] = field(default_factory=Counter)
    _reasons: dict[Check, Counter[str]] = field(default_factory=dict)
    _advice: dict[tuple[Check, str], str] = field(default_factory=dict)

    def add(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        """Counts one more call, with what was found wrong with it."""
        self.calls += 1
        failed = {mismatch.check for mismatch in found}
        self._seen.update(looked_at(outcome, self.expected) | failed)
        self._failed.update(failed)
        for mismatch in found:
            reasons = self._reasons.setdefault(mismatch.check, Counter())
            if mismatch.text not in reasons:
                if len(reasons) == _MOST_REASONS:
                    continue
                self._advice[mismatch.check, mismatch.text] = advise(mismatch.check, outcome, self.expected)
            reasons[mismatch.text] += 1

    def rows(self) -> list[Row]:
        """One for each check that was asked for."""
        wanted = [check for check in Check if check is not Check.SIDECARS or self.expected.sidecars]
        return [self._row(check) for check in wanted]

    def _row(self, check: Check) -> Row:
        reasons = self._reasons.get(check)
        if not reasons:
            return Row(check, self._seen[check], 0)
        ((text, _),) = reasons.most_common(1)
        return Row(check, self._seen[check], self._failed[check], text, self._advice[check, text])
