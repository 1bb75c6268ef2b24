"""Untrusted text on one line, counts, times and tables."""

import json

import pytest

from hello_mesh.base.text import count, excerpt, json_line, printable, table, utc_time


@pytest.mark.parametrize("text", ["", "plain", "with space", "こんにちは", "100% 'quoted' \\ \"", "é", "🙂"])
def test_printable_text_is_unchanged(text: str) -> None:
    assert excerpt(text) == printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\t", "a\\nb\\r\\t"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\0", "\\x00"),
        ("\x7f", "\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("\u2028", "\\u2028"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ufeff", "\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, expected: str) -> None:
    assert excerpt(text) == printable(text) == expected


def test_a_long_text_is_cut_and_its_length_is_added() -> None:
    assert excerpt("x" * 40) == "x" * 40
    assert excerpt("x" * 41) == f"{'x' * 40}… (41 characters)"
    assert excerpt("abcdef", 3) == "abc… (6 characters)"
    assert len(excerpt("\0" * 10_000_000)) < 300


@pytest.mark.parametrize(
    "text", ["plain", "こんにちは", "\n\x1b[31m", "\x9b31m", "\u2028", "\udcff", "\U000e0041", '"\\']
)
def test_a_json_line_is_one_printable_line_with_the_same_values(text: str) -> None:
    line = json_line({text: [text, 1, None]})
    assert line.isprintable()
    assert json.loads(line) == {text: [text, 1, None]}


def test_a_json_line_keeps_printable_characters() -> None:
    assert json_line({"greeting": "こんにちは", "n": 1}) == '{"greeting": "こんにちは", "n": 1}'


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 spans"), (1, "1 span"), (2, "2 spans"), (10_000, "10000 spans")]
)
def test_only_one_thing_is_singular(number: int, text: str) -> None:
    assert count(number, "span") == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_123_999_999, "2023-11-14T22:13:20.123Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999Z"),
    ],
)
def test_a_time_is_cut_to_milliseconds_in_utc(nanoseconds: int, text: str) -> None:
    assert utc_time(nanoseconds) == text


def test_the_columns_of_a_table_are_aligned() -> None:
    assert table([("a", "bb", ""), ("ccc", "d", "e")]) == "a    bb\nccc  d   e"
    assert table([]) == ""


def test_a_table_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table([("a", "b"), ("c",)])
