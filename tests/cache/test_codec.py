"""The stored form: nothing damaged is ever taken for a vector, and a prefix can be verified alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlclient.cache.base import CorruptEntryError, Entry
from mrlclient.cache.codec import (
    Encoder,
    decode,
    decode_bytes,
    decode_into,
    decode_many,
    encode,
    encoded_size,
    numbers_of,
    prefix_size,
)

KEY = bytes(32)
TYPES = ("float32", "float16")
#: Bytes before the numbers.
HEADER = encoded_size(0)
#: What may have become of a value.
STATES = ("sound", "flip", "cut", "old", "none", "key")


def vector(width, seed=1):
    return np.random.default_rng(seed).standard_normal(width).astype(np.float32)


def value(width, stored_type="float32", **more):
    return encode(Entry(KEY, vector(width), **{"created": 5.0, **more}), stored_type)


def read(stored, width, not_before=0.0):
    out = np.full(width, np.nan, dtype=np.float32)
    return decode_into(KEY, stored, out, not_before), out


@pytest.mark.parametrize("stored_type", TYPES)
def test_every_single_bit_flip_is_seen(stored_type):
    sound = value(70, stored_type, model="acme:embed", tokens=3, usd=0.5)
    for bit in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptEntryError):
            read(bytes(damaged), 70)
        with pytest.raises(CorruptEntryError):
            decode(KEY, bytes(damaged))


def test_flips_before_the_end_of_the_last_block_read_are_seen():
    sound = value(300)
    covered = encoded_size(128)
    for byte in range(len(sound)):
        damaged = bytearray(sound)
        damaged[byte] ^= 0x10
        if byte < covered:
            with pytest.raises(CorruptEntryError):
                read(bytes(damaged), 100)
        else:  # what is not read is not asked
            np.testing.assert_array_equal(read(bytes(damaged), 100)[1], vector(300)[:100])


@pytest.mark.parametrize("stored_type", TYPES)
def test_truncations_are_seen(stored_type):
    sound = value(130, stored_type)
    for length in range(len(sound)):
        with pytest.raises(CorruptEntryError):
            read(sound[:length], 130)
        with pytest.raises(CorruptEntryError):
            decode(KEY, sound[:length])


def test_swapped_blocks_and_other_values_tails_are_seen():
    block = 64 * 4 + 8
    sound, other = value(192), encode(Entry(KEY, vector(192, seed=2), created=5.0))
    first, second = (sound[HEADER + i * block : HEADER + (i + 1) * block] for i in range(2))
    with pytest.raises(CorruptEntryError):
        read(sound[:HEADER] + second + first + sound[HEADER + 2 * block :], 192)
    with pytest.raises(CorruptEntryError):
        read(sound[: HEADER + block] + other[HEADER + block :], 192)
    assert read(sound[: HEADER + block] + other[HEADER + block :], 64)[0]  # what is not read is not asked


@pytest.mark.parametrize("stored_type", TYPES)
def test_another_keys_value_is_damage(stored_type):
    sound = value(70, stored_type)
    for bit in range(256):
        key = bytearray(KEY)
        key[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptEntryError):
            decode_into(bytes(key), sound, np.empty(3, dtype=np.float32))
        with pytest.raises(CorruptEntryError):
            decode(bytes(key), sound)
    assert decode(None, sound).key == KEY


@pytest.mark.parametrize("stored_type", TYPES)
def test_more_than_was_stored_is_seen(stored_type):
    with pytest.raises(CorruptEntryError):
        decode(KEY, value(70, stored_type) + b"\0")


@pytest.mark.parametrize("stored_type", TYPES)
@pytest.mark.parametrize("stored", [1, 2, 63, 64, 65, 127, 128, 129, 300, 1536])
def test_a_prefix_of_any_width_is_enough(stored, stored_type):
    sound, rounded = value(stored, stored_type, tokens=7, usd=0.25), vector(stored).astype(stored_type)
    assert len(sound) == encoded_size(stored, stored_type)
    for width in {1, 2, 31, 32, 33, 63, 64, 65, 128, stored - 1, stored} & set(range(1, stored + 1)):
        cost, out = read(sound[: prefix_size(width)], width)
        assert cost == (7, 0.25)
        np.testing.assert_array_equal(out, rounded[:width].astype(np.float32))


def test_narrower_and_older_are_told_apart_from_damaged():
    assert read(value(64), 65)[0] is None
    assert read(value(64), 64, not_before=5.1)[0] is None
    assert read(value(64), 64, not_before=5.0)[0] is not None


def test_float16_is_within_half_a_unit_of_its_last_bit():
    numbers = vector(1000)
    back = decode(KEY, encode(Entry(KEY, numbers), "float16")).vector
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, numbers, rtol=2.0**-11, atol=2.0**-25)


def test_limits_of_the_header():
    entry = Entry(KEY, vector(3), model="ż" * 40, tokens=2.0**24, usd=1e-300, created=4e9)
    back = decode(KEY, encode(entry))
    assert back.model == "ż" * 32  # 64 bytes, and never half a letter
    assert (back.tokens, back.usd, back.created) == (2.0**24, 1e-300, 4e9)
    half = decode(KEY, encode(Entry(KEY, vector(3), model="a" + "ż" * 40)))
    assert half.model == "a" + "ż" * 31
    assert len(decode(KEY, value(65)).vector) == 65
    for wrong in (b"", b"MRLV", value(3)[: HEADER - 1], b"XRLV" + value(3)[4:], bytes(200)):
        with pytest.raises(CorruptEntryError):
            decode(KEY, wrong)
    with pytest.raises(CorruptEntryError):
        decode(KEY, encode(Entry(KEY, np.empty(0, dtype=np.float32))))


@given(
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200),
    model=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=16),
    tokens=st.floats(0, 1e6, width=32),
    usd=st.floats(0, 1e3),
)
@settings(deadline=None, database=None)
def test_whatever_goes_in_comes_out(bits, model, tokens, usd):
    numbers = np.array(bits, dtype=np.uint32).view(np.float32)
    back = decode(KEY, encode(Entry(KEY, numbers, model, tokens, usd, 1.0)))
    assert back.vector.tobytes() == numbers.tobytes()
    assert (back.key, back.model, back.tokens, back.usd, back.created) == (KEY, model, tokens, usd, 1.0)


@pytest.mark.parametrize("width", [1, 64, 1536])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e-5, 1e-7, 1e-9])
def test_float16_turns_no_vector_however_short_it_is(width, scale):
    """A server's own vectors may have any length: what is too small for float16 stays float32."""
    numbers = vector(width)
    numbers *= np.float32(scale / np.linalg.norm(numbers))
    back = decode(KEY, encode(Entry(KEY, numbers), "float16")).vector.astype(np.float64)
    lengths = np.linalg.norm(numbers.astype(np.float64)) * np.linalg.norm(back)
    assert back @ numbers / lengths > 1 - 1e-6
    # What unit vectors are kept in stays half as large.
    assert scale < 1 or len(encode(Entry(KEY, numbers), "float16")) == encoded_size(width, "float16")


