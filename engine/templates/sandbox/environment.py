"""The sandbox that templates run in: no clock, no files, and a limit on everything, work and size alike.

A template is written by someone who is trusted to write rules, and reads what devices control. A mistake in a template, or an
unexpected value, must cost neither the page nor the engine that renders it between two batches. So every rendering has a
budget (`meter.MAX_WORK`), paid where work can grow, before the work is done: each item of a loop by the size of its body, each
call, filter, test, comparison and calculation by the size of what it is given. No value may grow beyond `meter.MAX_TEXT`
characters, `meter.MAX_ITEMS` items or `meter.MAX_BITS` bits. What has no natural bound is not available: statements, methods,
filters, tests and attributes are allowed by name. `time_limit` stops what takes too long all the same.
Read `Environment` first, then `meter` and `tree_limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

from engine.templates.sandbox import operations
from engine.templates.sandbox.filters import FILTERS, OWN_FILTERS, bounded, unchanged
from engine.templates.sandbox.jinja_tests import TESTS
from engine.templates.sandbox.meter import METER, LimitExceeded, joined, printable
from engine.templates.sandbox.operations import OPERATORS, TEXT_METHODS, plain_text
from engine.templates.sandbox.tree_limits import TreeLimits, is_internal
from engine.templates.secret_markers import SecretNames

MAX_RANGE = 1_000
"""Longest `range` in a template."""

MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
LIST_METHODS = frozenset({"count", "index"})
_LOOP_VALUES = frozenset(
    {
        *("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"),
        *("previtem", "nextitem"),
    }
)
_LOOP_METHODS = frozenset({"cycle", "changed"})
LOOP_NAMES = _LOOP_VALUES | _LOOP_METHODS
"""What templates may read of `loop`."""

_MACRO_VALUES = frozenset({"name", "arguments", "catch_kwargs", "catch_varargs", "caller"})
_BY_JINJA: Final = ("_loop_vars", "_block_vars")
"""Arguments that Jinja's compiler adds to calls; they are none of the template's values."""


def _bounded_range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise LimitExceeded(f"a range of more than {MAX_RANGE}")
    return found


class _Generator(CodeGenerator):
    """Jinja's compiler, which also knows the calls that `TreeLimits` puts in."""

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        """A call of a method of the environment is written as it is, any other as Jinja does."""
        if not is_internal(node):
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        self.visit(node.node, frame)
        self.write("(")
        for argument in node.args:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")


class Environment(ImmutableSandboxedEnvironment):
    """Jinja with limits. `finish` turns the value of an expression into what is printed.

    With `autoescape`, everything that an expression prints is escaped for HTML, and no filter can prevent that.
    """

    intercepted_binops = OPERATORS
    intercepted_unops = frozenset({"+", "-"})
    code_generator_class = _Generator
    concat = staticmethod(joined)

    def __init__(self, finish: Callable[[Any], Any], *, autoescape: bool = False) -> None:
        self.finish = finish
        super().__init__(
            undefined=jinja2.StrictUndefined,
            cache_size=0,
            keep_trailing_newline=True,
            autoescape=autoescape,
            finalize=self._finished,
            optimized=False,  # nothing is evaluated in advance
        )
        self.globals.clear()
        self.globals["range"] = _bounded_range
        chosen = {name: OWN_FILTERS.get(name) or self.filters[name] for name in FILTERS}
        if autoescape:  # what is printed is escaped then: once is enough
            chosen |= dict.fromkeys(("e", "escape", "forceescape"), unchanged)
        self.filters = {name: bounded(name, filter_) for name, filter_ in chosen.items()}
        self.tests = dict(TESTS)
        self.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False, "allow_nan": False}

    @pass_context
    def _finished(self, context: Context, value: Any) -> Any:
        METER.charge(value)
        return self.finish(printable(value))

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        limited = TreeLimits().visit(source)
        assert isinstance(limited, nodes.Template)
        limited.set_lineno(1)
        limited.set_environment(self)
        return super()._generate(limited, *args, **kwargs)

    # What compiled templates call by the will of `TreeLimits`; no template can name these

    def paid(self, steps: int) -> None:
        """Pay for a run through a body."""
        METER.spend(steps)

    def charged(self, value: Any) -> Any:
        """The value, paid for; what is cut out of HTML is text."""
        METER.charge(value)
        return plain_text(value) if isinstance(value, str) else value

    def charged_to_cut(self, value: Any) -> Any:
        """The value that a slice is cut from: of a list the items are not looked at."""
        if isinstance(value, (list, tuple)):
            METER.spend(len(value))
            return value
        return self.charged(value)

    def charged_items(self, values: Iterable[Any], steps: int) -> Iterator[Any]:
        """The values of a loop, each paid for when it is taken."""
        return METER.charge_each(values, steps)

    def joined_parts(self, parts: list[Any]) -> str:
        """`~`."""
        return joined(parts)

    def compared(self, order: str, left: Any, right: Any) -> bool:
        """A comparison."""
        return operations.compared(order, left, right)

    # What Jinja calls

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic on numbers of modest size; joining of texts and lists stays."""
        return operations.calculated(operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        """The sign of a number."""
        return operations.signed(operator, arg)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template may call: its own macros and loops, `range`, and the methods allowed above."""
        given = {name: value for name, value in kwargs.items() if name not in _BY_JINJA} if kwargs else kwargs
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name in TEXT_METHODS:
            return operations.call_text_method(owner, name, args, given)
        METER.charge(*args, *given.values())
        if isinstance(obj, (Macro, LoopContext)):
            return super().call(context, obj, *args, **kwargs)
        if isinstance(obj, jinja2.Undefined):
            return obj(*args)  # raises what says which name is missing
        if obj is _bounded_range:
            return _bounded_range(*args)
        if isinstance(owner, Mapping) and name in MAPPING_METHODS:
            found = obj(*args, **given)
            return found if name == "get" else operations.as_list(found)
        if isinstance(owner, (list, tuple)) and name in LIST_METHODS:
            METER.charge(owner)
            return obj(*args, **given)
        if isinstance(owner, LoopContext) and name in _LOOP_METHODS:
            return obj(*args, **given)
        raise jinja2.exceptions.SecurityError(f"{type(obj).__name__} cannot be called in a template")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`client.attributes.items` is the column of that name, and the method only where there is no such column."""
        if isinstance(obj, (dict, Mapping)) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, str):
            obj = plain_text(obj)
        try:
            value = getattr(obj, attribute)
        except AttributeError:
            return self.undefined(obj=obj, name=attribute)
        return value if self.is_safe_attribute(obj, attribute, value) else self.unsafe_undefined(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`evidence[0]`, `client["id"]`; what is not an item may be an attribute."""
        METER.charge(argument)
        try:
            found = obj[argument]
            return plain_text(found) if isinstance(obj, str) else found
        except (TypeError, LookupError):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """The methods and values named above, and the names of secrets; nothing else."""
        methods = methods_of(obj)
        if methods is not None:
            return attr in methods
        if isinstance(obj, LoopContext):
            return attr in _LOOP_VALUES or attr in _LOOP_METHODS
        if isinstance(obj, Macro):
            return attr in _MACRO_VALUES
        return isinstance(obj, SecretNames) and not attr.startswith("_")


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
