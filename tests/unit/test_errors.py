import http

import grpc
import pytest

from mlship import errors


@pytest.mark.parametrize("reason", errors.Reason)
def test_every_reason_has_codes_that_exist(reason):
    # 499 is nginx's for a client that went away; no standard code says that.
    assert reason.http_status == 499 or http.HTTPStatus(reason.http_status) >= 400
    assert hasattr(grpc.StatusCode, reason.grpc_code)


def test_an_error_says_what_happened_and_what_to_do():
    error = errors.Overloaded("The queue is full.", hint="Add replicas.", retry_after=1)
    assert str(error) == "The queue is full. Add replicas."
    assert (error.reason, error.reason.http_status, error.retry_after) == (errors.Reason.OVERLOADED, 503, 1)


def test_a_reason_can_be_narrower_than_the_family():
    assert errors.SpecError("x").reason.http_status == 400
    assert errors.SpecError("x", reason=errors.Reason.NOT_FOUND).reason.http_status == 404
