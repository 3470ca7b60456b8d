"""Shares groups of options between commands, which receive each group as one object."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_options(
    group: Callable[..., Any], name: str | None, *, panel: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command so that it also has the options of `group`.

    Args:
        group: Function whose parameters are options; it returns the object that collects their values.
        name: Parameter of the command that receives this object; None: do not pass it.
        panel: Heading in the help for options without one; None for the command's own.
    """
    signature = inspect.signature(group, eval_str=True)
    shared = {key: _in_panel(parameter, panel) for key, parameter in signature.parameters.items()}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        parameters = [*(p for p in own.parameters.values() if p.name != name), *shared.values()]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            collected = group(**{key: values.pop(key) for key in shared})
            return command(**values, **({} if name is None else {name: collected}))

        run.__dict__.pop("__wrapped__")  # or Typer would read the command's own signature
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _in_panel(parameter: inspect.Parameter, panel: str | None) -> inspect.Parameter:
    option = copy.copy(parameter.default)  # other parameters may share it
    option.rich_help_panel = option.rich_help_panel or panel
    return parameter.replace(default=option)
