"""What a check found: a verdict, what was seen, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is. WARNING: peerd works, and less well than it could, or not for long. FAILED: something does not work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.

    Attributes:
        subject: what was looked at, e.g. `config_path`.
        verdict: how it is.
        seen: what was seen, a clause.
        advice: what to do, an imperative; None where nothing is to be done, or `seen` says it.
        lines: what to write somewhere, as `advice` says, word for word.
    """

    subject: str
    verdict: Verdict
    seen: str
    advice: str | None = None
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        lines = "".join(f"\n             {line}" for line in self.lines)
        return f"{self.verdict:<7}  {self.subject}: {self.seen}{advice}{lines}"


def ok(subject: str, seen: str) -> Finding:
    """All is well."""
    return Finding(subject, Verdict.OK, seen)


def warning(subject: str, seen: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(subject, Verdict.WARNING, seen, advice)


def failed(subject: str, seen: str, advice: str | None, *lines: str) -> Finding:
    """It does not work."""
    return Finding(subject, Verdict.FAILED, seen, advice, lines)
