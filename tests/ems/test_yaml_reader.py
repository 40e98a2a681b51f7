"""YAML as people mean it: traps of YAML 1.1, lines, and mistakes that must not become tracebacks."""

import pytest

from ems.errors import ConfigError
from ems.yaml_reader import read_yaml


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param("16:00", "16:00", id="a clock time is not 960"),
        pytest.param("0777", "0777", id="no octal"),
        pytest.param("0x10", "0x10", id="no hexadecimal"),
        pytest.param("1_000", "1_000", id="no digit groups"),
        pytest.param("no", "no", id="Norway stays Norway"),
        pytest.param("on", "on", id="on is a word"),
        pytest.param("y", "y", id="y is a word"),
        pytest.param("2026-03-01", "2026-03-01", id="a date stays text"),
        pytest.param(".nan", ".nan", id="nan is no number to write"),
        pytest.param(".inf", ".inf", id="nor is infinity"),
        pytest.param("12e03", 12000.0, id="exponent"),
        pytest.param("-0.5", -0.5, id="negative"),
        pytest.param("0", 0, id="zero"),
        pytest.param("200", 200, id="whole"),
        pytest.param("true", True, id="true"),
        pytest.param("false", False, id="false"),
        pytest.param("True", "True", id="only small letters are a truth value"),
        pytest.param("~", None, id="nothing"),
        pytest.param('"200"', "200", id="quoted digits stay text"),
    ],
)
def test_a_scalar_is_what_people_mean(written: str, read: object) -> None:
    found = read_yaml(f"key: {written}\n", file="f").data["key"]
    assert found == read
    assert type(found) is type(read)


def test_every_key_and_item_knows_its_line() -> None:
    document = read_yaml("a: 1\nb:\n  c: 2\n  d:\n    - x\n    - e: 5\n", file="f")
    assert document.data == {"a": 1, "b": {"c": 2, "d": ["x", {"e": 5}]}}
    assert document.line(("a",)) == 1
    assert document.line(("b", "d", 1, "e")) == 6
    assert document.line(("b", "c", "deeper", 3)) == 3  # what is not there is told at its nearest parent


def test_every_repeated_key_is_told_and_the_first_counts() -> None:
    document = read_yaml("a: 1\nb: {c: 1, c: 2}\na: 3\n", file="f")
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert [(m.file, m.key) for m in document.mistakes] == [("f:2", "b.c"), ("f:3", "a")]


def test_merged_keys_may_be_overridden_and_shared_parts_repeated() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {y: 4, <<: *b}\nthree: *b\n"
    document = read_yaml(text, file="f")
    assert document.mistakes == ()
    assert document.data["one"] == {"x": 1, "y": 3}
    assert document.data["two"] == {"x": 1, "y": 4}
    assert document.data["three"] == {"x": 1, "y": 2}


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read_yaml("\ufeffa: 1\n", file="f").data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("a: 1\n\tb: 2\n", 2, id="tab"),
        pytest.param("a: [1, 2\nb: 3\n", 2, id="unclosed bracket"),
        pytest.param("a: 1\n---\nb: 2\n", 2, id="two documents"),
        pytest.param("a: 1\nb: *nothing\n", 2, id="unknown alias"),
        pytest.param("a: 1\nb: &x {c: *x}\n", 2, id="alias within itself"),
        pytest.param("a: 1\nb: !!int abc\n", 2, id="tag that does not fit"),
        pytest.param("a: 1\nb: !!python/object:os.system ls\n", 2, id="tag that would run code"),
        pytest.param("a: 1\n[b, c]: 2\n", 2, id="list as a key"),
        pytest.param("a: 1\nb: \x00\n", 2, id="control character"),
        pytest.param("", 1, id="empty"),
        pytest.param("# only a comment\n", 1, id="only a comment"),
        pytest.param("a: " + "[" * 1200 + "]" * 1200, 1, id="nested without end"),
    ],
)
def test_what_cannot_be_read_names_the_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, file="site.yaml")
    (mistake,) = caught.value.mistakes
    assert mistake.file == f"site.yaml:{line}"
    assert mistake.problem
    assert mistake.remedy