@given(start=st.integers(0, 500), garbage=st.binary(max_size=300), width=st.integers(1, 200))
@settings(deadline=None, database=None)
def test_garbage_is_damage_and_nothing_else(start, garbage, width):
    sound = value(100)
    stored = sound[:start] + garbage
    if stored[: len(sound)] == sound:
        return
    for reading in (lambda: decode(KEY, stored), lambda: read(stored, width)):
        try:
            reading()
        except CorruptEntryError:
            continue
        # Only what was wholly covered by a sound checksum can have been read.
        assert stored[: encoded_size(min(width, 64))] == sound[: encoded_size(min(width, 64))]


def entry(i, width, **more):
    return Entry(
        i.to_bytes(32, "big"), vector(width, seed=i), "acme:embed", tokens=i, usd=i / 8, created=i + 1.0, **more
    )


@pytest.mark.parametrize("kept_bytes", [0, 1000, 10**6])
@pytest.mark.parametrize("stored_type", TYPES)
def test_many_are_as_one_by_one(stored_type, kept_bytes):
    encoder = Encoder(kept_bytes)
    entries = [entry(i, width) for i, width in enumerate([64, 300, 64, 1, 1536, 300, 64])]
    entries[2].vector[5] = 1e6  # beyond float16
    entries[5].vector[7] = np.inf
    for chosen in (entries, entries[3:], entries[:1], []):
        assert [bytes(each) for each in encoder.encode(chosen, stored_type)] == [
            encode(each, stored_type) for each in chosen
        ]
    np.testing.assert_array_equal(decode(None, encode(entries[2], stored_type)).vector, entries[2].vector)


