"""The call plan of a callable: its signature, read once, and the binding of keys, injections and values to it."""

from __future__ import annotations

import functools
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nomaflow_host.injection.callables import Kind, evaluated, innermost, kind_of_callable, readable, signature_of
from nomaflow_host.injection.coercion import Coercion, coercion_for
from nomaflow_host.injection.errors import Misfit, PreparationFailed
from nomaflow_host.injection.references import described, near, stable
from nomaflow_project.reading.misspelt_names import misspelt_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

BUILTIN_INJECTIONS = ("connectors", "ctx", "settings")
"""The names that are injected without any plugin."""

_MAX_SHOWN = 80


class CallPlan(Struct, frozen=True, kw_only=True):
    """The way to call *target*.

    :param parameters: all but its ``**`` parameter
    :param catch_all: the name of that, empty if it has none
    :param named: the parameters that can be given by name, of which *required* must be given
    :param bound: the parameters that a partial has already given a value
    :param coercions: coercions by parameter, each made on first use
    :param declared: the fields of the step types that call it, which are never misspelt parameters
    """

    reference: str
    target: Callable[..., Any]
    function: Any
    kind: Kind
    parameters: tuple[Parameter, ...]
    catch_all: str
    named: Mapping[str, Parameter]
    required: tuple[str, ...]
    bound: frozenset[str]
    coercions: dict[str, Coercion | None]
    declared: frozenset[str] = frozenset()

    @property
    def location(self) -> str:
        """``file:line`` of the function, empty if unknown."""
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""

    @property
    def signature(self) -> str:
        """The shortened signature, for messages: ``(*, apps_id, max_age_days=…, **_)``."""
        parts = [
            ("*" if each.kind is each.VAR_POSITIONAL else "") + each.name + ("" if is_required(each) else "=…")
            for each in self.parameters
        ]
        return f"({', '.join([*parts, *(['**' + self.catch_all] if self.catch_all else [])])})"

    def injectable(self, name: str) -> bool:
        """Return True if the injection *name* is passed when no key has that name."""
        return name not in self.bound if name in self.named else bool(self.catch_all)

    def bind(
        self,
        values: Mapping[str, Any],
        *,
        strict: Collection[str],
        injections: Mapping[str, Any],
        shown: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the keyword arguments of the call.

        :param values: all layers merged
        :param strict: the keys that came from op_kwargs; other keys are dropped if the callable does not take them
        :param injections: name to value
        :param shown: values for messages in place of *values*, so that a resolved secret stays out of them
        :raises PreparationFailed: for an unknown key, a missing argument or a value that does not fit
        """
        arguments: dict[str, Any] = {}
        for key, value in values.items():
            if key in self.named:
                arguments[key] = value if key in injections else self.fit(key, value, shown or values)
            elif key in strict and (problem := self._key_problem(key, values, injections)):
                raise problem
            elif self.catch_all:
                arguments[key] = value
        for name, value in injections.items():
            if name not in arguments and self.injectable(name):
                arguments[name] = value
        for name in self.required:
            if name not in arguments:
                raise self._missing([each for each in self.required if each not in arguments], values)
        return arguments

    def read_coercion(self, name: str) -> Coercion | None:
        """Return the coercion of the parameter *name*, from its annotation; None if values pass unchanged."""
        try:
            annotation = evaluated(self.named[name].annotation, function=self.function)
            coercion = coercion_for(annotation)
        except Exception:  # noqa: BLE001 - an annotation that cannot be inspected gives no coercion
            coercion = None
        self.coercions[name] = coercion
        return coercion

    def fit(self, key: str, value: Any, shown: Mapping[str, Any] | None = None) -> Any:
        """Return a value in the form that the parameter *key* takes.

        :param shown: values for the message, by key
        :raises PreparationFailed: ``value_invalid``
        """
        try:
            coercion = self.coercions[key]
        except KeyError:
            coercion = self.read_coercion(key)
        if coercion is None or (value is None and self.named[key].default is None):
            return value
        try:
            return coercion(value)
        except Misfit as misfit:
            given = _short(value if shown is None else shown.get(key))
            wanted = readable(self.named[key].annotation)
            why = "" if str(misfit) == f"expected {wanted}" else f": {misfit}"
            told = f"{key} = {given} ({type(value).__name__}) as {wanted}{why}"
            problem = f"the callable {self.reference!r} cannot take {told}"
            raise PreparationFailed("value_invalid", problem) from None

    def check(
        self,
        key: str,
        value: Any,
        *,
        strict: bool,
        given: Collection[str],
        injected: Collection[str],
        shown: Mapping[str, Any] | None = None,
    ) -> None:
        """Accept a key and its value, as `bind` would.

        :param strict: True if the key came from op_kwargs
        :param given: the keys of all layers
        :param injected: names of injections
        :param shown: as for `bind`
        :raises PreparationFailed: for an unknown key, or a value that does not fit
        """
        if key in self.named:
            if key not in injected:
                self.fit(key, value, shown)
        elif strict and (problem := self._key_problem(key, given, injected)):
            raise problem

    def _key_problem(self, key: str, given: Collection[str], injected: Collection[str]) -> PreparationFailed | None:
        """Return why a key of op_kwargs without a parameter is refused: nothing takes it, or it is misspelt.

        A misspelt key of a required parameter is reported together with the missing parameter.
        """
        if not self.catch_all:
            problem = (
                f"the callable {self.reference!r} does not take the op_kwargs key {key!r}{near(key, self.named)}; "
                f"its signature is {self.signature} (correct the key, or add **_ to the signature)"
            )
            return PreparationFailed("key_unknown", problem)
        if key in self.declared:
            return None
        taken = {*self.required, *self.bound, *injected, *given}
        meant = misspelt_name(key, (name for name in self.named if name not in taken))
        if not meant:
            return None
        problem = (
            f"the callable {self.reference!r} does not name the op_kwargs key {key!r} (did you mean {meant!r}?), "
            f"and nothing gives {meant!r}; its signature is {self.signature} (correct the key)"
        )
        return PreparationFailed("key_unknown", problem)

    def _missing(self, names: list[str], values: Mapping[str, Any]) -> PreparationFailed:
        spare = [key for key in values if key not in self.named]
        hint = next((hint for name in names if (hint := near(name, spare))), "")
        hint = hint.replace("did you mean", "they give").replace("?)", ")")
        problem = (
            f"the callable {self.reference!r} needs {', '.join(map(repr, names))}, which neither op_kwargs nor params "
            f"give{hint} (add it to op_kwargs, or give it a default)"
        )
        return PreparationFailed("argument_missing", problem)


def plan_for(target: Any, *, reference: str) -> CallPlan:
    """Read the signature of *target*.

    :raises PreparationFailed: ``callable_unsupported`` if it cannot be a step
    """
    try:
        return _plan_of(target, reference)
    except PreparationFailed:
        raise
    except Exception as error:  # noqa: BLE001 - an object of the author's may raise whatever it is asked
        problem = f"the callable {reference!r} cannot be inspected: {described(error)} (wrap it in a function)"
        raise PreparationFailed("callable_unsupported", stable(problem)) from None


def _plan_of(target: Any, reference: str) -> CallPlan:
    kind = kind_of_callable(target, reference=reference)
    try:
        signature = signature_of(target)
    except (ValueError, TypeError):
        problem = f"the callable {reference!r} has no signature that can be read (wrap it in a function)"
        raise PreparationFailed("callable_unsupported", problem) from None
    parameters = signature.parameters.values()
    for each in parameters:
        if each.kind is each.POSITIONAL_ONLY:
            problem = (
                f"the callable {reference!r} has the positional-only parameter {each.name!r}, and steps are called by "
                "name (remove the '/' from its signature)"
            )
            raise PreparationFailed("callable_unsupported", problem)
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return CallPlan(
        reference=reference,
        target=target,
        function=innermost(target),
        kind=kind,
        parameters=tuple(each for each in parameters if each.kind is not each.VAR_KEYWORD),
        catch_all=next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), ""),
        named=named,
        required=tuple(name for name, each in named.items() if is_required(each)),
        bound=frozenset(target.keywords if isinstance(target, functools.partial) else ()),
        coercions={},
    )


def is_required(parameter: Parameter) -> bool:
    """Return True if a parameter must be given."""
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
