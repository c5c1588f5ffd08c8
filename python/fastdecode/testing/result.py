"""What a check of a sampler says."""

from dataclasses import dataclass


class CheckFailed(AssertionError):
    """A sampler failed a check; the message is the check's explanation."""


@dataclass(frozen=True)
class Result:
    """The outcome of a check; true where the sampler passed.

    Attributes
    ----------
    check : str
        Which check it was.
    passed : bool
    explanation : str
        One sentence: what was seen.
    draws : int
        Tokens (or tickets) looked at. A check that fails stops early.
    false_alarm : float
        The probability with which a right sampler fails this check, at most. 0 for checks that
        compare one thing with another.
    log_evidence : float
        For `check_fit`: ln of the evidence against the expected probabilities, which exceeds
        ln(1 / false_alarm) where it fails. 0 for others.
    """

    check: str
    passed: bool
    explanation: str
    draws: int = 0
    false_alarm: float = 0.0
    log_evidence: float = 0.0

    def __bool__(self) -> bool:
        """Whether the sampler passed."""
        return self.passed

    def __str__(self) -> str:
        """The outcome as a line to read."""
        return f"{self.check}: {'passed' if self.passed else 'FAILED'}: {self.explanation}"

    def require(self) -> "Result":
        """Raise `CheckFailed` unless it passed; gives itself back."""
        if not self.passed:
            raise CheckFailed(str(self))
        return self