def test_those_that_are_not_dated_are_dated_together():
    values = Encoder().encode([Entry(KEY, vector(3)), Entry(KEY, vector(4)), entry(1, 3)], "float32", 77.0)
    assert [decode(None, bytes(each)).created for each in values] == [77.0, 77.0, 2.0]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([1, 64, 65, 200, 300]), st.sampled_from(TYPES), st.sampled_from(STATES)),
        min_size=1,
        max_size=12,
    ),
    width=st.integers(1, 310),
    shuffled=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, database=None)
def test_a_batch_of_anything_reads_as_one_by_one(rows, width, shuffled, seed):
    """Widths, types, damage and age in any mixture; rows land where they belong, and no other is touched."""
    chance = np.random.default_rng(seed)
    keys, values = [], []
    for i, (stored, stored_type, state) in enumerate(rows):
        made = bytearray(encode(entry(0 if state == "old" else i + 1, stored), stored_type))
        if state == "flip":
            made[chance.integers(len(made))] ^= 0x10
        if state == "cut":
            del made[chance.integers(1, len(made)) :]
        if state == "none":
            made.clear()
        keys.append((99 if state == "key" else 0 if state == "old" else i + 1).to_bytes(32, "big"))
        values.append(bytes(made[: prefix_size(width)]))
    places = chance.permutation(len(rows) + 3)[: len(rows)] if shuffled else np.arange(len(rows))
    out = np.full((len(rows) + 3, width), -7, dtype=np.float32)
    into = out if shuffled else out[: len(rows)]
    found = decode_bytes(keys, values, into, places if shuffled else None, not_before=1.5)
    tokens = usd = 0.0
    for i, (key, stored) in enumerate(zip(keys, values, strict=True)):
        expected, row = np.full(width, -7, dtype=np.float32), None
        try:
            one = np.empty(width, dtype=np.float32)
            row = decode_into(key, stored, one, 1.5)
            assert not found.damaged[i]
        except CorruptEntryError:
            assert found.damaged[i] or not stored
        assert found.good[i] == (row is not None)
        if row is not None:
            expected, tokens, usd = one, tokens + row[0], usd + row[1]
        np.testing.assert_array_equal(out[places[i]], expected)
    assert (found.tokens, found.usd) == (tokens, usd)
    assert (out[sorted(set(range(len(out))) - set(places.tolist()))] == -7).all()


def test_what_is_behind_a_value_is_not_taken_for_it():
    """A buffer that is used again still holds what was read before."""
    sound = np.frombuffer(value(70), dtype=np.uint8)
    for length in range(len(sound) + 1):
        found = decode_many([KEY], sound.reshape(1, -1), np.array([length]), np.empty((1, 70), dtype=np.float32))
        assert found.good[0] == (length == len(sound))


def test_numbers_of_keys_that_begin_or_end_alike():
    keys = [bytes([byte]) * 32 for byte in range(256)]
    keys += [bytes(8) + bytes([byte]) + bytes(23) for byte in range(1, 256)]
    keys += [bytes(31) + bytes([byte]) for byte in range(1, 256)]
    numbers = numbers_of(keys)
    assert numbers.dtype == np.int64
    assert len(set(numbers.tolist())) == len(keys)
