"""The sandbox that templates run in: no clock, no files, and a limit on everything, work and size alike.

A template is written by someone who is trusted to write rules, and reads what devices control; a mistake in one, or a value
nobody thought of, must cost neither the page nor the engine that renders it between two batches. So every rendering has a
budget (`MAX_WORK`), paid where work can grow: per item of a loop by the size of its body, per call, per filter by the size
of what it is given. And no value may grow beyond `MAX_TEXT` characters or `MAX_ITEMS` items, counted as often as they would
be printed. Jinja compiles loops, `~`, slices and literals to plain Python, so `_Limits` rewrites them in the syntax tree
before it does. What is not bounded by nature is not there: methods and filters are allowed by name.

Read `Environment` first, then `Meter`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round, do_sum, do_tojson, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context, pass_environment, pass_eval_context
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

MAX_TEXT = 65_536
"""Longest text that may come to be anywhere in a template, in characters."""

MAX_ITEMS = 100_000
"""Items of the largest list, those of inner lists counted too: a storm's clients, with room."""

MAX_WORK = 250_000
"""What one rendering may spend, in steps of at most about a microsecond: a quarter of a second on a slow machine."""

MAX_RANGE = 1_000
"""Longest `range` in a template."""

MAX_BITS = 4_096
"""Size of the largest number that multiplying may make."""

MAX_PADDING = 999
"""Widest field of the filter `format`."""

MAX_DIGITS = 15
"""Most digits that the filter `round` is asked for: a float has no more."""

CHARACTERS_A_STEP = 16
"""Characters handled for one step of work, by the slowest filter."""

FILTERS = frozenset(
    {
        *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "forceescape"),
        *("format", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject"),
        *("rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort", "string", "striptags", "sum"),
        *("title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
    }
)
"""The filters that templates may use."""

TEXT_METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "islower", "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "swapcase", "title", "upper"),
    }
)
"""Methods of texts that templates may call: none that pads, repeats or leaves text."""

MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
LIST_METHODS = frozenset({"count", "index"})

_SPEND, _METER, _HOLD, _JOIN = "spend!", "meter!", "hold!", "join!"
"""Names of the rewritten tree's own filters: no template can write them."""

_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")


class TooMuch(SecurityError):
    """A template asked for more than it may have."""


class Meter(threading.local):
    """What is left of the budget of the rendering that this thread is at."""

    left = MAX_WORK

    def refill(self) -> None:
        """A rendering begins."""
        self.left = MAX_WORK

    def spend(self, steps: int) -> None:
        """Some work is about to be done; TooMuch when the budget is used up."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch("the template does too much work")

    def weigh(self, *values: Any) -> None:
        """Pay for handling values, those inside lists and mappings included; TooMuch for one that is too large."""
        steps = items = 0
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            steps += 1
            if isinstance(value, str):
                if len(value) > MAX_TEXT:
                    _too_long()
                steps += len(value) // CHARACTERS_A_STEP
                continue
            if isinstance(value, Mapping):
                inner = [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple, set, frozenset)):
                inner = list(value)
            else:
                continue
            items += len(inner)
            if items > MAX_ITEMS:
                raise TooMuch(f"a list of more than {MAX_ITEMS} items")
            waiting += inner
        self.spend(steps)

    def metered(self, values: Iterable[Any], steps: int = 1) -> Iterator[Any]:
        """The same values, each paid for as it is taken."""
        for value in values:
            self.spend(steps)
            yield value


METER = Meter()


def _too_long() -> NoReturn:
    raise TooMuch(f"a text of more than {MAX_TEXT} characters")


def joined(parts: Iterable[Any], separator: str = "") -> str:
    """Texts joined, counted before they are copied."""
    texts: list[str] = []
    length = 0
    for part in parts:
        if not isinstance(part, str):
            METER.weigh(part)
            part = str(part)
        length += len(part) + (len(separator) if texts else 0)
        if length > MAX_TEXT:
            _too_long()
        texts.append(part)
    METER.spend(len(texts) + length // CHARACTERS_A_STEP)
    return separator.join(texts)


def _replaced(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    METER.weigh(text, old, new)
    text, old, new = str(text), str(old), str(new)
    found: int = text.count(old)
    times = found if count is None or count < 0 else min(found, count)
    if len(text) + times * (len(new) - len(old)) > MAX_TEXT:
        _too_long()
    return str(text.replace(old, new, -1 if count is None else count))


def whole_text(text: str) -> str:
    """The text, with a question mark for each half of a character: what cannot be stored or sent must not stop a page."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# Filters


