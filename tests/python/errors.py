"""The form every error takes, whatever went wrong."""

KEYS = {"message", "type", "param", "code", "request_id"}

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


def assert_error(response, status, code=None, param=None, says=None):
    """Checks status, keys, type and request id, and where given, code, field and a part of the message."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == KEYS, error
    assert error["type"] == TYPES.get(status, "invalid_request_error"), error
    assert error["message"], error
    assert error["request_id"] == response.headers["x-request-id"], error
    if code is not None:
        assert error["code"] == code, error
    if param is not None:
        assert error["param"] == param, error
        assert param in error["message"], error
    if says is not None:
        assert says in error["message"], error
    return error
