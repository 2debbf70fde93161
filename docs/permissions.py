"""Write the policies of docs/launcher-permissions.md: `python -m docs.permissions [--check]`."""

import json
import sys
from pathlib import Path

from docs.sections import Sections, fill, main
from launcher import policies

PAGE = Path(__file__).resolve().parent / "launcher-permissions.md"
NAMES = {
    **{"bucket": "BUCKET", "prefix": "kennel", "region": "REGION", "project": "kennel"},
    "role": "arn:aws:iam::ACCOUNT:role/ROLE",
}
INTRODUCTIONS = {
    "you": "You, at the command line: what begins with the project's name, and nothing else.",
    "you, for doctor": "Besides, for `doctor` to look at everything; what it may not look at it "
    "marks with `?`, which is no fault.",
    "you, for push": "Besides, for `push`.",
    "you, for autoscale and front": "Besides, for `autoscale` and `front`.",
    "you, for Clarify": "Besides, for `explain --clarify`.",
    "the role": "The role that jobs and endpoints work as.",
    "the role's trust": "Who may work as that role.",
    "the Lambda of front": "`front` makes this role by itself, for one endpoint.",
    "the role, for Clarify": "Besides, where Clarify asks the endpoint as that role.",
}


def every_policy() -> str:
    """Each policy under a heading of its own."""
    every = policies.all_of(**NAMES)
    every["the Lambda of front"] = policies.front("REGION", "ACCOUNT", "kennel-front", "kennel")
    return "\n\n".join(
        f"## {_heading(name)}\n\n{INTRODUCTIONS[name]}\n\n"
        f"```json\n{json.dumps(policy, indent=2)}\n```"
        for name, policy in every.items()
    )


def _heading(name: str) -> str:
    return name[0].upper() + name[1:]


SECTIONS: Sections = {"policies": every_policy}


def generate(text: str) -> str:
    """The page with its policies made anew."""
    return fill(text, SECTIONS)


if __name__ == "__main__":
    main(PAGE, SECTIONS, sys.argv[1:])
