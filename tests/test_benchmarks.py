"""The results of benchmarks: each table says when and where it was measured."""

from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.table import Row, as_markdown


def test_a_table_that_is_measured_again_leaves_the_others_their_day_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path / "results.md")
    hooks, frozen = (benchmarks.BENCHMARKS[name][0] for name in ("hooks", "frozen"))
    for title, figure, stamp in (
        (hooks, "1 ms", "Measured on Monday: one core."),
        (frozen, "2 s", "Measured on Monday: one core."),
        (hooks, "3 ms", "Measured on Friday: eight cores."),
    ):
        benchmarks._keep(title, as_markdown(title, [Row("what", figure)]), stamp)
    head = "| | measured | ratio |\n| --- | --- | --- |"
    assert (tmp_path / "results.md").read_text() == (
        f"**{frozen}**\n\nMeasured on Monday: one core.\n\n{head}\n| what | 2 s |  |\n\n"
        f"**{hooks}**\n\nMeasured on Friday: eight cores.\n\n{head}\n| what | 3 ms |  |\n"
    )


def test_every_kept_table_has_its_day_and_machine() -> None:
    sections = benchmarks.RESULTS.read_text().split("**")[1:]
    for title, content in zip(sections[::2], sections[1::2], strict=True):
        assert title in [each for each, _ in benchmarks.BENCHMARKS.values()]
        assert content.startswith("\n\nMeasured on 20")
