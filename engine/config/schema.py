"""Checks documents against the JSON Schemas and explains each mistake in the terms of the file.

The schemas in `schemas/` are the only description of the files' structure; editors use the same ones. They contain a few
keywords of our own, which other tools ignore:

* `x-message`: the message when this part of the schema does not fit.
* `x-notYet`: keys or values that are planned and that this version does not support: reported, never ignored.
* `x-hints`: keys or values that people write by mistake, and what to write instead.
* `x-several`: the message when a mapping that must have one key has more.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from engine.config.durations import duration_hint
from engine.config.yamlfile import Document, KeyPath
from engine.errors import Problem

MAX_PROBLEMS = 200
"""Most problems reported for one file."""

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def schema_folder() -> Path:
    """Where the schemas are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parents[1] / "schemas"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "schemas"


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """The schema `name` (config, rules, event, rule-test) as a mapping."""
    found: Mapping[str, Any] = json.loads((schema_folder() / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def _is_integer(_: object, value: object) -> bool:
    """A whole number written as one: JSON Schema would also accept 2.0, which is a float in Python."""
    return isinstance(value, int) and not isinstance(value, bool)


_STRICT: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
)


@cache
def _validator(name: str) -> Any:
    return _STRICT(load_schema(name))


def schema_problems(document: Document, name: str, *, broken: set[KeyPath] | None = None) -> list[Problem]:
    """Every way in which the document violates the schema `name`, in the order of the file.

    With `MAX_PROBLEMS` of them or more the list is not complete: more of the document may be wrong. `broken`: the way of what does not
    fit is added to it; of what is missing, the way that it would have.
    """
    found: dict[tuple[str, str], Problem] = {}
    for error in _validator(name).iter_errors(document.value):
        for path, message, at_key in _problems_of(error):
            if broken is not None:
                broken.add((*path, *_missing_key(message)))
            problem = document.problem(tuple(path), message, at_key=at_key)
            found.setdefault((problem.path, message), problem)
        if len(found) >= MAX_PROBLEMS:
            break
    return sorted(found.values(), key=lambda problem: (problem.line, problem.column))


def _missing_key(message: str) -> tuple[str, ...]:
    """The key that a message says is missing."""
    found = re.match(r"`([a-z_]+)` is missing", message)
    return (found[1],) if found else ()


_Finding = tuple[list[str | int], str, bool]  # path, message, whether the key is meant


def _problems_of(error: ValidationError) -> Iterator[_Finding]:
    path = list(error.absolute_path)
    value: Any = error.instance
    wanted: Any = error.validator_value
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    kind = str(error.validator)
    if kind == "additionalProperties":
        yield from _unknown_keys(error, schema, path)
    elif kind == "anyOf":
        yield from _no_branch(error, schema, path)
    elif kind == "not":
        if not isinstance(value, dict) and "required" in wanted:
            return  # keys that cannot stand together are no matter of what is no mapping
        yield path, str(wanted.get("x-message", "cannot be combined like this")), True
    elif kind == "enum":
        yield path, _not_among(value, list(wanted), schema), False
    elif kind == "required":
        missing = [key for key in wanted if key not in value]
        yield from ((path, f"`{key}` is missing{_other_case(key, value)}", False) for key in missing)
    elif error.parent is None and "propertyNames" in error.absolute_schema_path:
        yield [*path, str(error.instance)], schema.get("x-message", "is not a valid name here"), True
    else:
        message = schema.get("x-message")
        yield (
            path,
            f"{message}{_hint(message, schema, value)}" if message else _default_message(kind, error, schema),
            False,
        )


def _other_case(key: str, value: Mapping[str, Any]) -> str:
    """A hint for a required key that is there in another case."""
    found = next((name for name in value if name.lower() == key), None)
    return "" if found is None else f": it is written `{found[:60]}`, and keys are in lower case"


def _hint(message: str, schema: Mapping[str, Any], value: Any) -> str:
    """What to write instead, after a message of the schema that does not know what stands in the file."""
    if message.startswith("must be a duration"):
        shown = f", not {_quoted(value)}" if isinstance(value, str | int | float) and value != "" else ""
        return f"{shown}{duration_hint(value)}"
    if schema.get("type") == "array" and isinstance(value, str | int | float) and not isinstance(value, bool):
        items = re.split(r"[;,]\s*", str(value)[:200])
        return f": write [{', '.join(items)}]"
    return ""


def _default_message(kind: str, error: ValidationError, schema: Mapping[str, Any]) -> str:
    value, limit = error.instance, error.validator_value
    words = {
        "const": _not_the(limit, value),
        "minLength": "must not be empty",
        "maxLength": f"is longer than {limit} characters",
        "minimum": f"must be at least {limit}, not {_quoted(value)}",
        "maximum": f"must be at most {limit}, not {_quoted(value)}",
        "minItems": "must not be an empty list",
        "maxItems": f"has more than {limit} entries",
        "uniqueItems": "contains the same entry twice",
        "minProperties": "must not be empty",
        "maxProperties": schema.get("x-several", f"has more than {limit} keys"),
    }
    return _wrong_type(limit, value) if kind == "type" else str(words.get(kind, f"cannot be {_quoted(value)}"))


def _not_the(wanted: Any, value: Any) -> str:
    """What to say where only one value is possible."""
    if isinstance(wanted, str):
        return f"must be {json.dumps(wanted)}, not {_quoted(value)}"
    if isinstance(value, str) and value == str(wanted):
        return f"must be the number {wanted}, not the text `{value}`: remove the quotes"
    return f"must be {json.dumps(wanted)}, not {_quoted(value)}"


_OLD_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
"""What YAML before 1.2 read as true and false."""


def _wrong_type(expected: Any, value: Any) -> str:
    names = expected if isinstance(expected, list) else [expected]
    wanted = " or ".join(str(_TYPE_WORDS.get(name, name)) for name in names)
    if value is None:
        return f"must be {wanted}, but it is empty"
    return f"must be {wanted}, not {_quoted(value)}{_type_hint(names, value)}"


def _type_hint(names: list[str], value: Any) -> str:
    """What to change in a value of the wrong type; "" when nobody can say."""
    if isinstance(value, str):
        if "boolean" in names and value.lower() in {"true", "false"}:
            return f"; write {value.lower()} without quotes"
        if "boolean" in names and value.lower() in _OLD_BOOLEANS:
            return f"; write {_OLD_BOOLEANS[value.lower()]}"
        if {"integer", "number"} & set(names) and re.fullmatch(r"[-+]?[0-9][0-9_ ]*", value.strip()):
            return f"; write {re.sub('[_ +]', '', value)} without quotes"
        if "array" in names and "object" not in names and value:
            return f"; write [{', '.join(re.split(r'[;,] *', value[:200]))}]"
    if isinstance(value, bool | int | float):
        if "string" in names:
            return "; put it in quotes"
        if "integer" in names and isinstance(value, float) and value == int(value):
            return f"; write {int(value)}"
    if isinstance(value, dict) and "array" in names:
        return "; begin each entry with `- `, or put [ ] around it"
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict | list):
        return "; write the value without [ ]"
    if isinstance(value, list) and "string" in names:
        return "; only one value is possible here"
    return ""


