"""`explain.html`: images, answers and evidence; one file, no scripts, nothing from elsewhere."""

from collections.abc import Sequence
from html import escape

from launcher.explanation import Evidence, Explained, accuracy, in_order

PICTURES = 2_500_000
"""Bytes of pictures at most, which keeps the page under 3 MB; the others are listed as text."""
ROWS = 1_000
"""Images listed as text at most."""
_METHODS = {
    "cam": "class activation maps",
    "occlusion": "occlusion",
    "integrated-gradients": "integrated gradients",
}
_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #ffffff; --ink: #1d2126; --soft: #5a626c;
  --rule: #dfe1e4; --accent: #8a4b12; --good: #17663a; --bad: #a8261c; --good-back: #e0f2e6;
  --bad-back: #fbe4e1; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2125; --ink: #e8eaec;
  --soft: #a7afb8; --rule: #343a41; --accent: #e9a867; --good: #7fd6a2; --bad: #ff9d92;
  --good-back: #173524; --bad-back: #43201d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.3rem; margin: 36px 0 12px; padding-top: 12px; border-top: 1px solid var(--rule); }
p { margin: 0 0 10px; max-width: 70ch; } .soft { color: var(--soft); font-size: .9rem; }
.brand { color: var(--accent); font-weight: 650; letter-spacing: .04em; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); gap: 12px;
  margin: 20px 0; padding: 0; }
.tiles div, .cards li { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; padding: 12px 14px; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.switch { display: inline-flex; gap: 10px; align-items: center; min-height: 42px; }
.switch input { width: 20px; height: 20px; accent-color: var(--accent); }
.scale { display: flex; align-items: center; gap: 8px; }
.scale i { width: 180px; height: 10px; border-radius: 5px; background: linear-gradient(90deg,
  #000004, #56106e, #bb3754, #f98c0a, #fcffa4); }
.cards { display: flex; flex-wrap: wrap; gap: 14px; list-style: none; margin: 0; padding: 0; }
.views { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; width: 176px; }
.stack { position: relative; display: block; }
.stack img { display: block; width: 176px; height: 176px; border-radius: 8px; }
.stack .layer { position: absolute; inset: 0; }
body:has(#plain:checked) .layer { display: none; }
figcaption { font-size: .9rem; line-height: 1.35; margin-top: 8px; overflow-wrap: anywhere; }
.file { max-width: 362px; font-size: .82rem; color: var(--soft); overflow-wrap: anywhere;
  margin: 6px 0 0; }
li:not(.two) .file { max-width: 176px; }
.pill { display: inline-block; padding: 0 8px; border-radius: 99px; font-size: .8rem;
  font-weight: 650; } .good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; }
@media (max-width: 480px) { main { padding: 20px 12px 40px; } .cards { justify-content: center; }
  h1 { font-size: 1.5rem; } }
"""


def page(found: Sequence[Explained], *, endpoint: str, method: str) -> str:
    """The whole document."""
    ordered = [each for each in in_order(found) if each.predictions]
    shown, rest = _within(ordered)
    refused = [each for each in found if each.refusal]
    wrong = [each for each in shown if each.is_wrong]
    others = [each for each in shown if not each.is_wrong]
    sections = [
        _section("Wrong, the surest first", _cards(wrong)) if wrong else "",
        _section("The least sure first", _cards(others)) if others else "",
        _section("Without pictures, to keep this page small", _table(rest)) if rest else "",
        _section("Refused by the endpoint", _refusals(refused)) if refused else "",
    ]
    title = f"What {endpoint} looks at"
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        f'<p class="brand">Kennel</p><h1>{escape(title)}</h1>'
        f"<p>{_METHODS[method].capitalize()}: the brighter, the more evidence for the class named "
        "under the picture; the line is at half of the most. The scale is each picture's own.</p>"
        f"{_tiles(found)}"
        '<p class="scale soft"><span>none</span><i></i><span>most</span></p>'
        '<label class="switch"><input type="checkbox" id="plain"> Show the images alone</label>\n'
        + "\n".join(filter(None, sections))
        + "\n</main></body>\n</html>\n"
    )


def _within(ordered: Sequence[Explained]) -> tuple[list[Explained], list[Explained]]:
    """The first images whose pictures fit, and the rest."""
    left = PICTURES
    for place, each in enumerate(ordered):
        left -= 400 + sum(
            len(text)
            for text in (
                2 * each.thumbnail if each.truth_evidence else each.thumbnail,
                each.evidence.layer if each.evidence else "",
                each.truth_evidence.layer if each.truth_evidence else "",
            )
        )
        if left < 0:
            return list(ordered[:place]), list(ordered[place:])
    return list(ordered), []


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _tiles(found: Sequence[Explained]) -> str:
    tiles = [("images", str(len(found)))]
    right = accuracy(found)
    if right is not None:
        tiles.append(("right", f"{right:.1%}"))
        tiles.append(("wrong", str(sum(each.is_wrong for each in found))))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _cards(found: Sequence[Explained]) -> str:
    return f'<ul class="cards">{"".join(map(_card, found))}</ul>'


def _card(each: Explained) -> str:
    views = [_view(each, evidence) for evidence in (each.evidence, each.truth_evidence) if evidence]
    kind = ' class="two"' if len(views) > 1 else ""
    return (
        f'<li{kind}><div class="views">{"".join(views)}</div>'
        f'<p class="file">{escape(str(each.path))}</p></li>'
    )


def _view(each: Explained, evidence: Evidence) -> str:
    answer = each.predictions[0][0]
    if evidence is each.truth_evidence:
        note = '<span class="pill good">the folder says</span>'
    elif each.is_wrong and evidence.label == answer:
        note = '<span class="pill bad">answered</span>'
    elif evidence.label != answer:
        note = f'<span class="soft">asked about; answered {escape(answer)}</span>'
    else:
        note = ""
    label = escape(evidence.label)
    return (
        '<figure><span class="stack">'
        f'<img src="{escape(each.thumbnail)}" alt="{escape(each.path.name)}">'
        f'<img class="layer" src="{escape(evidence.layer)}" alt="Evidence for {label}"></span>'
        f"<figcaption><b>{label}, {evidence.probability:.1%}</b> {note}</figcaption></figure>"
    )


def _table(rest: Sequence[Explained]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(each.path))}</td><td>{escape(each.predictions[0][0])}</td>"
        f"<td>{each.predictions[0][1]:.1%}</td><td>{escape(each.truth or '')}</td></tr>"
        for each in rest[:ROWS]
    )
    more = f"<p>… and {len(rest) - ROWS:,} more.</p>" if len(rest) > ROWS else ""
    return (
        "<table><thead><tr><th>image</th><th>answer</th><th>sure</th><th>folder</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _refusals(refused: Sequence[Explained]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(each.path))}</td><td>{escape(each.refusal)}</td></tr>"
        for each in refused[:ROWS]
    )
    return f"<table><tbody>{rows}</tbody></table>"
