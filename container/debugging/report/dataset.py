"""The report's section on the images: how many of each class, and which cannot be read."""

from html import escape

from container.debugging.report.material import Material
from container.debugging.report.plot import bars, figure

_SHOWN = 12
_REJECTED_SHOWN = 200


def section(material: Material) -> str:
    """Empty where the images were never counted."""
    if not material.counts:
        return ""
    return _balance(material) + _rejected(material)


def _balance(material: Material) -> str:
    counts = material.counts.get("train", ())
    order = sorted(range(len(counts)), key=lambda index: -counts[index])
    rows = [
        (material.classes[index], float(counts[index]), _text(material, index)) for index in order
    ]
    shown, rest = rows[:_SHOWN], rows[_SHOWN:]
    most = rows[0][1] if rows else 1.0
    content = bars("Training images, largest classes first", shown, most=most)
    if rest:
        others = bars("The other classes", rest, most=most)
        content += f"<details><summary>The other {len(rest)} classes</summary>{others}</details>"
    smallest = min(counts, default=0)
    note = (
        f"The largest class has {most / smallest:.1f} times as many training images as the "
        "smallest. In brackets: validation and test."
        if smallest
        else ""
    )
    return figure("Images of each class", content, note)


def _text(material: Material, index: int) -> str:
    others = [
        str(material.counts[name][index])
        for name in ("validation", "test")
        if len(material.counts.get(name, ())) > index
    ]
    return f"{material.counts['train'][index]} ({', '.join(others)})"


def _rejected(material: Material) -> str:
    rejected = material.rejected
    if not rejected:
        return figure("Rejected images", "<p>Every image could be read.</p>")
    rows = "".join(
        f'<tr><th scope="row">{escape(path)}</th><td>{escape(reason)}</td></tr>'
        for path, reason in rejected[:_REJECTED_SHOWN]
    )
    is_open = " open" if len(rejected) <= _SHOWN else ""
    more = len(rejected) - _REJECTED_SHOWN
    note = f"And {more} more, in rejected_images.csv." if more > 0 else ""
    table = (
        f"<details{is_open}><summary>{len(rejected)} files</summary>"
        '<div class="scroll"><table><caption>Left out of the training</caption>'
        f"{rows}</table></div></details>"
    )
    return figure("Rejected images", table, note)
