"""What the long tests share with the quick ones: running servers."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from service import Service  # noqa: E402


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """A server with default options."""
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path_factory):
    """Starts servers with options of their own; stopped and checked when the test ends."""
    running = []

    def start_service(*flags, **options):
        running.append(Service(tmp_path_factory.mktemp("service"), *flags, **options))
        return running[-1]

    yield start_service
    for started in running:
        started.stop()
