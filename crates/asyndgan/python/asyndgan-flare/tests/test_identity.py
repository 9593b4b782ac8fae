"""Which site a message is from."""

from __future__ import annotations

import grpc
import pytest
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.private.defs import CellMessageHeaderKeys

from asyndgan_flare.server import sender
from asyndgan_flare.wire import BYTES_MAX, content, failed, opened, succeeded

SITES = {"site-1", "site-2"}


def headers(name: str | None, origin: str | None) -> dict[str, str | None]:
    return {CellMessageHeaderKeys.CLIENT_NAME: name, MessageHeaderKey.ORIGIN: origin}


def test_both_headers_name_the_site() -> None:
    assert sender(headers("site-1", "site-1.job"), SITES, simulated=False) == "site-1"
    # Behind a relay of FLARE's own.
    assert sender(headers("site-1", "relay-1.site-1.job"), SITES, simulated=False) == "site-1"


@pytest.mark.parametrize(
    ("name", "origin"),
    [("site-1", "site-2.job"), ("site-2", "site-1.job"), (None, "site-1.job"), ("site-1", None), ("site-3", "site-3.job"), ("", "")],
)
def test_headers_that_differ_or_name_no_participant_are_refused(name: str | None, origin: str | None) -> None:
    assert sender(headers(name, origin), SITES, simulated=False) is None


def test_the_simulator_has_no_certificates() -> None:
    assert sender(headers(None, "site-1"), SITES, simulated=True) == "site-1"
    assert sender(headers(None, "site-3"), SITES, simulated=True) is None


def test_replies_and_statuses_pass_through() -> None:
    assert opened(succeeded(b"\1\2")) == (grpc.StatusCode.OK, b"\1\2")
    assert opened(failed(grpc.StatusCode.PERMISSION_DENIED, "no")) == (grpc.StatusCode.PERMISSION_DENIED, b"no")
    assert opened(b"")[0] == grpc.StatusCode.UNAVAILABLE
    assert opened(b"\xff")[0] == grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("payload", [5_000_000, None, "text", [1], b"x" * (BYTES_MAX + 1)])
def test_messages_that_are_no_bytes_or_too_many_are_refused(payload: object) -> None:
    assert content(payload) is None
    assert opened(payload)[0] == grpc.StatusCode.UNAVAILABLE


def test_bytes_of_any_kind_are_read() -> None:
    assert content(bytearray(b"ab")) == content(memoryview(b"ab")) == content(b"ab") == b"ab"
