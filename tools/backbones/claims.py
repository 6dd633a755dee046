"""One line a claim: what was measured, what was promised, and whether it holds."""


class Claims:
    """Prints each claim as it is judged and counts those that do not hold."""

    def __init__(self):
        self.broken = 0

    def judge(self, holds: bool, claim: str, measured: str) -> None:
        """Print one line and remember a claim that does not hold."""
        self.broken += not holds
        print(f"{'holds' if holds else 'BROKEN':7} {claim}: {measured}", flush=True)

    def near(self, value: float, stated: float, tolerance: float, claim: str) -> None:
        """Judge an accuracy against the one a card states, in percent; better is no breach."""
        self.judge(value >= stated - tolerance, f"{claim} (card: {stated:.1f})", f"{value:.1f}")