@pass_environment
def _join_filter(environment: Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return joined(METER.metered(value), str(d))


def _format_filter(value: Any, *args: Any, **kwargs: Any) -> str:
    text = str(value)
    for found in _WIDTH.finditer(text):
        for width in found.groups():
            if width and (width == "*" or len(width) > 4 or int(width) > MAX_PADDING):
                raise TooMuch(f"`format` pads to {MAX_PADDING} characters at most")
    given = [*args, *kwargs.values()]
    METER.weigh(*given)
    longest = max((len(str(one)) for one in given), default=0)
    if len(text) + text.count("%") * max(longest, MAX_PADDING) > 16 * MAX_TEXT:
        _too_long()
    if args and kwargs:
        raise jinja2.TemplateRuntimeError("`format` takes values in order or by name, not both")
    return text % (kwargs or args)


def _round_filter(value: float, precision: int = 0, method: Any = "common") -> float:
    if not -MAX_DIGITS <= precision <= MAX_DIGITS:
        raise TooMuch(f"`round` knows {MAX_DIGITS} digits at most")
    return do_round(value, precision, method)


@pass_environment
def _sum_filter(environment: Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, (int, float)):
        raise TooMuch("`sum` is for numbers")
    return do_sum(environment, METER.metered(iterable), attribute, start)


@pass_eval_context
def _tojson_filter(eval_context: Any, value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= 8:
        raise TooMuch("`tojson` indents by 8 at most")
    return do_tojson(eval_context, value, indent)


def _unchanged(value: Any) -> Any:
    return value


OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "join": _join_filter,
    "format": _format_filter,
    "replace": _replaced,
    "round": _round_filter,
    "sum": _sum_filter,
    "tojson": _tojson_filter,
}
"""Filters whose result may be far larger than what they are given, or whose work is not."""


def _bounded(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for what it is given, and whose result has a limit."""
    skip = 1 if hasattr(filter_, "jinja_pass_arg") else 0

    @wraps(filter_)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        METER.weigh(*args[skip:], *kwargs.values())
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            if len(result) > MAX_TEXT:
                _too_long()
            # Markup changes what `+` and `~` do to what stands beside it; escaping is the destination's business.
            return str.__str__(result) if type(result) is Markup else result
        if isinstance(result, Iterator):
            return METER.metered(result)
        METER.weigh(result)
        return result

    return bounded


# The tree's own filters: with a context, so that the compiler never works them out beforehand.


@pass_context
def _spend(context: Context, steps: int) -> str:
    METER.spend(steps)
    return ""


@pass_context
def _meter(context: Context, values: Iterable[Any], steps: int) -> Iterator[Any]:
    return METER.metered(values, steps)


@pass_context
def _hold(context: Context, value: Any) -> Any:
    METER.weigh(value)
    return value


@pass_context
def _join(context: Context, parts: list[Any]) -> str:
    return joined(parts)


def _call(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)


def _size(found: Iterable[nodes.Node]) -> int:
    """How many nodes these are, with all below them."""
    return sum(1 + _size(node.iter_child_nodes()) for node in found)


class _Limits(NodeTransformer):
    """Puts the meter where compiled templates would not ask anybody."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        """An item costs the size of the body, or of the condition that leaves it out."""
        condition = _size([node.test] if node.test else [])
        self._pay(node)
        node.iter = _call(_METER, node.iter, nodes.Const(1 + condition))  # type: ignore[arg-type]
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        """A call costs the size of the macro."""
        self._pay(node)
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        """So does what a macro calls back."""
        self._pay(node)
        return node

    def _pay(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> None:
        payment = nodes.ExprStmt(_call(_SPEND, nodes.Const(_size(node.body), lineno=node.lineno)), lineno=node.lineno)
        self.generic_visit(node)
        node.body = [payment, *node.body]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        """`~` counts before it copies."""
        self.generic_visit(node)
        return _call(_JOIN, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        """A slice copies, which is paid for by the size of what it is cut from."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _call(_HOLD, node.node)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        """A literal may hold the same list many times over."""
        self.generic_visit(node)
        return node if _is_constant(node.items) else _call(_HOLD, node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        """The same, where it is a value and not the target of an assignment."""
        self.generic_visit(node)
        return node if node.ctx != "load" or _is_constant(node.items) else _call(_HOLD, node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        """The same for a mapping."""
        self.generic_visit(node)
        return _call(_HOLD, node)


def _is_constant(items: Iterable[nodes.Node]) -> bool:
    return all(isinstance(item, nodes.Const) for item in items)


def _bounded_range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise TooMuch(f"a range of more than {MAX_RANGE}")
    return found


class Environment(ImmutableSandboxedEnvironment):
    """Jinja, bounded. `finish` turns what an expression gives into what is printed of it.

    With `autoescape` everything that an expression prints is text in HTML, and no filter makes it anything else.
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
            chosen |= dict.fromkeys(("e", "escape", "forceescape"), _unchanged)
        self.filters = {name: _bounded(filter_) for name, filter_ in chosen.items()}
        self.filters |= {_SPEND: _spend, _METER: _meter, _HOLD: _hold, _JOIN: _join}
        self.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False}

    def _finished(self, value: Any) -> Any:
        METER.weigh(value)
        return self.finish(value)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        METER.refill()  # what is constant is worked out by the compiler
        limited = _Limits().visit(source)
        limited.set_lineno(1)
        limited.set_environment(self)
        return super()._generate(limited, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic on numbers only, of modest size; joining of texts and lists stays."""
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if operator == "**" and (not numbers or abs(left) > 1_000_000 or abs(right) > 64):
            raise TooMuch("** is for small numbers")
        if operator == "*":
            if not numbers:
                raise TooMuch("* is for numbers")
            if _bits(left) + _bits(right) > MAX_BITS:
                raise TooMuch("the number is too large")
        if operator == "%" and not numbers:
            raise TooMuch("% is for numbers; use ~ or the filter `format` on short texts")
        if operator == "+" and not numbers:
            METER.weigh(left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, str) and len(result) > MAX_TEXT:
            _too_long()
        return result

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template may call: its own macros, `range`, and the methods allowed above."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        METER.weigh(*args, *kwargs.values())
        if isinstance(owner, str):
            METER.weigh(owner)
            if name == "replace":
                return _replaced(owner, *args, **kwargs)
            if name == "join":
                return joined(METER.metered(*args), owner)
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
        """`evidence[0]`, `client["id"]`; what is no item may be an attribute."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of plain values the methods named above and nothing else; of the rest what Jinja thinks safe."""
        methods = methods_of(obj)
        return attr in methods if methods is not None else super().is_safe_attribute(obj, attr, value)


def methods_of(obj: Any) -> frozenset[str] | None:
    """The methods that a template may call on a plain value; None for what is none."""
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
