"""Foreign text on one line."""

import json

import pytest

from hello_mesh.base.text import excerpt, json_line, printable


@pytest.mark.parametrize("text", ["", "plain", "with space", "こんにちは", "100% 'quoted' \\ \"", "é", "🙂"])
def test_what_can_be_printed_stays(text: str) -> None:
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
def test_what_cannot_is_escaped(text: str, expected: str) -> None:
    assert excerpt(text) == printable(text) == expected


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    assert excerpt("x" * 40) == "x" * 40
    assert excerpt("x" * 41) == f"{'x' * 40}… (41 characters)"
    assert excerpt("abcdef", 3) == "abc… (6 characters)"
    assert len(excerpt("\0" * 10_000_000)) < 300


@pytest.mark.parametrize(
    "text", ["plain", "こんにちは", "\n\x1b[31m", "\x9b31m", "\u2028", "\udcff", "\U000e0041", '"\\']
)
def test_a_json_line_is_one_printable_line_and_says_the_same(text: str) -> None:
    line = json_line({text: [text, 1, None]})
    assert line.isprintable()
    assert json.loads(line) == {text: [text, 1, None]}


def test_a_json_line_stays_readable() -> None:
    assert json_line({"greeting": "こんにちは", "n": 1}) == '{"greeting": "こんにちは", "n": 1}'
