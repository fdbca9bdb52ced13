"""Which profile is meant, and what the environment puts in the place of its values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mrlclient.config import tables
from mrlclient.config.files import OWN, File, Place, expanded, find_file, open_file
from mrlclient.config.problems import Problem, raised
from mrlclient.config.reading import Reader, provider_of
from mrlclient.errors import ConfigurationError
from mrlclient.models import ModelSpec, split_address

_ROOT: tables.Kinds = {"default": str, "profiles": dict[str, Any], "models": dict[str, Any]}

MODEL, DIMENSIONS, PROFILE = "MRLCLIENT_MODEL", "MRLCLIENT_DIMENSIONS", "MRLCLIENT_PROFILE"

_WRITE = 'Write one: [profiles.NAME] and model = "provider:model".'

_HOW = (
    'Write one with [profiles.NAME] and model = "provider:model"; or say where it is in MRLCLIENT_CONFIG, or which '
    f"model you want in {MODEL}."
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A profile, where it is, and what came from elsewhere.

    Attributes:
        file: The configuration; None where the environment alone names a model.
        name: The profile's name; None where there is none.
        values: Its values, with those of the environment in their place.
        overrides: Key -> the variable that its value comes from.
        left_out: Keys beside a model that was replaced, which belong to that one.
    """

    file: File | None
    name: str | None
    values: Mapping[str, Any]
    overrides: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def at(self) -> Place:
        """Where the profile is in the file."""
        return () if self.name is None else ("profiles", self.name)

    def origin(self, at: Place) -> str:
        """Where something comes from: `mrlclient.toml:3`, or a variable."""
        rest = at[len(self.at) :] if at[: len(self.at)] == self.at else ()
        if rest and rest[0] in self.overrides:
            return self.overrides[str(rest[0])]
        return "the environment" if self.file is None else f"{self.file.path}:{self.file.line(at)}"


def arguments_of_file(path: str | os.PathLike[str] | None, profile: str | None) -> dict[str, Any]:
    """An embedder's arguments out of a file and the environment.

    Raises:
        ConfigurationError: With all that is wrong with the file, if its profile cannot be used.
    """
    chosen = choose(path, profile)
    reader = Reader(None if chosen.file is None else chosen.file.folder)
    arguments = read(reader, chosen)
    if reader.problems and chosen.file is not None:
        # Then all that is wrong with it is told at once.
        others = check(chosen.file)[1]
        known = {problem.at for problem in reader.problems}
        reader.problems += [problem for problem in others if problem.at not in known and problem.at[:2] != chosen.at]
    if reader.problems:
        raise raised(reader.problems, chosen.origin)
    return arguments


def choose(path: str | os.PathLike[str] | None, profile: str | None) -> Chosen:
    """The profile that is meant.

    Raises:
        ConfigurationError: If there is no such file or profile, or nothing says which.
    """
    file = find_file() if path is None else open_file(expanded(path))
    model = os.environ.get(MODEL, "").strip()
    if file is not None:
        profiles = _profiles(file)
        name = _name(file, profiles, profile, model)
        return _overridden(Chosen(file, name, {} if name is None else profiles[name]), model)
    wanted = profile or os.environ.get(PROFILE, "").strip()
    if wanted:
        raise ConfigurationError(f"There is no profile {wanted!r}, for there is no {OWN}. {_HOW}")
    if not model:
        raise ConfigurationError(f"There is no {OWN} here or in a folder above, and no {MODEL}. {_HOW}")
    return _overridden(Chosen(None, None, {}), model)


def check(file: File) -> tuple[dict[str, Reader], list[Problem]]:
    """Reads every profile of a file, without its keys.

    Returns:
        The readers of the profiles that are right; and all that is wrong, in the order of the file.
    """
    readers, problems = {}, []
    for name, values in _profiles(file).items():
        readers[name] = reader = Reader(file.folder, needs_keys=False)
        read(reader, Chosen(file, name, values))
        # What is wrong with the file as a whole is told once.
        problems += [problem for problem in reader.problems if problem not in problems]
    if not readers:
        reader = Reader(file.folder, needs_keys=False)
        _read_root(reader, file)
        reader.tell(("profiles",), f"there are none. {_WRITE}")
        problems = reader.problems
    wrong = {problem.at[:2] for problem in problems}
    readers = {name: reader for name, reader in readers.items() if ("profiles", name) not in wrong}
    return readers, sorted(problems, key=lambda problem: file.line(problem.at))


