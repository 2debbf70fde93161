"""The report: what is on it, at 133 classes too, and how a real browser sees it."""

import base64
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opt_ml import OptMl, write_images
from PIL import Image
from saved_tensors import Saved

from container.debugging import report
from container.debugging.observer import Observer
from container.debugging.profiler.profile import Profile
from container.debugging.report import mistakes, network
from container.debugging.report.material import Answers, Material
from container.debugging.results import Result
from container.hyperparameters import Hyperparameters
from container.job import Job
from container.training.decoded import DecodedImages

CLASSES = 133
STYLE = Path(report.__file__).with_name("style.css").read_text()


def large_material() -> Material:
    """As much as a training on the dog breeds would give: 133 classes, photographs, mistakes."""
    generator = np.random.default_rng(0)
    names = [f"{number:03d}.Breed_with_a_long_name_{number}" for number in range(CLASSES)]
    truth = np.repeat(np.arange(CLASSES), 6)
    scores = generator.dirichlet(np.full(CLASSES, 0.05), len(truth))
    scores[np.arange(len(truth)), truth] += generator.uniform(0, 1.5, len(truth))
    scores /= scores.sum(axis=1, keepdims=True)
    smooth = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    photographs = [
        np.roll(np.kron(smooth, np.ones((10, 10, 1), dtype=np.uint8)), shift, axis=1)
        for shift in range(20)
    ]
    steps = 5000
    profile = Profile(
        times={("CPUUtilization", "cpu0"): np.arange(0.0, 900, 0.5)},
        values={("CPUUtilization", "cpu0"): generator.uniform(0, 100, 1800)},
        phases={
            name: generator.uniform(0.01, 0.1, steps)
            for name in ("data_wait", "forward", "backward")
        },
        numbers=range(steps),
        rates=generator.uniform(0, 0.1, steps).tolist(),
        totals={"data_wait": 90.0, "forward": 120.0, "backward": 200.0, "evaluation": 30.0},
        operators=[
            {
                "operator": f"aten::op{i}",
                "calls": i,
                "milliseconds": 9.0 - i / 9,
                "own_milliseconds": 1,
            }
            for i in range(40)
        ],
    )
    return Material(
        outcome="completed",
        started=1.8e9,
        ended=1.8e9 + 900,
        device="CPU",
        hyperparameters={"arch": "resnet50", "lr": "0.001"},
        versions={"torch": "2"},
        classes=names,
        counts={
            "train": generator.integers(26, 77, CLASSES).tolist(),
            "validation": [6] * CLASSES,
            "test": [6] * CLASSES,
        },
        digest="0" * 64,
        rejected=[(f"/opt/ml/input/data/train/x/{i}.jpg", "It is cut off.") for i in range(500)],
        metrics=[
            {
                "epoch": epoch,
                "train:loss": 4 / epoch,
                "validation:loss": 4.4 / epoch,
                "train:accuracy": 1 - 0.9 / epoch,
                "validation:accuracy": 1 - 1 / epoch,
            }
            for epoch in range(1, 31)
        ]
        + [{"test:loss": 0.5, "test:accuracy": 0.8}],
        results=[
            Result("Overfit", "IssuesFound", 40, {"ratio": 0.4}),
            Result("DeadRelu", "NoIssuesFound", None),
            Result("Confusion", "Error", None, {"reason": "no labels & <predictions>"}),
        ],
        answers=Answers(
            "test",
            truth,
            scores,
            [photographs[i % 20] for i in range(len(truth))],
            [Path(f"/data/{names[label]}/{i}.jpg") for i, label in enumerate(truth)],
        ),
        profile=profile,
        profile_results=[Result("StepOutlier", "NoIssuesFound", None)],
    )