def _quoted(value: Any) -> str:
    """A value as it stands in the file, shortened; mappings and lists only by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text if len(text) <= 60 else text[:60] + '…'}`"


def _unknown_keys(error: ValidationError, schema: Mapping[str, Any], path: list[str | int]) -> Iterator[_Finding]:
    known = list(schema.get("properties", {}))
    instance: Any = error.instance
    for key in (key for key in instance if key not in known):
        if key in schema.get("x-notYet", ()):
            message = "is not supported by this version; remove it"
        else:
            hint = schema.get("x-hints", {}).get(key)
            message = f"unknown key `{key[:60]}`" + (
                f"; {hint}" if hint else did_you_mean(key, known, all_of_them=True)
            )
        yield [*path, key], message, True


def _not_among(value: Any, known: Sequence[Any], schema: Mapping[str, Any]) -> str:
    if isinstance(value, str) and value in schema.get("x-notYet", ()):
        return f"`{value}` is not supported by this version"
    words = [str(word) for word in known]
    listed = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    hint = schema.get("x-hints", {}).get(value) if isinstance(value, str) else None
    if hint is None and isinstance(value, str) and value in words and value not in known:
        hint = f"write {value} without quotes"
    hint = f"; {hint}" if hint else did_you_mean(value, words) if isinstance(value, str) else ""
    return f"must be {listed}, not {_quoted(value)}{hint}"


def did_you_mean(word: str, known: Sequence[str], *, all_of_them: bool = False) -> str:
    """`; did you mean X?` when a known word is similar; otherwise, with `all_of_them`, the known words if they are few."""
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower()[:100], list(folded), n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{folded[close[0]]}`?"
    if all_of_them and 0 < len(known) <= 30:
        return f" (known: {', '.join(known)})"
    return ""


def _no_branch(error: ValidationError, schema: Mapping[str, Any], path: list[str | int]) -> Iterator[_Finding]:
    """None of several forms fits: explain the one that was meant, if the kind of the value shows which."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.relative_schema_path[0]), []).append(inner)
    meant = [errors for errors in branches.values() if not any(_is_other_kind(inner, error) for inner in errors)]
    is_alone = _mapping_forms(error) == 1 and isinstance(error.instance, dict)
    if len(meant) == 1 and (schema.get("x-message") is None or is_alone or not _is_bare(meant[0], error)):
        for inner in meant[0]:
            yield from _problems_of(inner)
    else:
        yield path, schema.get("x-message", "does not have any of the forms that are allowed here"), False


def _mapping_forms(error: ValidationError) -> int:
    """In how many forms a value may be a mapping: with one, what is missing in it can be said."""
    wanted: Any = error.validator_value
    return sum(isinstance(form, dict) and form.get("type") == "object" for form in wanted)


def _is_other_kind(inner: ValidationError, outer: ValidationError) -> bool:
    """Whether a branch does not fit because the value is of another kind."""
    if list(inner.absolute_path) != list(outer.absolute_path):
        return False
    return inner.validator == "type" or (inner.validator == "enum" and not isinstance(inner.instance, str))


def _is_bare(errors: Sequence[ValidationError], outer: ValidationError) -> bool:
    """Whether all that a branch reports is that required keys are missing in this value."""
    return all(e.validator == "required" and list(e.absolute_path) == list(outer.absolute_path) for e in errors)
