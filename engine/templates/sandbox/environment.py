"""The sandbox that templates run in: no clock, no files, and a limit on everything, work and size alike.

A template is written by someone who is trusted to write rules, and reads what devices control. A mistake in a template, or an
unexpected value, must cost neither the page nor the engine that renders it between two batches. So every rendering has a
budget (`meter.MAX_WORK`), paid where work can grow: each item of a loop by the size of its body, each call, each filter by the
size of its input. No value may grow beyond `meter.MAX_TEXT` characters or `meter.MAX_ITEMS` items. What has no natural bound is
not available: methods and filters are allowed by name. Read `Environment` first, then `meter` and `tree_limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.templates.sandbox.filters import FILTERS, OWN_FILTERS, bounded, replaced, unchanged
from engine.templates.sandbox.meter import MAX_TEXT, METER, LimitExceeded, joined, refuse_text
from engine.templates.sandbox.tree_limits import METER_FILTERS, TreeLimits

MAX_RANGE = 1_000
"""Longest `range` in a template."""

MAX_BITS = 4_096
"""Bits of the largest product."""

TEXT_METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "islower", "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "swapcase", "title", "upper"),
    }
)
"""Methods of texts that templates may call: none that pads or repeats."""

MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
LIST_METHODS = frozenset({"count", "index"})


def _bounded_range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise LimitExceeded(f"a range of more than {MAX_RANGE}")
    return found


class Environment(ImmutableSandboxedEnvironment):
    """Jinja with limits. `finish` turns the value of an expression into what is printed.

    With `autoescape`, everything that an expression prints is escaped for HTML, and no filter can prevent that.
    """

    intercepted_binops = frozenset({"**", "*", "%", "+"})
    concat = staticmethod(joined)

    def __init__(self, finish: Callable[[Any], Any], *, autoescape: bool = False) -> None:
        self.finish = finish
        super().__init__(
            undefined=jinja2.StrictUndefined,
            cache_size=0,
            keep_trailing_newline=True,
            autoescape=autoescape,
            finalize=self._finished,
        )
        self.globals.clear()
        self.globals["range"] = _bounded_range
        chosen = {name: OWN_FILTERS.get(name, self.filters[name]) for name in FILTERS}
        if autoescape:  # what is printed is escaped then: once is enough
            chosen |= dict.fromkeys(("e", "escape", "forceescape"), unchanged)
        self.filters = {name: bounded(filter_) for name, filter_ in chosen.items()}
        self.filters |= METER_FILTERS
        self.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}

    def _finished(self, value: Any) -> Any:
        METER.charge(value)
        return self.finish(value)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        METER.refill()  # the compiler evaluates constants
        limited = TreeLimits().visit(source)
        limited.set_lineno(1)
        limited.set_environment(self)
        return super()._generate(limited, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic on numbers only, of modest size; joining of texts and lists stays."""
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" and (not numbers or abs(left) > 1_000_000 or abs(right) > 64):
            raise LimitExceeded("** is for small numbers")
        if operator == "*":
            if not numbers:
                raise LimitExceeded("* is for numbers")
            if _bits(left) + _bits(right) > MAX_BITS:
                raise LimitExceeded("the number is too large")
        if operator == "%" and not numbers:
            raise LimitExceeded("% is for numbers; use ~ or the filter `format` on short texts")
        if operator == "+" and not numbers:
            METER.charge(left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, str) and len(result) > MAX_TEXT:
            refuse_text()
        return result

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template may call: its own macros, `range`, and the methods allowed above."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        METER.charge(*args, *kwargs.values())
        if isinstance(owner, str):
            METER.charge(owner)
            if name == "replace":
                return replaced(owner, *args, **kwargs)
            if name == "join":
                return joined(METER.charge_each(*args), owner)
        return super().call(context, obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`client.attributes.items` is the column of that name, and the method only where there is no such column."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        try:
            value = getattr(obj, attribute)
        except AttributeError:
            return self.undefined(obj=obj, name=attribute)
        return value if self.is_safe_attribute(obj, attribute, value) else self.unsafe_undefined(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`evidence[0]`, `client["id"]`; what is not an item may be an attribute."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of plain values only the methods named above; of others what Jinja considers safe."""
        methods = methods_of(obj)
        return attr in methods if methods is not None else super().is_safe_attribute(obj, attr, value)


def methods_of(obj: Any) -> frozenset[str] | None:
    """The methods that a template may call on a plain value; None for any other value."""
    if isinstance(obj, str):
        return TEXT_METHODS
    if isinstance(obj, Mapping):
        return MAPPING_METHODS
    if isinstance(obj, (list, tuple)):
        return LIST_METHODS
    if obj is None or isinstance(obj, (int, float, bytes, range, set, frozenset)):
        return frozenset()
    return None


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 64
