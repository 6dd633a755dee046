"""What all tests share: running servers, and a network that ends at this machine."""

import socket

import pytest
import small_models
from service import Service

# Quick ones first, so that a broken build is known early; then those that take long, so that none of them is left to the end, when
# one of two processes has nothing else to do.
ORDER = [
    "test_deployment", "test_kubernetes", "test_openai_client", "test_openai_errors", "test_litellm", "test_langchain", "test_llama_index",
    "test_hugging_face",
    "test_durability", "test_schema", "test_full_disk", "test_retention", "test_fine_tuning", "test_backup", "test_requantised", "test_export",
    "test_robustness", "test_webhooks", "test_command_line", "test_tls", "test_traces", "test_overload", "test_loading", "test_pull",
    "test_hostile_bodies",
    "test_words", "test_import", "test_open_inference", "test_several_labels", "test_classifier_clients", "test_few_shot", "test_gate",
    "test_two_workers", "test_keys", "test_cors", "test_dirty_uploads", "test_reference_images", "test_image_graphs", "test_reference_texts",
    "test_prompts", "test_batch_invariance", "test_sounds", "test_mel_front_end", "test_cross_encoders", "test_two_towers",
    "test_folders_without_manifest", "test_vocabulary", "test_document", "test_readme", "test_untrainable_graphs", "test_zero_shot_golden",
]

LOOPBACK = {"127.0.0.1", "::1", "localhost", "0.0.0.0", None}


def pytest_collection_modifyitems(items):
    known = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: known.get(item.module.__name__, len(known)))


@pytest.fixture(scope="session")
def refused_connections():
    """Connections that some client tried to make to another machine; each is refused."""
    refused = []

    def guarded(original, host_of):
        def call(*arguments, **keywords):
            host = host_of(*arguments, **keywords)
            if host not in LOOPBACK:
                refused.append(host)
                raise OSError(f"the tests make no connection to {host}")
            return original(*arguments, **keywords)

        return call

    def address_host(_, address, *__):
        return address[0] if isinstance(address, tuple) else None

    def looked_up_host(host, *_, **__):
        return host.decode() if isinstance(host, bytes) else host

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name), address_host))
        patch.setattr(socket, "getaddrinfo", guarded(socket.getaddrinfo, looked_up_host))
        for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(proxy, raising=False)
        yield refused


@pytest.fixture(autouse=True)
def only_this_machine(request, refused_connections):
    """Fails a test whose client wanted the internet, even where the client hides the refusal.

    A module whose client cannot be kept from asking names the hosts in `TOLERATED_HOSTS`; they are refused too.
    """
    refused_connections.clear()
    yield
    unexpected = set(refused_connections) - getattr(request.module, "TOLERATED_HOSTS", set())
    assert not unexpected, f"a client tried to reach {unexpected}"


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """A server with default options."""
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def uncached(tmp_path_factory):
    """A server that computes every vector anew."""
    running = Service(tmp_path_factory.mktemp("uncached"), "--cache-bytes", 0)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A server of small models of random weights, whose folders are in `models`."""
    models = small_models.write(tmp_path_factory.mktemp("small-models"))
    running = Service(tmp_path_factory.mktemp("small"), models=models)
    running.models = models
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
