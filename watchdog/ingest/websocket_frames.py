"""The WebSocket frames that are read and made without the `websockets` package: texts that are one frame.

Where any frame ends is told as well, so that the package gets all others whole. Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the one in C, if there is one

from watchdog.core.messages import MAX_BODY

WHOLE_TEXT = 0x81
"""First byte of a text that is one frame."""

_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""What stands in place of a length that has so many bytes of its own."""

_MASK_BYTES = 4


def cut(data: bytes, begin: int) -> tuple[int, int]:
    """Where the payload of a client's frame begins and ends; beyond the end of `data` if not all of it is there.

    The payload begins at 0 where the head alone is to be looked at: it is not complete, or says what is not taken (no
    mask, more than `MAX_BODY` bytes).
    """
    head = begin + 2
    if head > len(data):
        return 0, head
    length = data[begin + 1] - _MASKED
    if length < 0:
        return 0, head
    if length >= _TWO_BYTES:
        begin, head = head, head + (2 if length < _EIGHT_BYTES else 8)
        if head > len(data):
            return 0, head
        length = int.from_bytes(data[begin:head], "big")
        if length > MAX_BODY:
            return 0, head
    head += _MASK_BYTES
    return head, head + length


def unmasked(data: bytes, begin: int, end: int) -> bytes:
    """A payload, before which its mask stands."""
    text: bytes = apply_mask(data[begin:end], data[begin - _MASK_BYTES : begin])
    return text


def framed(text: bytes) -> bytes:
    """A text of less than 64 KiB as the server sends it."""
    length = len(text)
    if length < _TWO_BYTES:
        return b"%c%c%b" % (WHOLE_TEXT, length, text)
    return b"%c%c%b%b" % (WHOLE_TEXT, _TWO_BYTES, length.to_bytes(2, "big"), text)
