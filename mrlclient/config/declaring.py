"""Writing a model's declaration into a configuration, and leaving all the rest of it as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrlclient.config.files import OWN, PROJECT, File, open_file
from mrlclient.config.reading import DECLARING, Reader
from mrlclient.config.writing import spec_table
from mrlclient.errors import ConfigurationError, missing_extra
from mrlclient.models import ModelSpec


def check_place(path: Path, address: str) -> None:
    """Refuses a file into which a model cannot be declared, before there is anything to declare.

    Raises:
        ConfigurationError: If it is no configuration, or a profile of it declares the model itself.
        MissingExtraError: If tomlkit is not installed.
    """
    _toml()
    if path.suffix != ".toml":
        raise ConfigurationError(f"A configuration is a file such as {OWN}. {path} is none by its name.")
    if not path.exists():
        if path.name == PROJECT:
            raise ConfigurationError(f"There is no file {path}.")
        return
    file = open_file(path)
    profiles = file.values.get("profiles")
    for name, profile in profiles.items() if isinstance(profiles, Mapping) else ():
        if not isinstance(profile, Mapping) or profile.get("model") != address:
            continue
        keys = [key for key in ("spec", *DECLARING) if key in profile]
        if keys:
            line = file.line(("profiles", name, keys[0]))
            raise ConfigurationError(
                f"{path}:{line}: the profile {name!r} declares its model itself, by {' and '.join(keys)}. Move that to "
                f'[models."{address}"], where it can be written.'
            )


def with_declaration(path: Path, spec: ModelSpec) -> str:
    """The text of a configuration, with a model declared in it: comments and order stay.

    Args:
        path: The file; where there is none, it is made.
        spec: The model. Where it is declared already, what differs is written, and `sources` added to.

    Raises:
        ConfigurationError: If the file declares it in a way that another model would come out.
        MissingExtraError: If tomlkit is not installed.
    """
    check_place(path, spec.address)
    toml = _toml()
    file = open_file(path) if path.exists() else File(path, "")
    document = toml.parse(file.text)
    place: Any = document
    for part in (*file.root, "models"):
        place = place.setdefault(part, toml.table(is_super_table=True))
    table = place.setdefault(spec.address, toml.table())
    for name, value in spec_table(spec).items():
        if table.get(name) != value:
            table[name] = value
    sources = {**table.get("sources", {}), **spec.sources}
    table.pop("sources", None)
    if sources:
        # Last, for in TOML nothing of a table can stand after a table within it.
        table["sources"] = sources
    text: str = toml.dumps(document)
    written = File(path, text)
    reader = Reader(written.folder, needs_keys=False)
    at = ("models", spec.address)
    if reader.spec(spec.address, written.values["models"][spec.address], at) != spec:
        raise ConfigurationError(
            f"{path}:{written.line(at)}: it declares {spec.address} in another way than the one that was probed. Take "
            "that out, or write to another file."
        )
    return text


def _toml() -> Any:
    try:
        import tomlkit
    except ImportError:
        raise missing_extra("tomlkit, which writes configurations,", "config") from None
    return tomlkit
