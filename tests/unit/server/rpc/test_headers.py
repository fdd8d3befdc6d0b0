from __future__ import annotations

import random

import hpack
import pytest

from mlship.server.rpc import headers


def read(decoder: headers.Decoder, block: bytes) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in decoder.decode(block).items()}


@pytest.mark.parametrize("huffman", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_read_as_the_library_reads_them(seed: int, huffman: bool) -> None:
    rng = random.Random(seed)
    encoder, decoder, theirs = hpack.Encoder(), headers.Decoder(), hpack.Decoder()
    names = [":path", "te", "content-type", "x-request-id", "grpc-timeout", "n" * 200]
    for turn in range(300):
        chosen = rng.sample(names, rng.randint(1, len(names)))
        given = [(name, rng.choice(["a", "trailers", "v" * rng.randint(0, 3000), str(turn)])) for name in chosen]
        if rng.random() < 0.05:
            encoder.header_table_size = rng.choice([0, 100, 4096])
        block = encoder.encode(given, huffman=huffman)
        assert read(decoder, block) == dict(theirs.decode(block)) == dict(given)


def test_the_same_block_is_read_once_and_anew_when_the_table_has_changed() -> None:
    encoder, decoder = hpack.Encoder(), headers.Decoder()
    decoder.decode(encoder.encode([("x-a", "1")]))
    again = encoder.encode([("x-a", "1")])
    assert len(again) == 1
    assert decoder.decode(again) is decoder.decode(again)
    decoder.decode(encoder.encode([("x-b", "2")]))
    assert read(decoder, again) == {"x-b": "2"}


def test_values_of_one_name_are_joined() -> None:
    block = hpack.Encoder().encode([("x", "1"), ("y", "2"), ("x", "3")])
    assert read(headers.Decoder(), block) == {"x": "1,3", "y": "2"}


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # field 0
        b"\xbe",  # field 62 of an empty table
        b"\xff\xff\xff\xff\xff\xff\xff\xff",  # an integer without end
        b"\x00",  # a field without its name
        b"\x00\x05ab",  # a name cut short
        b"\x00\x01a\x7f",  # a size cut short
        b"\x00\x01a\x83\xff\xff\xff",  # a Huffman code that stands for nothing
        b"\x3f\xe2\x1f",  # a table larger than allowed
        b"\x82\x20",  # a new size behind a field
    ],
)
def test_what_is_no_block_is_refused(block: bytes) -> None:
    with pytest.raises(headers.Malformed):
        headers.Decoder().decode(block)


def test_more_fields_than_anybody_needs_are_refused() -> None:
    encoder, decoder = hpack.Encoder(), headers.Decoder()
    decoder.decode(encoder.encode([("x", "v" * 3000)]))
    with pytest.raises(headers.TooLarge):
        decoder.decode(b"\xbe" * 100)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 255, 300, 20_000])
def test_what_is_written_is_read(size: int) -> None:
    written = headers.literal(b"grpc-message", b"v" * size)
    assert hpack.Decoder().decode(written) == [("grpc-message", "v" * size)]


def test_noise_is_read_or_refused() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        decoder = headers.Decoder()
        try:
            decoder.decode(rng.randbytes(rng.randint(0, 40)))
        except (headers.Malformed, headers.TooLarge):
            continue
