"""The command line: reads it, connects, runs one command, and is where every error ends."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from container.errors import UserError
from launcher import backends, completion, refusals, settings
from launcher.commands import (
    autoscale,
    delete,
    deploy,
    doctor,
    explain,
    front,
    logs,
    predict,
    push,
    report,
    run,
    status,
    train,
    transform,
    tune,
    tuning,
    upload,
)
from launcher.commands.given import chosen_settings, common_flags
from launcher.console import Console
from launcher.memory import Memory
from launcher.session import Session

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "doctor": doctor,
    "push": push,
    "upload": upload,
    "tune": tune,
    "tuning": tuning,
    "train": train,
    "report": report,
    "deploy": deploy,
    "predict": predict,
    "transform": transform,
    "explain": explain,
    "autoscale": autoscale,
    "front": front,
    "status": status,
    "logs": logs,
    "delete": delete,
}
DESCRIPTION = (
    "From a folder of images to a trained, served classifier: on a laptop or on Amazon SageMaker."
)
EPILOG = """\
first steps:
  ./launch.py train --data FOLDER    a folder of images per class; runs on this machine
  ./launch.py deploy
  ./launch.py predict IMAGE

in your shell: source <(./launch.py completion bash)    or zsh"""
REMEMBERED = ("on", "project", "data", "role", "bucket", "prefix", "region", "aws_profile")
INTERRUPTED = 130
GOES_ON = (
    "What was started goes on: `./launch.py status` shows it, `./launch.py logs --follow` watches "
    "it, `./launch.py delete` stops it."
)


class Parser(argparse.ArgumentParser):
    """argparse's refusals as one sentence with the nearest name."""

    def error(self, message: str) -> NoReturn:
        """Refuse. Raises UserError."""
        raise UserError(f"{message}; see `{self.prog} --help`.")


def main(argv: Sequence[str], *, guide: bool = True) -> int:
    """Run one command and return its exit code; `guide` says what may come next."""
    try:
        if argv[:1] == [completion.NAME]:
            return _complete(argv[1:])
        options = _read(argv)
        code = _run(options, Path.cwd(), guide)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read this has gone, as `head` does; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ClientError, BotoCoreError, OSError) as error:
        print(f"error: {refusals.sentence(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {GOES_ON}", file=sys.stderr)
        return INTERRUPTED
    return 1


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="launch.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=16
        ),
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, module in COMMANDS.items():
        sub = commands.add_parser(
            name, help=module.HELP, description=_sentence(module.HELP), allow_abbrev=False
        )
        module.add(sub)
        sub.usage = _usage(name, sub)
        common_flags(sub)
    return top


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    """One line: some commands have fifty options."""
    takes = [
        f"{action.metavar} …" if action.nargs == "+" else str(action.metavar)
        for action in parser._actions
        if not action.option_strings
    ]
    return " ".join(["./launch.py", name, "[options]", *takes])


def _complete(argv: Sequence[str]) -> int:
    """Print the script for a shell."""
    shell = argv[0] if len(argv) == 1 else ""
    if shell not in completion.SHELLS:
        raise UserError(f"completion takes one of {', '.join(completion.SHELLS)}.")
    print(completion.script(shell, _commands(parser())), end="")
    return 0


def _read(argv: Sequence[str]) -> argparse.Namespace:
    top = parser()
    if not argv:
        top.print_help()
        raise SystemExit(0)
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        hint = settings.nearest(argv[0], list(COMMANDS))
        raise UserError(f"There is no command {argv[0]!r}{hint}")
    options, unknown = top.parse_known_args(argv)
    if unknown:
        hint = settings.nearest(unknown[0].split("=")[0].lstrip("-"), _flags(top, options.command))
        raise UserError(f"{options.command} has no option {unknown[0]!r}{hint}")
    return options


def _flags(top: Parser, command: str) -> list[str]:
    """The long options of a command, without their hyphens."""
    flags = [text for action in _commands(top)[command]._actions for text in action.option_strings]
    return sorted(flag.lstrip("-") for flag in flags if flag.startswith("--"))


def _commands(top: Parser) -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each command."""
    choices: Mapping[str, argparse.ArgumentParser] = next(
        action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)
    )
    return choices


def _run(options: argparse.Namespace, directory: Path, guide: bool) -> int:
    memory = Memory.of(directory)
    flags = chosen_settings(options)
    chosen = {name: value for name, value in memory.choices.items() if name in REMEMBERED}
    resolved = settings.resolve(flags, os.environ, settings.read_file(directory), chosen)
    kept = {name: getattr(resolved, name) for name in REMEMBERED if name in flags}
    if "image" in flags:
        # Another backend has no use for it: what Docker calls an image is no address in ECR.
        kept["images"] = {resolved.on: resolved.image}
    session = Session(
        settings=resolved,
        backend=backends.connect(resolved, directory, memory),
        memory=memory,
        console=Console(as_json=options.json, guide=guide),
        directory=directory,
        choices={} if options.dry_run else kept,
    )
    try:
        code: int = COMMANDS[options.command].run(session, options)
    except (ClientError, BotoCoreError, OSError) as error:
        if not session.sent or isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"{refusals.sentence(error)} {GOES_ON}") from None
    session.keep_choices()
    return code


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
