"""From command line, environment and file to `Settings`.

Owns: precedence, and the message about a wrong value. The command line wins over the environment (`PEERD_` and the option's
name in capitals), the environment over the YAML file of `--config`. Nobody else reads the environment for options.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.errors import PeerdError
from app.settings.options import Settings
from app.settings.values import Spelled

ENVIRONMENT_PREFIX: Final = "PEERD_"


class SettingsError(PeerdError):
    """What was set can not be meant; the message has a line for each fault."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: object
    place: str


def load_settings(command_line: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings that these sources make together.

    Args:
        command_line: by field name, e.g. `cache_size`, text or a list of texts or a bool; None and () mean not given.
            `config` names the YAML file, as does `PEERD_CONFIG` in `environ`.
        environ: the process's environment; an empty variable is as good as none.

    Raises:
        SettingsError: an option has a wrong value, the file can not be read or has a key that is no option, or options
            contradict each other.
    """
    config = command_line.get("config") or environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    given = _from_file(Path(str(config))) if config else {}
    given |= _from_environment(environ)
    given |= _from_command_line(command_line)
    try:
        return Settings.model_validate({name: one.value for name, one in given.items()})
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error, given))) from None


def option_of(name: str) -> str:
    """`cache_size` as it is typed: `--cache-size`."""
    return f"--{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    """`cache_size` as an environment variable: `PEERD_CACHE_SIZE`."""
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def spelled(field: FieldInfo) -> Spelled:
    """How a value of this option is written."""
    for annotation in (*field.metadata, field.annotation):
        if found := _spelled_in(annotation):
            return found
    raise TypeError(f"the type of an option says nothing of how it is written: {field.annotation}")


def is_list(field: FieldInfo) -> bool:
    """Whether the option may be repeated."""
    return get_origin(field.annotation) is tuple


def shown_default(field: FieldInfo) -> str:
    """The default as the help tells it."""
    extra = field.json_schema_extra
    return str(extra["shown"]) if isinstance(extra, dict) else ""


def _spelled_in(annotation: object) -> Spelled | None:
    if isinstance(annotation, Spelled):
        return annotation
    if get_origin(annotation) is Literal:
        words = [str(word) for word in get_args(annotation)]
        return Spelled("|".join(words), f"{', '.join(words[:-1])} or {words[-1]}")
    plain = {
        bool: Spelled("", "true or false"),
        int: Spelled("NUMBER", "a whole number"),
        float: Spelled("NUMBER", "a number"),
    }
    if isinstance(annotation, type) and annotation in plain:
        return plain[annotation]
    # An Annotated hides what was added to its type from get_args of the whole, but not from __metadata__.
    inner = (*getattr(annotation, "__metadata__", ()), *get_args(annotation))
    return next((found for part in inner if (found := _spelled_in(part))), None)


def _from_command_line(command_line: Mapping[str, object]) -> dict[str, Given]:
    return {
        name: Given(value, "on the command line")
        for name, value in command_line.items()
        if name in Settings.model_fields and value is not None and value != ()
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    variables = {name: variable_of(name) for name in Settings.model_fields}
    return {
        name: Given(environ[variable], f"environment variable {variable}")
        for name, variable in variables.items()
        if environ.get(variable)
    }


def _from_file(path: Path) -> dict[str, Given]:
    try:
        # BaseLoader leaves every scalar as text, so that a value means in the file what it means on the command line.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - makes text only
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"--config {path}: can not be read: {error}") from error
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"--config {path}: holds no options; right would be lines as `cache-size: 10GiB`")
    if faults := [_unknown(key, path) for key in content if key.replace("-", "_") not in Settings.model_fields]:
        raise SettingsError("\n".join(faults))
    return {
        key.replace("-", "_"): Given(value, f"key {key} in {path}")
        for key, value in content.items()
        if value not in ("", "~", "null")
    }


def _unknown(key: str, path: Path) -> str:
    known = [option_of(name)[2:] for name in Settings.model_fields]
    near = difflib.get_close_matches(key.replace("_", "-"), known, n=1, cutoff=0.5)
    return f"key {key} in {path}: is no option; " + (f"{near[0]} is" if near else "`peerd serve --help` lists them")


def _lines(error: ValidationError, given: Mapping[str, Given]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        if not detail["loc"]:
            yield str(detail["ctx"]["error"])
        elif detail["type"] != "default_factory_not_called":  # it only tells that another option was wrong
            yield _line(detail, given)


def _line(detail: ErrorDetails, given: Mapping[str, Given]) -> str:
    name = str(detail["loc"][0])
    place = given[name].place if name in given else "found on this machine"
    fault = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else _plain(detail)
    right = spelled(Settings.model_fields[name]).right
    return f"{option_of(name)}: {str(detail['input'])!r} ({place}) {fault}; right would be {right}"


def _plain(detail: ErrorDetails) -> str:
    """Pydantic's own words, `Input should be …`, made the rest of a sentence that begins with the value."""
    message = detail["msg"]
    return (
        message.replace("Input should be", "should be", 1)
        if message.startswith("Input should")
        else f"is wrong: {message}"
    )
