"""`./train --lr 0.01`: every hyperparameter as a flag, and a `--help` that teaches them."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from container.errors import UserError
from container.hyperparameters import Declaration, declarations, refuse_unknown

DESCRIPTION = """\
Fine-tune a ResNet on a folder of images per class.

Images are read from input/data/train under /opt/ml, or under the directory that the environment
variable SAGEMAKER_BASE_DIR names; the model is written to model/ beside it."""
EPILOG = """\
Flags win over input/config/hyperparameters.json, which wins over the defaults.

example:
  SAGEMAKER_BASE_DIR=$PWD/job ./train --arch resnet50 --epochs 3 --lr 0.01"""


def read(argv: Sequence[str]) -> dict[str, object]:
    """The hyperparameters given as flags, as strings.

    Raises:
        UserError: an unknown flag, or one without its value.
    """
    parser = _Parser(
        prog="train",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for declaration in declarations():
        parser.add_argument(
            *_spellings(declaration.name),
            dest=declaration.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=_help(declaration).replace("%", "%%"),
        )
    known, unknown = parser.parse_known_args(argv)
    for argument in unknown:
        refuse_unknown(argument.split("=")[0].lstrip("-"), f"{argument!r} is not an option")
    return vars(known)


class _Parser(argparse.ArgumentParser):
    """Leaves it to the caller to say what is wrong; argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; see ./train --help.")


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys((f"--{name}", f"--{name.replace('-', '_')}")))


def _help(declaration: Declaration) -> str:
    allowed = declaration.check.describe()
    return f"{declaration.meaning} ({allowed}; default {declaration.default})"
