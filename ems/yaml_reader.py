"""YAML as people mean it: a clock time stays text, `no` stays text, a key written twice is a mistake, lines are known."""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml

from ems.errors import ConfigError, Mistake

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A YAML document and where each of its keys stands."""

    data: Any
    """Plain dicts, lists and scalars."""
    lines: dict[Path, int]
    """Line of each key or item, counted from 1."""
    mistakes: tuple[Mistake, ...] = ()
    """Keys written twice; the first of them counts."""

    def line(self, path: Path) -> int:
        """Return the line of the path, or of the nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


_RETYPED = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp"))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 16:00 as 960 and `no` as false; both have shifted tariffs and country codes before."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _RETYPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, *, file: str) -> Document:
    """Parse one document; raises ConfigError that names the line where it cannot be read at all."""
    lines: dict[Path, int] = {}
    mistakes: list[Mistake] = []
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise ConfigError(
                    [_mistake(file, 1, "", "the file is empty", "see deploy/sites for examples")]
                )
            data = _Builder(loader, file, lines, mistakes).built(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = f"not valid YAML ({error.problem})"
        raise ConfigError([_mistake(file, line, "", problem, "mend the syntax there")]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"holds a character no text file should ({error.reason})"
        raise ConfigError([_mistake(file, line, "", problem, "save it as UTF-8 text")]) from error
    except RecursionError as error:
        problem = "nested deeper than any site file"
        raise ConfigError([_mistake(file, 1, "", problem, "see deploy/sites for examples")]) from error
    return Document(data=data, lines=lines, mistakes=tuple(mistakes))


class _Builder:
    """Turns nodes into plain values and notes where each stands."""

    def __init__(self, loader: _Loader, file: str, lines: dict[Path, int], mistakes: list[Mistake]) -> None:
        self._loader = loader
        self._file = file
        self._lines = lines
        self._mistakes = mistakes
        self._open: set[int] = set()

    def built(self, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._open:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias that contains itself", node.start_mark
            )
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.built(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Hashable, Any]:
        """Build a mapping; what `<<` brings in may be overridden, a key of its own may not be repeated."""
        own = {id(key_node) for key_node, _ in node.value}
        self._loader.flatten_mapping(node)
        built: dict[Hashable, Any] = {}
        written: set[str] = set()
        for key_node, value_node in node.value:
            key, line = str(self._scalar(key_node)), key_node.start_mark.line + 1
            if key in written:
                self._mistakes.append(
                    _mistake(
                        self._file, line, dotted((*path, key)), "the key is written twice", "keep one of them"
                    )
                )
                continue
            if id(key_node) in own:
                written.add(key)
            self._lines[(*path, key)] = line
            built[key] = self.built(value_node, (*path, key))
        return built

    def _scalar(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be one word", node.start_mark)
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            problem = f"{node.value!r} is not what its tag says"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def dotted(path: Path) -> str:
    """Return a path as people write it: `sites[3].tariff.buy`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _mistake(file: str, line: int, key: str, problem: str, remedy: str) -> Mistake:
    return Mistake(file=f"{file}:{line}", key=key or "(file)", value="", problem=problem, remedy=remedy)
