"""What every script's command line shares: errors as sentences, what was probably meant, a help page."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fitting import InputError
from scripting.schema import MEANINGS, SECTIONS, Schema

#: Score of a job of a sweep that failed or diverged: the worst correlation there is.
PENALTY = -1.0

#: What a user can correct: printed as a sentence, without a traceback.
SENTENCES = (InputError, OmegaConfBaseException)

CONF = Path(__file__).resolve().parents[2] / "conf"


def run(main: Callable[[], Any]):
    """Run a script; what a user can correct ends with a sentence and exit code 2, anything else with its traceback."""
    # Hydra's own way to print errors hides what is wrong with a setting, and how it was probably spelt.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        refuse_dashes(sys.argv[1:])
        main()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if any(frame.name == "wrapper" for frame in traceback.extract_tb(error.__traceback__)):
            raise
        # Hydra makes the folder before it calls the script.
        print(f"error: the run's folder (hydra.run.dir) cannot be made: {error}", file=sys.stderr)
        sys.exit(2)


def sentences(function):
    """Print an :class:`InputError`, or what Ctrl-C leaves, as one sentence without a traceback; exit with 2, or 130.

    A job of a sweep does not end the sweep: whatever goes wrong, it leaves a note and scores :data:`PENALTY`.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            refuse_unknown(args[0])
            score = function(*args, **kwargs)
            diverged = isinstance(score, float) and not math.isfinite(score)
            return PENALTY if diverged and in_sweep() else score
        except (*SENTENCES, Exception) as error:
            if in_sweep():
                return note_failure(error)
            if not isinstance(error, SENTENCES):
                raise
            print(f"error: {sentence(error)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            job = HydraConfig.get()
            where = f"sweep.dir={job.sweep.dir}" if in_sweep() else f"run.dir={job.runtime.output_dir}"
            print(
                f"interrupted; the same command with resume=auto hydra.{where} goes on where this one was",
                file=sys.stderr,
            )
            sys.exit(130)

    return wrapper


def refuse_dashes(arguments: Sequence[str]):
    """Refuse settings that are written as options, such as ``--solver response`` or ``--seed=1``."""
    # --run is an option of Hydra's.
    dashed = [argument for argument in arguments if argument.startswith("-") and argument != "--run"]
    known = settings() if dashed else []
    for argument in dashed:
        name, _, value = argument.lstrip("-").partition("=")
        if name.replace("-", "_") in known:
            raise InputError(
                f"{argument} is a setting; write it without dashes: {name.replace('-', '_')}={value or 'VALUE'}"
            )


def refuse_unknown(config: DictConfig):
    """Refuse sections that nothing reads; Hydra lets ``+name=value`` add them."""
    unknown = [str(name) for name in config if name not in Schema.__annotations__]
    if unknown:
        raise InputError(f"there is no setting {unknown[0]!r}{did_you_mean(unknown[0], settings())}")


def in_sweep() -> bool:
    """Whether this is one of many jobs."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note_failure(error: Exception) -> float:
    """Say why a job of a sweep failed, in its folder and on standard error; returns its score."""
    note = sentence(error) if isinstance(error, SENTENCES) else "".join(traceback.format_exception(error))
    folder = Path(HydraConfig.get().runtime.output_dir)
    file, summary = folder / "summary.json", {"status": "failed", "note": note}
    # A job that is refused leaves alone what another one has found.
    if not file.is_file() or '"fc_correlation"' not in file.read_text(encoding="utf-8", errors="replace"):
        file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"error in {folder}, scored {PENALTY:g}: {note}", file=sys.stderr)
    return PENALTY


def sentence(error: BaseException) -> str:
    """What is wrong with a command line or a config file, in one line."""
    text = " ".join(str(error).split())
    group = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if group and "/" in group[1]:
        return (
            f"data={group[1].partition('/')[2]}/{group[2]}: a file is named by data=fc_matrix data.path=FILE or "
            "data=recording data.path=FILE"
        )
    if group:
        options = sorted(file.stem for file in (CONF / group[1]).glob("*.yaml"))
        known = f" Choose from {', '.join(options)}" if options else ""
        return f"there is no {group[1]}={group[2]}{did_you_mean(group[2], options) or '.'}{known}"
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        known = settings()
        return f"there is no setting {key[1]!r}{did_you_mean(key[1], known)}{_or_add(key[1], known)}"
    if re.search("no viable alternative|token recognition|mismatched input|extraneous input", text):
        return (
            "cannot read a setting: write it without spaces, or in quotes; text with spaces, brackets, commas or = "
            f"needs quotes of its own, as in 'data.path=\"my data/rec (1).npz\"' ({text.partition(' See ')[0]})"
        )
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return text
    # OmegaConf adds lines such as "full_key: fit.steps" to what is wrong; Hydra may put a file's name before it.
    details = " ".join(str(error.__cause__ or error).split())
    said, where = re.split(r" full_key: ", details, maxsplit=1)[0], re.search(r"full_key: (\S+)", details)
    file = re.match(r"In '([^']+)': \w+ raised while composing config: (.*)", said)
    said = file[2] if file else said
    if where and re.match(r"Key '[^']+' (is )?not in ", said):
        said = f"there is no setting {where[1]!r}{did_you_mean(where[1], settings())}"
    elif where and said.startswith("Missing mandatory value"):
        said = f"{where[1]} is needed: add {where[1]}=VALUE"
    elif where:
        said = f"{where[1]}: {said}"
    return f"in {file[1]}: {said}" if file else said


def did_you_mean(name: str, names) -> str:
    """``", did you mean ...?"``, or nothing where no name is near."""
    names = list(dict.fromkeys(names))
    if name in names:
        return " with these choices"
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.8) or difflib.get_close_matches(name, names, n=1)
    # A misspelt section hides what follows it, and a setting may be looked for in the wrong section.
    last = name.rsplit(".", 1)[-1]
    near = near or [n for n in names if n.rsplit(".", 1)[-1] == last][:3]
    return f"; did you mean {', '.join(near)}?" if near else ""


def _or_add(name: str, names) -> str:
    """How a parameter is added that a config does not have, where one was meant."""
    section, _, rest = name.partition(".")
    parameter = rest.partition(".")[0]
    if section != "parameters" or f"parameters.{parameter}" in names:
        return ""
    return (
        f" '+parameters={{{parameter}: {{value: , lower: , upper: }}}}' fits it as well, "
        f"network.parameters.{parameter}=VALUE sets it"
    )


def settings() -> list[str]:
    """Names of all settings of the default config, sections and groups included."""
    running = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_container(compose("config"))
    finally:
        GlobalHydra.instance().hydra = running
    return [*_names(config, ""), *(folder.name for folder in CONF.iterdir() if folder.is_dir())]


def _names(config: Any, above: str) -> Iterator[str]:
    for key, value in config.items() if isinstance(config, dict) else ():
        yield f"{above}{key}"
        yield from _names(value, f"{above}{key}.")


def _first_comment(file: Path) -> str:
    """What a config says of itself: its first comment, up to the first line that is a command."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# ") or line.startswith("#   "):
            break
        lines.append(line[2:])
    return " ".join(lines)


