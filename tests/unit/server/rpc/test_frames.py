from __future__ import annotations

from mlship.server.rpc import frames


def test_frames_are_laid_out_as_the_rfc_has_them() -> None:
    assert frames.frame(frames.DATA, frames.END_STREAM, 3, b"hi") == b"\x00\x00\x02\x00\x01\x00\x00\x00\x03hi"
    assert frames.head(frames.HEADERS, 0, 2**31 - 1, 0x012345)[:3] == b"\x01\x23\x45"
    assert frames.window_update(0, 7) == b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x07"
    assert frames.reset(1, frames.Code.CANCEL)[9:] == b"\x00\x00\x00\x08"
    assert frames.goaway(5, frames.Code.NO_ERROR, b"bye")[9:] == b"\x00\x00\x00\x05\x00\x00\x00\x00bye"


def test_settings_are_read_as_they_are_written() -> None:
    given = {frames.Setting.MAX_FRAME: 70_000, frames.Setting.INITIAL_WINDOW: 2**31 - 1}
    assert dict(frames.read_settings(frames.settings(given)[9:])) == given


def test_the_reserved_bit_of_a_number_means_nothing() -> None:
    assert frames.number(b"\xff\xff\xff\xff") == 2**31 - 1