def read(reader: Reader, chosen: Chosen) -> dict[str, Any]:
    """Reads a profile, and what of its file is about all of them."""
    if chosen.file is not None:
        reader.models = _read_root(reader, chosen.file)
    return reader.profile(chosen.values, chosen.at)


def _read_root(reader: Reader, file: File) -> dict[str, ModelSpec]:
    """The declared models."""
    values = reader.checked(_ROOT, file.values, ())
    profiles = _profiles(file)
    if isinstance(default := file.values.get("default"), str) and default not in profiles:
        reader.tell(("default",), f"there is no profile {default!r}.{tables.near(default, list(profiles))}")
    for name, table in profiles.items():
        if not isinstance(table, Mapping):
            reader.tell(("profiles", name), "must be a table")
    models = values.get("models", {})
    declared = {address: reader.spec(address, table, ("models", address)) for address, table in models.items()}
    return {address: spec for address, spec in declared.items() if spec is not None}


def _profiles(file: File) -> Mapping[str, Any]:
    profiles = file.values.get("profiles")
    return profiles if isinstance(profiles, Mapping) else {}


def _name(file: File, profiles: Mapping[str, Any], asked: str | None, model: str) -> str | None:
    """Which of the profiles is meant; None where there is none, and the environment names the model."""
    variable = os.environ.get(PROFILE, "").strip()
    name = asked or variable or file.values.get("default")
    if not name and len(profiles) == 1:
        (name,) = profiles
    if isinstance(name, str) and name in profiles:
        return name
    said = "" if asked else f" {PROFILE} names it." if variable else ""
    at = f"{file.path}:{file.line(('profiles',))}"
    if not profiles and model and not name:
        return None
    if not profiles:
        raise ConfigurationError(f"{at}: there are no profiles. {_WRITE}")
    known = ", ".join(map(repr, profiles))
    if not name:
        raise ConfigurationError(
            f"{at}: there are several profiles: {known}. Name one, in the call, in {PROFILE} or as default."
        )
    if not (asked or variable):
        at = f"{file.path}:{file.line(('default',))}"
    near = tables.near(str(name), list(profiles)) or f" There are {known}."
    raise ConfigurationError(f"{at}: there is no profile {name!r}.{said}{near}")


def _overridden(chosen: Chosen, model: str) -> Chosen:
    """The profile with what the environment says of model and dimensions in its place."""
    if not isinstance(chosen.values, Mapping):
        # Which is told where it is read.
        return chosen
    values, overrides, left_out = dict(chosen.values), {}, list[str]()
    if model:
        left_out = _of_another_model(values, model)
        values = {"model": model} | {name: value for name, value in values.items() if name not in ("model", *left_out)}
        overrides["model"] = MODEL
    dimensions = os.environ.get(DIMENSIONS, "").strip()
    if dimensions:
        values["dimensions"] = _widths(dimensions)
        overrides["dimensions"] = DIMENSIONS
    return Chosen(chosen.file, chosen.name, values, overrides, tuple(left_out))


def _of_another_model(values: Mapping[str, Any], model: str) -> list[str]:
    """Which of a profile's keys belong to its own model, and not to the one in its place.

    What is known of a model is that model's; the settings of a provider are that provider's. So no key and no address
    gets to another vendor, and a server of one's own goes on to serve the other models of its provider.
    """
    own, other = provider_of(values.get("model")), provider_of(model)
    if _canonical(values.get("model")) == _canonical(model):
        return []
    if own is None:
        settings = [name for name in values if name not in tables.EMBEDDER]
    elif own is other:
        settings = ["spec", *own.model_settings]
    else:
        settings = ["spec", *tables.kinds_of(own)]
    # Which numbers a code stands for is a model's too.
    return [name for name in values if name in (*settings, "ranges") and name != "model"]


def _canonical(address: object) -> object:
    try:
        return split_address(str(address))
    except ConfigurationError:
        return address


def _widths(value: str) -> int | list[int]:
    if not re.fullmatch(r"[0-9]{1,9}( *, *[0-9]{1,9})*", value):
        raise ConfigurationError(f"{DIMENSIONS} must be a whole number, or several with commas, such as 64,256.")
    first, *others = map(int, value.split(","))
    return [first, *others] if others else first
