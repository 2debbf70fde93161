"""The report as one page: no script, no font, no picture from anywhere else."""

import time
from html import escape
from pathlib import Path

from container.debugging.report import dataset, findings, learning, mistakes, network, resources
from container.debugging.report.material import Material
from container.debugging.report.plot import number

_OUTCOMES = {
    "completed": ("good", "completed"),
    "stopped": ("unsure", "stopped early"),
    "failed": ("bad", "failed"),
}

_SECTIONS = (
    ("rules", "Rules", findings.section, ""),
    ("learning", "Learning", learning.section, "cards"),
    ("answers", "Answers", mistakes.section, "cards"),
    ("network", "Inside the network", network.section, "cards"),
    ("images", "Images", dataset.section, "cards"),
    ("time", "Time", resources.section, "cards"),
)


def render(material: Material) -> str:
    """The whole page."""
    bodies = [(key, name, make(material), style) for key, name, make, style in _SECTIONS]
    bodies.append(("settings", "Settings", _settings(material), "cards"))
    kept = [body for body in bodies if body[2]]
    links = " ".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, *_ in kept)
    sections = "".join(
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{escape(name)}</h2>'
        f'<div class="{style}">{body}</div></section>'
        for key, name, body, style in kept
    )
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(_title(material))}</title><style>{style}</style></head><body><main>"
        f'<header>{_header(material)}<nav aria-label="Sections">{links}</nav></header>'
        f"{sections}<footer>Written by Kennel at the end of the training. "
        "Everything on this page is in report.json beside it.</footer></main></body></html>"
    )


def _title(material: Material) -> str:
    architecture = material.hyperparameters.get("arch", "training")
    return f"{architecture} on {len(material.classes)} classes: training report"


def _header(material: Material) -> str:
    colour, words = _OUTCOMES[material.outcome]
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(material.started))
    failure = (
        f'<p class="card finding"><strong>{escape(material.failure)}</strong></p>'
        if material.failure
        else ""
    )
    return (
        '<p class="brand">Kennel</p>'
        f"<h1>{escape(_title(material))}</h1>"
        f'<p class="soft"><span class="pill {colour}">{words}</span> '
        f"{when} · {escape(material.device)}</p>{failure}{_tiles(material)}"
    )


def _tiles(material: Material) -> str:
    latest = material.latest
    tiles: list[tuple[str, str, str]] = []
    for key, name in (("test:accuracy", "test accuracy"), ("validation:accuracy", "validation")):
        if key in latest:
            tiles.append((name, f"{100 * latest[key]:.2f}", "%"))
    if "train:loss" in latest:
        tiles.append(("training loss", number(latest["train:loss"]), ""))
    if material.epochs:
        tiles.append(("epochs", str(len(material.epochs)), ""))
    images = sum(sum(counts) for counts in material.counts.values())
    if images:
        tiles.append(("images", number(images), ""))
    fired = sum(result.fired for result in material.results)
    if material.results:
        tiles.append(("rules that fired", str(fired), f"of {len(material.results)}"))
    if material.ended > material.started:
        tiles.append(("training time", *_duration(material.ended - material.started)))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(unit)}</small></dd></div>"
        for name, value, unit in tiles
    )
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def _duration(seconds: float) -> tuple[str, str]:
    if seconds < 100:
        return f"{seconds:.0f}", "s"
    return (f"{seconds / 60:.1f}", "min") if seconds < 6000 else (f"{seconds / 3600:.1f}", "h")


def _settings(material: Material) -> str:
    tables = [
        ("Hyperparameters", material.hyperparameters),
        ("Versions", material.versions),
        ("Data fingerprint", {"SHA-256": material.digest} if material.digest else {}),
    ]
    cards = ""
    for title, values in tables:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(value)}</code></td></tr>'
            for name, value in values.items()
        )
        if rows:
            cards += f'<div class="card"><table><caption>{title}</caption>{rows}</table></div>'
    return cards
