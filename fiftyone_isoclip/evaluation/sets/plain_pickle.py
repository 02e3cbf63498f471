"""Pickles from the internet, read as data: containers, numbers, texts and arrays of numbers.

Nothing that a pickle names is imported or called: ``pickletools`` takes the file apart and what
the few allowed instructions build is built here. Everything else is refused.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.listing import reason_of

MOST_BYTES = 2**26
"""No file that is read here comes near: the ground truth of ROxford has 150 KB."""

_MARK = object()
_CODES = re.compile(r"[biuf][1248]")
_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NO_EFFECT = {"PROTO", "FRAME"}


class _RefusedError(ValueError):
    """An instruction, or a name, that plain data has no need of."""


@dataclass
class _Name:
    name: str


@dataclass
class _Kind:
    code: str
    order: str = "<"


@dataclass
class _Array:
    values: npt.NDArray[Any] | None = None


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds, if it is lists, tuples, dicts, numbers, texts, bytes and numpy arrays.

    Raises:
        IsoClipError: the file cannot be read, is no pickle, or holds anything else; the message
            says what.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _RefusedError(f"it is larger than {MOST_BYTES:,} bytes")
        return _finished(_Machine().run(path.read_bytes()), {})
    except _RefusedError as error:
        raise IsoClipError(
            f"{path} was not read: {error}. It should hold plain data; fetch it from its project"
        ) from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise IsoClipError(
            f"{path} is no pickle that can be read ({reason_of(error)}); fetch it again"
        ) from error


class _Machine:
    """The part of the pickle machine that makes data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise ValueError("it ends too early")

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.take(_TUPLES[name])))
        elif name in _NO_EFFECT:
            pass
        elif step := getattr(self, f"do_{name.lower()}", None):
            step(argument)
        else:
            raise _RefusedError(f"it has the instruction {name}")

    def take(self, n: int) -> list[Any]:
        """The topmost n values, off the stack."""
        if len(self.stack) < n:
            raise ValueError("it takes more than it has made")
        taken = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return taken

    def take_marked(self) -> list[Any]:
        """The values above the last mark, off the stack with it."""
        start = max(place for place, value in enumerate(self.stack) if value is _MARK)
        return self.take(len(self.stack) - start)[1:]

    def do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.take_marked()))

    def do_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def do_list(self, _: Any) -> None:
        self.stack.append(self.take_marked())

    def do_append(self, _: Any) -> None:
        self.extend(self.take(1))

    def do_appends(self, _: Any) -> None:
        self.extend(self.take_marked())

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(values)

    def do_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def do_dict(self, _: Any) -> None:
        values = self.take_marked()
        self.stack.append({})
        self.fill(values)

    def do_setitem(self, _: Any) -> None:
        self.fill(self.take(2))

    def do_setitems(self, _: Any) -> None:
        self.fill(self.take_marked())

    def fill(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets items of what is no dict")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def do_put(self, key: Any) -> None:
        self.memo[key] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: Any) -> None:
        self.do_put(len(self.memo))

    def do_get(self, key: Any) -> None:
        self.stack.append(self.memo[key])

    do_binget = do_long_binget = do_get

    def do_global(self, names: Any) -> None:
        self.stack.append(_Name(names.replace(" ", ".")))

    def do_stack_global(self, _: Any) -> None:
        module, name = self.take(2)
        self.stack.append(_Name(f"{module}.{name}"))

    def do_reduce(self, _: Any) -> None:
        called, arguments = self.take(2)
        name = called.name if isinstance(called, _Name) else type(called).__name__
        self.stack.append(_made(name.replace("numpy._core.", "numpy.core."), arguments))

    def do_build(self, _: Any) -> None:
        made, state = self.take(2)
        if isinstance(made, _Kind):
            made.order = {">": ">"}.get(state[1], "<")
        elif isinstance(made, _Array):
            made.values = _values(*state)
        else:
            raise _RefusedError(f"it sets the state of a {type(made).__name__}")
        self.stack.append(made)


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What numpy would make when it is asked by these names, and by no other."""
    if name == "numpy.dtype":
        if not _CODES.fullmatch(str(arguments[0])):
            raise _RefusedError(f"it has an array of kind {arguments[0]!r}")
        return _Kind(arguments[0])
    if name == "numpy.core.multiarray._reconstruct":
        return _Array()
    if name == "numpy.core.multiarray.scalar":
        kind, data = arguments
        return _values(1, (1,), kind, False, data)[0]
    # Before protocol 3 there were no bytes: they are written as these two calls.
    if name == "_codecs.encode" and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin1")
    if name == "__builtin__.bytes" and arguments == ():
        return b""
    raise _RefusedError(f"it asks for {name}")


def _values(
    _version: int, shape: tuple[int, ...], kind: _Kind, fortran: bool, data: bytes | str
) -> npt.NDArray[Any]:
    """The numbers of an array; Python 2 wrote them as text of one byte a letter."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    written = np.dtype(kind.order + kind.code)
    numbers = np.array(memoryview(raw)).view(written).astype(written.newbyteorder("="))
    return numbers.reshape(shape, order="F" if fortran else "C")


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The value with its arrays in place; nothing but data is left.

    ``done`` keeps what a container became, so that one that is held many times stays one.
    """
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    if isinstance(value, list | tuple | dict):
        if id(value) not in done:
            done[id(value)] = _MARK
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            held = [_finished(part, done) for part in parts]
            made = zip(held, held[len(value) :], strict=False)
            done[id(value)] = type(value)(made if isinstance(value, dict) else held)
        if done[id(value)] is _MARK:
            raise _RefusedError("it holds a container that holds itself")
        return done[id(value)]
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return value
    raise _RefusedError(f"it holds a {type(value).__name__}")
