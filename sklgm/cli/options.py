"""Options of the command, made of the parameters of estimators: name, default, values, help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from numbers import Integral
from typing import Annotated, Any

import typer
from sklearn.utils._param_validation import Interval, StrOptions

# What is given as a path, or as any text that the estimator looks at itself.
_TEXT = ("memory", "device")


def estimator_options(
    estimator: type,
    *,
    leave_out: Iterable[str] = (),
    only: Iterable[str] | None = None,
    **defaults: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options to a command: one for each parameter of an estimator.

    Parameters
    ----------
    estimator : type
        Its constructor's parameters become options, in their order; ``random_state`` may be
        written ``--seed`` too.
    leave_out : iterable of str, default=()
        Parameters that do not.
    only : iterable of str or None, default=None
        Parameters that do; None is all but those left out.
    **defaults : object
        Where the command's differ.

    Returns
    -------
    callable
        Decorator of a function with a parameter ``parameters``, which receives them in a dict.
    """
    signature = inspect.signature(estimator)
    helps = _helps(estimator)
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name, parameter.default),
            annotation=Annotated[
                Any,
                typer.Option(
                    *_flags(name),
                    parser=_parser(estimator, name, parameter.default),
                    metavar=_metavar(estimator, name),
                    autocompletion=_completion(estimator, name),
                    help=helps[name],
                    rich_help_panel=f"Parameters of {estimator.__name__}",
                ),
            ],
        )
        for name, parameter in signature.parameters.items()
        if name not in leave_out and (only is None or name in only)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**given: Any) -> None:
            parameters = {option.name: given.pop(option.name) for option in options}
            command(**given, parameters=parameters)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [p for p in own if p.name != "parameters"] + options
        with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        with_options.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_options

    return decorate


def _flags(name: str) -> list[str]:
    flags = [f"--{name.replace('_', '-')}"]
    return [*flags, "--seed"] if name == "random_state" else flags


def _constraints(estimator: type, name: str) -> list[Any]:
    found = estimator._parameter_constraints[name]  # type: ignore[attr-defined]
    return found if isinstance(found, list) else [found]


def _words(estimator: type, name: str) -> list[str]:
    """Return the values that are words, "none" among them where it is one of several."""
    constraints = _constraints(estimator, name)
    words = [w for c in constraints if isinstance(c, StrOptions) for w in sorted(c.options)]
    if None in constraints and (words or _number(estimator, name)):
        words.append("none")
    return words


def _number(estimator: type, name: str) -> type | None:
    constraints = _constraints(estimator, name)
    if name == "random_state":
        return int
    types = {c.type if isinstance(c, Interval) else c for c in constraints}
    types = {t for t in types if isinstance(t, type)}
    if Integral in types:
        return int
    return float if any(isinstance(c, Interval) for c in constraints) else None


def _metavar(estimator: type, name: str) -> str:
    number = _number(estimator, name)
    kinds = _words(estimator, name)
    if number is not None:
        kinds = [{int: "INTEGER", float: "NUMBER"}[number], *kinds]
    return "|".join(kinds) or ("TEXT" if name == "device" else "PATH")


def _parser(estimator: type, name: str, default: Any) -> Callable[[Any], Any]:
    words, number = _words(estimator, name), _number(estimator, name)

    def parse(text: Any) -> Any:
        # Defaults pass here, too.
        if not isinstance(text, str) or name in _TEXT:
            return text
        if text in words:
            return None if text == "none" else text
        if number is not None:
            try:
                return number(text)
            except ValueError:
                pass
        raise typer.BadParameter(f"{text!r} is none of {_metavar(estimator, name)}.")

    return parse


def _completion(estimator: type, name: str) -> Callable[[str], list[str]] | None:
    words = _words(estimator, name)
    if not words:
        return None  # the shell's own, which knows files

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _helps(estimator: type) -> dict[str, str]:
    """Return the first sentence of what the docstring says of each parameter."""
    doc = inspect.getdoc(estimator) or ""
    section = doc.partition("Parameters\n----------\n")[2].partition("\n\nAttributes\n")[0]
    entries = re.findall(r"^(\w+) : .*\n((?:(?: .*)?(?:\n|$))*)", section, flags=re.MULTILINE)
    helps = dict.fromkeys(inspect.signature(estimator).parameters, "")
    for name, text in entries:
        plain = " ".join(text.split()).replace("``", "").replace("`", "")
        helps[name] = re.split(r"(?<=\.) (?=[A-Z\"])", plain)[0]
    return helps
