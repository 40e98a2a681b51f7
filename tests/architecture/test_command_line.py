"""Every command explains itself, and no document names one that does not exist."""

import re
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, code_of, commands_in, leaf_commands, prose, wrong_in

COMMANDS = leaf_commands()
CONTRACT = {"demo", "run", "check", "simulate", "forecast", "bench", "replay"}
"""Commands promised from the beginning (issues and design)."""


def test_promised_commands_are_there() -> None:
    assert set(COMMANDS) >= CONTRACT


@pytest.mark.parametrize("typed", sorted(COMMANDS))
def test_command_has_help_and_a_working_example(typed: str) -> None:
    command = COMMANDS[typed]
    assert command.help
    assert [
        one.name for one in command.params if getattr(one, "help", None) is None and one.name != "help"
    ] == []
    examples = re.findall(r"`([^`]+)`", command.epilog or "")
    assert examples, f"`ems {typed} --help` shows no example"
    called = [arguments for example in examples for arguments in commands_in(example)]
    assert called
    assert all(arguments[: len(typed.split())] == typed.split() for arguments in called)
    assert [wrong for arguments in called if (wrong := wrong_in(arguments))] == []


@pytest.mark.parametrize("path", prose(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document_names_only_commands_and_options_that_exist(path: Path) -> None:
    wrong = [
        f"{code}: {problem}"
        for code in code_of(path.read_text(encoding="utf-8"))
        for arguments in commands_in(code)
        if (problem := wrong_in(arguments))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("ems frobnicate", "no command 'frobnicate'", id="unknown command"),
        pytest.param("ems key frobnicate", "no command 'frobnicate'", id="unknown below a group"),
        pytest.param("ems demo --frobnicate 3", "no option '--frobnicate'", id="unknown option"),
        pytest.param(
            "sudo -u ems /opt/ems/bin/ems key list --homes 2", "no option '--homes'", id="behind a path"
        ),
        pytest.param("ems demo --homes 3 | tee log --append", None, id="another program's options"),
        pytest.param(
            "ems simulate SITE.yaml --data D.csv [--no-fast-loop]", None, id="brackets, second name"
        ),
        pytest.param("systemctl restart ems", None, id="not a call"),
    ],
)
def test_the_reader_of_documents_sees_mistakes(line: str, problem: str | None) -> None:
    found = [wrong for arguments in commands_in(line) if (wrong := wrong_in(arguments))]
    assert found == ([problem] if problem else [])