class Page(HTMLParser):
    """What a page's elements say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[tuple[str, dict[str, str | None]]]:
        return [tag for tag in self.tags if tag[0] in names]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(large_material(), tmp_path_factory.mktemp("report"))


def test_the_page_stands_alone_and_is_small(large: Path) -> None:
    text = large.read_text()
    assert len(text.encode()) < 3_000_000
    page = Page(text)
    assert not page.all("script", "iframe", "object")
    sources = [attributes.get("src") or attributes.get("href") for _, attributes in page.tags]
    assert all(re.match("data:|#", source) for source in sources if source)
    assert "url(" not in STYLE
    assert "<predictions>" not in text


def test_the_page_can_be_read_without_seeing_it(large: Path) -> None:
    page = Page(large.read_text())
    assert page.all("html")[0][1]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attributes["alt"] for _, attributes in page.all("img"))
    assert all(attributes["aria-label"] for _, attributes in page.all("svg"))
    links = [attributes["href"] for _, attributes in page.all("a")]
    ids = {f"#{attributes['id']}" for _, attributes in page.all("section")}
    assert set(links) == ids


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_colours_have_contrast(theme: str) -> None:
    part = STYLE.split("prefers-color-scheme: dark")[theme == "dark"]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
    for text, back in [
        ("ink", "page"),
        ("ink", "card"),
        ("soft", "page"),
        ("soft", "card"),
        ("accent", "page"),
        ("good", "good-back"),
        ("bad", "bad-back"),
        ("unsure", "unsure-back"),
    ]:
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    for number in range(1, 9):
        assert contrast(colours[f"series-{number}"], colours["card"]) >= 3, number


def contrast(first: str, second: str) -> float:
    """The Web Content Accessibility Guidelines' ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    """It has three images to evaluate and three to test, of the same classes."""
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    paths = tuple(Path(f"{index}.jpg") for index in range(3))
    split = DecodedImages((pixels,) * 3, np.array([0, 1, 1]), paths, ())
    observer = Observer(Job(tmp_path), Hyperparameters(profile=False))
    splits = {"validation": split, "test": split}
    observer.describe(classes=("cat", "dog"), splits=splits, digest="", device="CPU")
    return observer


def answer(observer: Observer, split: str, *answers: int) -> None:
    observer.evaluation()
    observer.evaluations.add(split, torch.eye(2)[list(answers)], torch.tensor([0, 1, 1]))


def reported(observer: Observer) -> Any:
    observer.report("stopped")
    content = json.loads((observer.job.output_data_dir / "report.json").read_text())
    return content["answers"]


def test_answers_are_of_the_split_that_was_evaluated_last(observer: Observer) -> None:
    answer(observer, "validation", 0, 1, 1)
    assert reported(observer)["split"] == "validation"


def test_answers_are_those_of_the_network_that_is_kept(observer: Observer) -> None:
    answer(observer, "validation", 0, 1, 1)
    observer.evaluations.mark_best()
    answer(observer, "validation", 1, 0, 0)
    observer.evaluation()  # stopped on its way
    observer.evaluations.back_to_best()
    assert reported(observer)["accuracy"] == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")
def test_maps_of_the_last_stage_name_it_and_show_steps_from_first_to_last(tmp_path: Path) -> None:
    saved = Saved(tmp_path)
    for _ in range(150):
        saved.add(
            {
                "gradient/LastStage_layer4.0.conv1.weight": np.ones(3),
                "relu_activity/LastStage_layer4.0.relu": np.zeros(3),
            }
        )
    page = network.section(Material(outcome="completed", tensors=saved.tensors))
    assert set(re.findall(r'flex-grow:1">([^<]*)<', page)) == {"layer4"}
    ends = '<p class="ends"><span>step 0</span><span>step 149</span></p>'
    assert page.count(ends) == 2


def test_the_confusions_of_very_many_classes_are_written_where_there_are_any() -> None:
    classes = 2001
    truth, given = np.array([0, 1, 2000]), np.array([0, 2000, 2000])
    image = np.zeros((8, 8, 3), np.uint8)
    paths = [Path(f"{index}.jpg") for index in range(3)]
    answers = Answers("test", truth, np.eye(classes)[given], [image] * 3, paths)
    names = [f"class {index}" for index in range(classes)]
    material = Material(outcome="completed", classes=names, answers=answers)
    written = report.as_data(material)["answers"]
    assert "confusion" not in written
    assert written["confusion_nonzero"] == [[0, 0, 1], [1, 2000, 1], [2000, 2000, 1]]
    page = mistakes.section(material)
    (map_,) = re.findall(r'"heat square"[^>]*base64,([^"]+)"', page)
    picture = Image.open(io.BytesIO(base64.b64decode(map_)))
    assert picture.size == (401, 401)
    # Of the first five classes' two images one was taken for the last class, as was its own.
    assert picture.getpixel((0, 0)) == picture.getpixel((400, 0)) != picture.getpixel((1, 0))
    assert picture.getpixel((400, 400)) == (253, 231, 37)
    assert "A pixel stands for 5 classes each way." in page
    assert "rgb(68,1,84)" in page


