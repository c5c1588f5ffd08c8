"""The outcome of a check of a sampler."""

from dataclasses import dataclass


class CheckFailed(AssertionError):
    """A sampler failed a check; the message is the check's explanation."""


@dataclass(frozen=True)
class Result:
    """The outcome of a check; true where the sampler passed.

    Attributes
    ----------
    check : str
        The name of the check.
    passed : bool
    explanation : str
        What was observed, in one sentence.
    draws : int
        The number of tokens (or tickets) examined. A check that fails stops early.
    false_alarm : float
        The maximum probability with which a correct sampler fails this check; 0 for exact
        comparisons.
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
        """The outcome on one line."""
        return f"{self.check}: {'passed' if self.passed else 'FAILED'}: {self.explanation}"

    def require(self) -> "Result":
        """Raise `CheckFailed` unless the sampler passed; returns the result itself."""
        if not self.passed:
            raise CheckFailed(str(self))
        return self
