"""Whether a tool may be given what a person typed: arguments, read as the tool itself will read them.

What is not on a tool's list is refused, however it is spelt: abbreviated, in a cluster, or joined to its value.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from signal import SIGTERM, Signals


class NotAllowedError(ValueError):
    """An argument is not on its tool's list; the message says which one."""


@dataclass(frozen=True, kw_only=True)
class Tool(ABC):
    """A program, the arguments it always gets, what it runs through, and the signal on which it says its last words.

    `never` goes on after "it may only be told what never".
    """

    program: str
    always: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    end: Signals = SIGTERM
    never: str = "writes or reads a file, runs a program or changes the pod"

    @abstractmethod
    def read(self, words: Sequence[str]) -> dict[str, str]:
        """Give the options among arguments, with their values. Raises NotAllowedError."""


@dataclass(frozen=True, kw_only=True)
class Getopt(Tool):
    """A tool that reads its options as getopt_long(3) does, wherever they stand between other words.

    `short` has getopt's notation; `long` are names, with `=` where a value is needed and `[=]` where one is possible.
    `values` has, for options whose value is not free, a pattern of it and how a sentence goes on that says what is;
    `words` is the pattern of all that is no option.
    """

    short: str
    long: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    words: str = ".*"

    def read(self, words: Sequence[str]) -> dict[str, str]:
        """Give the options among arguments, with their values. Raises NotAllowedError."""
        given: dict[str, str] = {}
        rest = iter(words)
        for word in rest:
            if word == "--":
                for other in rest:
                    self._check(other)
            elif word.startswith("--"):
                given.update(self._long(word, rest))
            elif word.startswith("-") and word != "-":
                given.update(self._cluster(word[1:], rest))
            else:
                self._check(word)
        return given

    def _long(self, word: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
        known = {f"--{name}": takes for name, takes in re.findall(r"([^\s[=]+)(\S*)", " ".join(self.long))}
        name, equals, value = word.partition("=")
        if name not in known:  # of which option it is an abbreviation, each version of a tool decides anew
            raise NotAllowedError(f"option {name} is not allowed")
        if equals and not known[name]:
            raise NotAllowedError(f"option {name} takes no value")
        yield name, self._value(name, _next(name, rest) if known[name] == "=" and not equals else value)

    def _cluster(self, letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
        known = {f"-{letter}": takes for letter, takes in re.findall("([^:])(:?)", self.short)}
        while letters:
            name, letters = f"-{letters[0]}", letters[1:]
            if name not in known:
                raise NotAllowedError(f"option {name} is not allowed")
            value = ""
            if known[name]:
                value, letters = letters or _next(name, rest), ""
            yield name, self._value(name, value)

    def _value(self, name: str, value: str) -> str:
        pattern, allowed = self.values.get(name, (".*", ""))
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise NotAllowedError(f"option {name} may only be {allowed}, and {value!r} is not")
        return value

    def _check(self, word: str) -> None:
        if not re.fullmatch(self.words, word, re.DOTALL):
            raise NotAllowedError(f"{word!r} is not allowed")


@dataclass(frozen=True, kw_only=True)
class Iproute(Tool):
    """ip(8) and tc(8): options, an object and a verb, each one of the words listed; `monitored` may follow monitor.

    iproute2 takes any beginning of a word for the word: in `ip link s` that is `set`.
    """

    options: str
    objects: str
    verbs: str
    monitored: str = ""

    def read(self, words: Sequence[str]) -> dict[str, str]:
        """Give the options among arguments. Raises NotAllowedError."""
        rest = list(words)
        given: dict[str, str] = {}
        while rest and rest[0].startswith("-"):
            given[_one_of(self.options, rest.pop(0))] = ""
        if rest and _one_of(self.objects, rest.pop(0)) == "monitor":
            for word in rest:
                _one_of(self.monitored, word)
        elif rest:
            _one_of(self.verbs, rest[0])
        return given


@dataclass(frozen=True, kw_only=True)
class Ethtool(Tool):
    """ethtool(8): flags, at most one option, and a device."""

    flags: str
    options: str

    def read(self, words: Sequence[str]) -> dict[str, str]:
        """Give the options among arguments. Raises NotAllowedError."""
        rest = list(words)
        given: dict[str, str] = {}
        while rest and rest[0] in self.flags.split():
            given[rest.pop(0)] = ""
        if rest and rest[0].startswith("-"):
            given[_one_of(self.options, rest.pop(0))] = ""
        if len(rest) > 1 or any(word.startswith("-") for word in rest):
            raise NotAllowedError(f"{' '.join(rest)!r} is not allowed here: the name of one device is")
        return given


def _next(name: str, rest: Iterator[str]) -> str:
    """Give the next word as an option's value; one that looks like an option does not pass as a value unchecked."""
    value = next(rest, None)
    if value is None:
        raise NotAllowedError(f"option {name} needs a value")
    if value.startswith("-") and not re.fullmatch(r"-|-\d[\d.]*", value):
        raise NotAllowedError(f"option {name} needs a value, and {value!r} looks like an option")
    return value


def _one_of(allowed: str, word: str) -> str:
    if word not in allowed.split():
        raise NotAllowedError(f"{word!r} is not allowed here, only {allowed or 'nothing'}")
    return word