def test_a_rule_that_looks_at_no_steps_fires_at_none(tmp_path: Path) -> None:
    results = [Result("LowGPUUtilization", "IssuesFound", None, {"gpu": "gpu0", "samples": 1200})]
    material = Material(outcome="completed", results=results, profile_results=results)
    page = report.write(material, tmp_path).read_text()
    assert '<span class="pill bad">fired</span>' in page
    assert "None" not in page
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["profile_rules"][0]["step"] is None


def test_a_report_of_nothing_is_a_page_too(tmp_path: Path) -> None:
    page = report.write(Material(outcome="failed", failure="No images."), tmp_path)
    assert "No images." in page.read_text()
    assert json.loads((tmp_path / "report.json").read_text())["outcome"] == "failed"


def test_missing_tensors_are_said(tmp_path: Path) -> None:
    sentence = "smdebug failed and has switched itself off"
    page = report.write(Material(outcome="completed", tensors_missing=sentence), tmp_path)
    assert sentence in page.read_text()
    assert json.loads((tmp_path / "report.json").read_text())["tensors_missing"] == sentence


def test_every_training_ends_with_a_report(opt_ml: OptMl) -> None:
    write_images(opt_ml.channel("train"), count=20)
    done = opt_ml.train({"debug": "full", "epochs": "2", "profile-steps": "1-1"})
    assert done.returncode == 0, done.stderr
    assert "Report: " in done.stdout
    assert "gpuGetDeviceCount" not in done.stderr, "torch's profiler complains that there is no GPU"
    text = (opt_ml.base / "output/data/report.html").read_text()
    for title in (
        "Loss after each epoch",
        "Accuracy after each epoch",
        "CrossEntropyLoss step by step, from smdebug",
        "Learning rate",
        "Gradient norm by layer",
        "Silent channels by ReLU",
        "Spread of activations",
        "Confusion matrix",
        "Accuracy by class",
        "Calibration",
        "Images of each class",
        "Rejected images",
        "Where the time went",
        "Time of each step",
        "Operators",
        "Hyperparameters",
        "Data fingerprint",
    ):
        assert title in text, title
    content = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert content["operators"][0]["operator"].startswith("aten::")
    assert content["answers"]["split"] == "test"
    assert content["answers"]["accuracy"] == opt_ml.metrics()[-1]["test:accuracy"]


def test_a_training_that_fails_has_a_report_too(opt_ml: OptMl) -> None:
    opt_ml.channel("train")
    done = opt_ml.train()
    assert done.returncode == 1
    content = json.loads((opt_ml.base / "output/data/report.json").read_text())
    assert content["outcome"] == "failed"
    assert content["failure"] == opt_ml.failure()


def browser() -> str:
    """Chromium, where there is one."""
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not found:
        if os.environ.get("KENNEL_REQUIRE_BROWSER") == "1":
            pytest.fail("KENNEL_REQUIRE_BROWSER is 1 and there is no chromium")
        pytest.skip("there is no chromium on this machine")
    return found


def visit(page: Path, width: int, *, dark: bool = False) -> tuple[dict[str, float], str]:
    """What a real browser makes of the page, and what it has to say about it."""
    probe = page.with_name(f"probe-{width}.html")
    measuring = (
        "<script>const of=(q)=>[...document.querySelectorAll(q)];"
        "const shown=(e)=>{const b=e.getBoundingClientRect();return b.width>20&&b.height>4};"
        "document.querySelectorAll('details').forEach(d=>d.open=true);"
        "document.body.dataset.found=JSON.stringify({page:document.documentElement.scrollWidth,"
        "window:innerWidth,svg:of('svg').length,shownSvg:of('svg').filter(shown).length,"
        "img:of('img').length,shownImg:of('img').filter(e=>e.naturalWidth>0&&shown(e)).length,"
        "back:getComputedStyle(document.body).backgroundColor=='rgb(20, 23, 26)'?1:0})</script>"
    )
    probe.write_text(page.read_text().replace("</body>", measuring + "</body>"))
    done = subprocess.run(
        [
            browser(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={page.parent / 'browser'}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            f"--window-size={width},900",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"data-found=\"(.*?)\"", done.stdout)
    assert found
    return json.loads(found[1].replace("&quot;", '"')), done.stderr


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_browser_shows_all_of_it(large: Path, width: int, dark: bool) -> None:
    seen, said = visit(large, width, dark=dark)
    assert "CONSOLE" not in said
    assert seen["svg"] == seen["shownSvg"] >= 6
    assert seen["img"] == seen["shownImg"] >= 20
    assert seen["page"] <= seen["window"]
    assert seen["back"] == dark
