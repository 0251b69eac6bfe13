"""How a module is called: from nested arguments to the flat inputs of a program, and back."""

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import tensors_in
from torchcompress.quantization.program import CallForm, Program

PLAIN = (bool, int, float, str, type(None))
"""Types of arguments that a traced program holds fixed."""


@dataclass(frozen=True)
class _Leaf:
    """Where a tensor stands in nested arguments."""

    path: str


@dataclass(frozen=True)
class ObservedCall:
    """One way in which a module was called.

    Two calls are equal where the same containers hold tensors at the same places and equal plain
    values elsewhere.

    Args:
        arguments: By parameter, with a mark in place of each tensor.
        form: The same as plain data.
    """

    arguments: dict[str, Any]
    form: CallForm

    @classmethod
    def of(
        cls, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> "ObservedCall":
        """Describes a call.

        Raises:
            ValueError: An argument that is neither a tensor nor plain data nor a list, tuple or
                dict of such (it is named).
        """
        signature = inspect.signature(module.forward)
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        constants = dict(_constants(arguments))
        for path, value in constants.items():
            if type(value) not in PLAIN:
                raise ValueError(f"the argument {path!r} is {type(value).__name__}")
        template = {name: _template(value, name) for name, value in arguments.items()}
        names = tuple(map(_written, signature.parameters.values()))
        return cls(template, CallForm(names, constants))

    @property
    def inputs(self) -> list[str]:
        """The paths of the tensors, in call order."""
        return [leaf.path for leaf in _leaves(self.arguments)]

    @property
    def is_plain(self) -> bool:
        """Whether each argument is a tensor, and they are the first parameters."""
        return not self.form.constants and self.inputs == list(
            self.form.arguments[: len(self.inputs)]
        )

    def fill(self, tensors: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Returns positional and keyword arguments of this form.

        Args:
            tensors: What stands for each tensor, by path.
        """
        given = {name: _filled(value, tensors) for name, value in self.arguments.items()}
        positional: list[Any] = []
        for entry in self.form.arguments:
            if entry.startswith("*") and not entry.startswith("**"):
                positional += given.pop(entry[1:], ())
            elif entry in given and entry.isidentifier():
                positional.append(given.pop(entry))
            else:
                break
        for entry in self.form.arguments:
            if entry.startswith("**"):
                given |= given.pop(entry[2:], {})
        return positional, given


def bind_inputs(program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Returns a call's tensors in the order of a program's inputs.

    Raises:
        TypeError: An argument is missing, unknown, not a floating-point tensor, or another plain
            value than the one that the program was traced with.
    """
    names = [name for name, _ in program.inputs]
    form = program.call
    if form is None:
        if not kwargs and len(args) == len(names) and all(map(_is_float32, args)):
            return list(args)
        form = CallForm(tuple(names), {})
    given = _by_parameter(form.arguments, args, kwargs)
    if given is None:
        raise TypeError(f"this model takes the inputs {', '.join(names)}")
    tensors, constants = dict(tensors_in(given)), dict(_constants(given))
    for path, value in constants.items():
        if path in names:
            raise TypeError(f"the input {path!r} must be a floating-point tensor")
        if path in form.constants and not _equal(form.constants[path], value):
            fixed = form.constants[path]
            raise TypeError(f"the input {path!r} is {value!r}, the program is for {fixed!r}")
    if tensors.keys() != set(names) or constants.keys() != form.constants.keys():
        raise TypeError(f"this model takes the inputs {', '.join([*names, *form.constants])}")
    values = [tensors[name] for name in names]
    for name, value in zip(names, values, strict=True):
        if not value.is_floating_point():
            raise TypeError(f"the input {name!r} must be a floating-point tensor")
    return [value.float() for value in values]


def _by_parameter(
    entries: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Returns arguments by parameter, None where they do not bind."""
    given: dict[str, Any] = {}
    left, named = list(args), dict(kwargs)
    for entry in entries:
        if entry.startswith("**"):
            known = {e.strip("*=") for e in entries}
            extra = {name: named.pop(name) for name in list(named) if name not in known}
            given |= {entry[2:]: extra} if extra else {}
        elif entry.startswith("*"):
            given |= {entry[1:]: tuple(left)} if left else {}
            left = []
        elif left and entry.isidentifier():
            given[entry] = left.pop(0)
    if left or given.keys() & named.keys():
        return None
    return {**given, **named}


def _written(parameter: inspect.Parameter) -> str:
    marks = {
        inspect.Parameter.VAR_POSITIONAL: f"*{parameter.name}",
        inspect.Parameter.VAR_KEYWORD: f"**{parameter.name}",
        inspect.Parameter.KEYWORD_ONLY: f"{parameter.name}=",
    }
    return marks.get(parameter.kind, parameter.name)


def _template(value: Any, path: str) -> Any:
    if isinstance(value, Tensor):
        return _Leaf(path)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _template(item, f"{path}.{key}")) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value)(_template(item, f"{path}[{n}]") for n, item in enumerate(value))
    if any(tensors_in(value)):
        raise ValueError(f"the argument {path!r} is {type(value).__name__}")
    return value


def _filled(template: Any, tensors: Mapping[str, Any]) -> Any:
    if isinstance(template, _Leaf):
        return tensors[template.path]
    if type(template) in (dict, OrderedDict):
        return type(template)((key, _filled(item, tensors)) for key, item in template.items())
    if type(template) in (list, tuple):
        return type(template)(_filled(item, tensors) for item in template)
    return template


def _leaves(value: Any) -> Iterator[_Leaf]:
    if isinstance(value, _Leaf):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)


def _constants(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what stands beside tensors in nested arguments, by path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _constants(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _constants(item, f"{path}[{index}]")
    elif not isinstance(value, Tensor):
        yield path, value


def _equal(known: Any, value: Any) -> bool:
    return type(known) is type(value) and known == value


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32
