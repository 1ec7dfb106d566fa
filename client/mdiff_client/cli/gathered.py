"""Commands that take groups of options, so that a group stands in one place and not in every command that has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from functools import partial
from typing import Any


def gathers(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a function in the place of an argument: the argument calls the function with them.

    The command calls it where it is ready to tell of an error.

    Args:
        groups: function of each argument, all of whose parameters are options; those that a partial has bound are not
            offered.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = {argument: _parameters(function, ()) for argument, function in groups.items()}

        def gathering(**given: Any) -> None:  # noqa: ANN401 - whatever the options are
            made = {
                argument: partial(groups[argument], **{one.name: given.pop(one.name) for one in own})
                for argument, own in options.items()
            }
            command(**given, **made)

        offered = [one for own in _parameters(command, groups) for one in options.get(own.name, [own])]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in offered]
        gathering.__name__, gathering.__doc__ = command.__name__, command.__doc__
        gathering.__annotations__ = {one.name: one.annotation for one in parameters}
        gathering.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return gathering

    return decorate


def _parameters(function: Callable[..., Any], gathered: Container[str]) -> list[inspect.Parameter]:
    """Parameters of a function with their annotations, which those ``gathered`` need not have at run time."""
    bound = function.keywords if isinstance(function, partial) else {}
    names = function.func.__globals__ if isinstance(function, partial) else function.__globals__

    def evaluated(annotation: Any) -> Any:  # noqa: ANN401 - an annotation is anything
        return eval(annotation, names) if isinstance(annotation, str) else annotation

    return [
        one if one.name in gathered else one.replace(annotation=evaluated(one.annotation))
        for one in inspect.signature(function).parameters.values()
        if one.name not in bound
    ]