def _experiments() -> str:
    """The experiments, each with what it says of itself, for the help page."""
    return "\n".join(
        f"  {file.stem:<20} {_first_comment(file)}" for file in sorted((CONF / "experiment").glob("*.yaml"))
    )


def _groups() -> str:
    """The choices of every group, for the help page."""
    options = {f.name: sorted(option.stem for option in f.glob("*.yaml")) for f in sorted(CONF.iterdir()) if f.is_dir()}
    return "\n".join(f"  {n:<20} {', '.join(o)}" for n, o in options.items() if n not in ("experiment", "hydra"))


def _meaning(library: type, name: str) -> str:
    """The first sentence that a class, or one that it refines, says of one of its parameters, as plain text."""
    pattern = rf"\n    [\w, ]*\b{name}\b[\w, ]* : [^\n]*\n((?:        .*\n)+)"
    said = next(filter(None, (re.search(pattern, each.__doc__ or "") for each in library.__mro__)), None)
    if said is None:
        return ""
    first = re.split(r"\. (?=[A-Z])", " ".join(said[1].split()))[0].rstrip(".")
    return re.sub(r":\w+:`([^`]*)`", r"\1", first).replace("`", "").replace("\\", "")


def _settings() -> str:
    """Every setting of the library's classes, with its default and its meaning, for the help page."""
    lines = []
    for section, (schema, library) in SECTIONS.items():
        for f in dataclasses.fields(schema):
            value = f.default_factory() if callable(f.default_factory) else f.default
            shown = value if value == "???" else json.dumps(value, default=lambda x: vars(x))
            meaning = MEANINGS.get(f"{section}.{f.name}") or _meaning(library, f.name)
            lines.append(f"  {f'{section}.{f.name}={shown}':<44} {meaning}")
    # Hydra takes a dollar sign for the beginning of a reference.
    return "\n".join(lines).replace("$", "")


OmegaConf.register_new_resolver("fitting_settings", _settings, replace=True)
OmegaConf.register_new_resolver("fitting_experiments", _experiments, replace=True)
OmegaConf.register_new_resolver("fitting_groups", _groups, replace=True)
