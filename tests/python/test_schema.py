"""Generated requests against the service's own OpenAPI document: no answer breaks it, and none is a server error."""

import collections

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service import IMAGE, TEXT

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

def with_a_model_that_exists(case):
    """Replaces the generated model's name, which would end most requests at 404, in two of three cases."""
    # A deadline of some milliseconds is answered with 504, as it should be.
    if case.headers:
        case.headers.pop("X-Request-Timeout-Ms", None)
    choice = len(repr(case.body)) % 3
    if choice == 2:
        return
    model = (TEXT, IMAGE)[choice]
    if isinstance(case.body, dict) and "model" in case.body:
        case.body = case.body | {"model": model}
    if case.path_parameters:
        for name in ("model", "id"):
            if name in case.path_parameters:
                case.path_parameters[name] = model


SETTINGS = hypothesis.settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_no_request_breaks_the_document_and_some_reach_the_models(service):
    # Most generated requests are refused; those that are not show that what was generated means something.
    statuses = collections.defaultdict(collections.Counter)
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy())
        def each_answer_fits(case):
            with_a_model_that_exists(case)
            response = case.call()
            statuses[case.operation.label][response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        each_answer_fits()
        if operation.label.endswith("/unload"):
            for model in (TEXT, IMAGE):
                assert service.http.post(f"/v1/models/{model}/load").status_code == 200
    for route in ("/v1/embeddings", "/v1/zero-shot", "/v1/similarity", "/v1/rerank", "/hf/{model}"):
        assert statuses[f"POST {route}"][200] > 0, dict(statuses[f"POST {route}"])
