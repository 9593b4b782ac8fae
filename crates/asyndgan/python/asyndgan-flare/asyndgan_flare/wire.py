"""How requests and replies travel between the ends of the relay. Their content is opaque here."""

from __future__ import annotations

import grpc

# Cell messages: requests of a site's program, and its exit code.
CHANNEL, EXCHANGE, ENDED = "asyndgan", "exchange", "ended"
METHOD = "/asyndgan.carrier.v1.Relay/Exchange"
# A little more than 1 MiB, the most that the program sends at once. FLARE's default driver closes connections over
# messages of more than 4 MiB.
BYTES_MAX = (1 << 20) + (128 << 10)
# Without enable_http_proxy, gRPC would send a connection to this machine through the proxy of the environment.
OPTIONS = [
    ("grpc.max_send_message_length", BYTES_MAX),
    ("grpc.max_receive_message_length", BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def content(payload: object) -> bytes | None:
    """The bytes of a cell message; none if it has anything else, or too much. The sender chooses what it is decoded to."""
    if isinstance(payload, (bytes, bytearray, memoryview)) and len(payload) <= BYTES_MAX:
        return bytes(payload)
    return None


def succeeded(body: bytes) -> bytes:
    """A reply of the program: its bytes after a zero."""
    return b"\0" + body


def failed(code: grpc.StatusCode, details: str) -> bytes:
    """A gRPC status of the program: its number, and its text."""
    return bytes([code.value[0]]) + details.encode()[:1000]


def opened(payload: object) -> tuple[grpc.StatusCode, bytes]:
    """The status and the rest of what ``succeeded`` or ``failed`` made."""
    reply = content(payload)
    if not reply:
        return grpc.StatusCode.UNAVAILABLE, b"an empty reply"
    return CODES.get(reply[0], grpc.StatusCode.UNKNOWN), reply[1:]
