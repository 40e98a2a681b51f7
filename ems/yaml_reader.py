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
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, *, file: str) -> Document:
    """Parse one document; raises ConfigError that names the line."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise _mistake(file, 1, "", "", "the file is empty", "see deploy/sites for examples")
        lines: dict[Path, int] = {}
        data = _built(loader, node, (), lines, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _mistake(
            file, line, "", "", f"not valid YAML ({error.problem})", "mend the syntax there"
        ) from error
    except yaml.YAMLError as error:
        raise _mistake(file, 1, "", "", f"not readable as text ({error})", "save it as UTF-8") from error
    finally:
        loader.dispose()
    return Document(data=data, lines=lines)


def _built(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int], file: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        built: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node))
            line = key_node.start_mark.line + 1
            if key in built:
                dotted = ".".join(str(part) for part in (*path, key))
                raise _mistake(file, line, dotted, "", "the key is written twice", "keep one of them")
            lines[(*path, key)] = line
            built[key] = _built(loader, value_node, (*path, key), lines, file)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_built(loader, item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _mistake(file: str, line: int, key: str, value: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError([Mistake(file=f"{file}:{line}", key=key, value=value, problem=problem, remedy=remedy)])
