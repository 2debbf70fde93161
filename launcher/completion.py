"""Shell completion: a script made from the command line's own parser."""

import argparse
from collections.abc import Mapping

NAME = "completion"
SHELLS = ("bash", "zsh")
_BASH = """\
# bash completion for launch.py:  source <(./launch.py completion bash)
_kennel_launch() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
    if ((COMP_CWORD == 1)); then
        words="{commands}"
    elif [[ $word == -* ]]; then
        case "$command" in
{cases}
        esac
    fi
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _kennel_launch launch.py ./launch.py
"""
_ZSH = """\
# zsh completion for launch.py:  source <(./launch.py completion zsh)
autoload -U +X bashcompinit && bashcompinit
"""


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script for a shell: commands first, then each command's options, else files."""
    cases = "\n".join(
        f'            {name}) words="{" ".join(_options(parser))}" ;;'
        for name, parser in parsers.items()
    )
    bash = _BASH.format(commands=" ".join([*parsers, NAME]), cases=cases)
    return bash if shell == "bash" else _ZSH + bash


def _options(parser: argparse.ArgumentParser) -> list[str]:
    flags = [text for action in parser._actions for text in action.option_strings]
    return sorted(flag for flag in flags if flag.startswith("--") and "_" not in flag)
