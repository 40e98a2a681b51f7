"""What the architecture tests look at: tracked files, Markdown and the commands written in it, the command line itself."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import typer

from ems.cli import app

ROOT = Path(__file__).parents[2]
PACKAGES = ("ems", "api", "drivers", "forecasting", "optimizer")
AT_COMMAND = re.compile(r"(?:^|&&\s*|;\s*|\$ |bin/|exec ems )ems (?P<rest>\S.*)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


@cache
def tracked() -> tuple[Path, ...]:
    """Return every file git tracks and the work tree has."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Return every tracked file that is text, with its text."""
    for path in tracked():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def prose() -> list[Path]:
    """Return our own Markdown."""
    return [path for path in tracked() if path.suffix == ".md" and "vendor" not in path.parts]


def code_of(markdown: str) -> Iterator[str]:
    """Return code spans, and lines of fenced and indented blocks."""
    fenced = False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from CODE_SPAN.findall(line)


def commands_in(code: str) -> Iterator[list[str]]:
    """Return the arguments of every `ems ...` command a line of code calls."""
    for found in AT_COMMAND.finditer(code):
        lexer = shlex.shlex(found["rest"], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            words = found["rest"].split()
        end = next(
            (i for i, word in enumerate(words) if word in {"|", "||", "&&", ";", ">", ">>", "#"}), None
        )
        yield words[:end]


def wrong_in(arguments: list[str]) -> str | None:
    """Say which command or option of a call does not exist; None when all do."""
    command = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if not re.fullmatch(r"[a-z]+", rest[0]):
            return None
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    known = {"--help"} | {text for one in command.params for text in (*one.opts, *one.secondary_opts)}
    options = [word.strip("[]").split("=")[0] for word in rest if word.strip("[").startswith("--")]
    return next((f"no option {option!r}" for option in options if option not in known), None)


def leaf_commands() -> dict[str, typer.core.TyperCommand]:
    """Return every command that does something, by how it is typed."""
    found: dict[str, typer.core.TyperCommand] = {}

    def walk(command: object, typed: str) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found[typed] = command  # type: ignore[assignment]
            return
        for name, one in below.items():
            walk(one, f"{typed} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found
