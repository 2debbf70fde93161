"""The page at `/`, in a real browser and over HTTP."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import serving_artifacts
from browser import Tab, browser
from PIL import Image
from serving_artifacts import encoded, photograph
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.exceptions import NotImplemented as NotThere
from werkzeug.serving import make_server

from container.serving import classifier, page, settings
from container.serving.app import create_app
from container.serving.classifier import Classifier
from container.serving.explanation.explainer import Explainer
from container.serving.models.model_table import ModelTable

CLASSES = tuple(
    "a breed whose name is long enough for two lines" if n == 7 else f"breed <b>{n}</b>"
    for n in range(133)
)
ANSWERED = (
    "document.querySelectorAll('#classes li').length > 0 && "
    "document.getElementById('status').textContent.includes('Answered')"
)


@dataclass(frozen=True)
class Place:
    """A server of a network with random weights and 133 classes, and a browser to visit it."""

    address: str
    tab: Tab
    folder: Path

    def visit(self, width: int = 1100, *, dark: bool = False) -> None:
        self.tab.size(width, 900, dark=dark)
        self.tab.open(self.address)
        self.tab.until("document.getElementById('model').textContent.includes('133 classes')")

    def choose(self, data: bytes, name: str = "photo.jpg") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        self.tab.choose_file("#file", path)
        return path

    def text(self, identifier: str) -> str:
        return str(self.tab.run(f"document.getElementById('{identifier}').textContent"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("page")
    serving_artifacts.write(base / "model", image_size=64, classes=CLASSES)
    environment = {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1"}
    model = classifier.load(settings.parse(environment), 0)
    app = serving_artifacts.client(model, **environment).application
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with browser(base / "profile") as tab:
            yield Place(f"http://127.0.0.1:{server.port}/", tab, base)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_image_is_answered_explained_and_repeated_by_the_curl_line(place: Place) -> None:
    place.visit()
    before = len(place.tab.events)
    image = encoded(photograph(size=(300, 200)))
    place.choose(image, "it's mine.jpg")
    place.tab.until(ANSWERED)
    rows = place.tab.run(
        "[...document.querySelectorAll('#classes li')].map(row => row.innerText.split('\\n'))"
    )
    assert len(rows) == 5
    widths = place.tab.run(
        "[...document.querySelectorAll('#classes .bar')].map(bar => bar.offsetWidth)"
    )
    assert widths == sorted(widths, reverse=True)
    line = place.text("curl")
    done = subprocess.run(
        ["bash", "-c", f"{line} --silent --fail"],
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert [entry["label"] for entry in answer["predictions"][:5]] == [row[0] for row in rows]
    assert place.text("explained") == answer["explanation"]["label"] == rows[0][0]
    # The layer lies where the answer says that the network looked.
    seen = place.tab.run(
        "(() => { const a = picture.getBoundingClientRect(), b = layer.getBoundingClientRect();"
        "return [(b.x - a.x) / a.width, (b.y - a.y) / a.height, b.width / a.width, b.height / "
        "a.height, layer.naturalWidth > 0] })()"
    )
    box, size = answer["explanation"]["box"], answer["explanation"]["image"]
    assert seen == pytest.approx(
        [
            box["left"] / size["width"],
            box["top"] / size["height"],
            box["width"] / size["width"],
            box["height"] / size["height"],
            True,
        ],
        abs=0.01,
    )
    assert place.tab.complaints() == []
    own = (place.address, f"blob:{place.address}", "data:")
    assert all(address.startswith(own) for address in place.tab.requested()[before:])


def test_any_class_can_be_asked_about_with_the_keyboard_alone(place: Place) -> None:
    place.visit()
    place.choose(encoded(photograph(1)))
    place.tab.until(ANSWERED)
    place.tab.run("document.getElementById('all').focus()")
    place.tab.press("Enter", 13)
    place.tab.until("document.querySelectorAll('#classes li').length == 133")
    place.tab.run("document.querySelectorAll('#classes button')[40].focus()")
    wanted = place.tab.run("document.activeElement.dataset.label")
    place.tab.press("Enter", 13)
    place.tab.until(f"explained.textContent == {json.dumps(wanted)}")
    assert place.tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert place.tab.run("document.activeElement.dataset.label") == wanted
    assert "class=" in place.text("curl")
    assert place.tab.complaints() == []


def test_the_heat_map_can_be_left_out(place: Place) -> None:
    place.visit()
    place.choose(encoded(photograph(2)))
    place.tab.until(ANSWERED)
    place.tab.run("document.getElementById('explain').click()")
    place.tab.until("layer.hidden")
    assert "explain" not in place.text("curl")


def test_images_can_be_pasted_and_dropped(place: Place) -> None:
    place.visit()
    data = json.dumps(list(encoded(photograph(3))))
    for event in ("ClipboardEvent('paste', {clipboardData", "DragEvent('drop', {dataTransfer"):
        place.tab.run(
            "(() => { document.getElementById('status').textContent = '';"
            f"const given = new DataTransfer(); given.items.add(new File([new Uint8Array({data})],"
            "'given.jpg', {type: 'image/jpeg'}));"
            f"document.dispatchEvent(new {event}: given, bubbles: true, cancelable: true}})) }})()"
        )
        place.tab.until(ANSWERED)
        assert "@given.jpg" in place.text("curl")


def test_a_picture_can_be_taken(place: Place) -> None:
    place.visit()
    place.tab.run("document.getElementById('camera').click()")
    place.tab.until("shot.open && video.videoWidth > 0")
    place.tab.run("document.getElementById('take').click()")
    place.tab.until(ANSWERED)
    assert place.tab.run("!shot.open && video.srcObject === null")
    assert "@camera.jpg" in place.text("curl")


def test_only_what_is_too_large_is_made_smaller(place: Place) -> None:
    place.visit()
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    large = encoded(Image.fromarray(noise), "PNG")
    assert len(large) > 2**20
    place.choose(large, "large.png")
    place.tab.until(ANSWERED)
    assert "1.0 MB" in place.text("resized")
    assert "@large.jpg" in place.text("curl")
    place.choose(encoded(photograph(4)))
    place.tab.until("resized.hidden")


def test_what_is_no_image_is_said(place: Place) -> None:
    place.visit()
    place.choose(b"no image at all", "broken.jpg")
    place.tab.until("!document.getElementById('error').hidden")
    assert "not an image" in place.text("error")


def test_what_was_said_of_an_image_does_not_stay_beside_another(place: Place) -> None:
    place.visit()
    place.choose(encoded(photograph()))
    place.tab.until(ANSWERED)
    place.choose(b"no image at all", "broken.jpg")
    place.tab.until("!document.getElementById('error').hidden")
    assert place.tab.run("document.querySelectorAll('#classes li').length") == 0
    assert shown(place) == {"figure", "error"}


def shown(place: Place) -> set[str]:
    """What the page shows of what it hides at first."""
    parts = ("figure", "layer", "heat", "error", "all", "why", "raw")
    return {
        part for part in parts if not place.tab.run(f"document.getElementById('{part}').hidden")
    }


REASON = "There is too little memory."


def refuse(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: HTTPException) -> None:
    def refused(*_given: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, refused)


@pytest.mark.parametrize("error", [ServiceUnavailable(REASON), NotThere(REASON)])
def test_where_there_is_no_heat_map_the_classes_are_shown_and_why_until_there_is_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: HTTPException
) -> None:
    refuse(monkeypatch, Explainer, "explain", error)
    place.visit()
    place.choose(encoded(photograph(5)))
    place.tab.until(ANSWERED)
    assert place.text("status").endswith(f" There is no heat map. {REASON}")
    assert shown(place) == {"figure", "all", "raw"}
    assert "explain" not in place.text("curl")
    monkeypatch.undo()
    place.tab.run("document.querySelector('#classes button').click()")
    place.tab.until("!layer.hidden")
    assert shown(place) == {"figure", "layer", "heat", "all", "why", "raw"}
    assert "no heat map" not in place.text("status")


@pytest.mark.parametrize(
    ("error", "sentence", "times"),
    [
        (ServiceUnavailable("Try again.", retry_after=1), "Try again.", 1),
        (ServiceUnavailable(REASON), "No images either.", 2),
    ],
)
def test_a_server_that_is_busy_or_takes_no_images_either_is_not_asked_on(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    error: HTTPException,
    sentence: str,
    times: int,
) -> None:
    refuse(monkeypatch, Explainer, "explain", error)
    refuse(monkeypatch, Classifier, "probabilities", ServiceUnavailable("No images either."))
    place.visit()
    before = len(place.tab.requested())
    place.choose(encoded(photograph(6)))
    place.tab.until("!document.getElementById('error').hidden")
    assert place.text("error") == sentence
    assert shown(place) == {"figure", "error"}
    asked = place.tab.requested()[before:]
    assert len([address for address in asked if address.endswith("/invocations")]) == times


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1280, True)])
def test_it_fits_a_phone_and_the_dark(place: Place, width: int, dark: bool) -> None:
    place.visit(width, dark=dark)
    place.choose(encoded(photograph(size=(800, 300))))
    place.tab.until(ANSWERED)
    place.tab.run("document.getElementById('all').click()")
    place.tab.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert place.tab.run("document.documentElement.scrollWidth") <= width
    assert place.tab.run("document.querySelectorAll('#classes li').length") == 133
    ground = place.tab.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 26)") == dark
    # Large enough for a thumb.
    assert place.tab.run(
        "[...document.querySelectorAll('button, .button')].filter(each => each.offsetHeight)"
        ".every(each => each.offsetHeight >= 42)"
    )


def test_everything_can_be_read(place: Place) -> None:
    """Every control has a name, and the language and the headings are there."""
    place.visit()
    place.choose(encoded(photograph()))
    place.tab.until(ANSWERED)
    nodes = place.tab.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "switch", "link", "textbox")
    ]
    assert len(controls) > 8
    assert all(node["name"]["value"].strip() for node in controls)
    assert place.tab.run("document.documentElement.lang") == "en"


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_its_ground_in_light_and_dark() -> None:
    style = (page.FOLDER / "page.css").read_text()
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("@media")[:2]]
    pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("page", "card")]
    pairs += [("on-accent", "accent"), ("bad", "bad-back"), ("ink", "tint")]
    for theme in themes:
        for ink, ground in pairs:
            low, high = sorted((luminance(theme[ink]), luminance(theme[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_the_page_s_headers_allow_nothing_inline_and_nothing_from_elsewhere() -> None:
    client = serving_artifacts.client()
    for path in page.FILES:
        response = client.get(path)
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"https?://(?!www\.w3\.org)", response.text)
    assert "<script>" not in client.get("/").text
    assert client.get("/page/model.json").get_json()["classes"] == 5


def test_the_page_can_be_turned_off() -> None:
    client = serving_artifacts.client(KENNEL_PAGE="0")
    for path in (*page.FILES, "/page/model.json"):
        assert client.get(path).status_code == 404
    assert client.get("/ping").status_code == 200


def test_many_models_have_no_page(tmp_path: Path) -> None:
    table = ModelTable(tmp_path, lambda path: serving_artifacts.pipeline(), lambda path: 0)
    app = create_app(table, settings.parse({"SAGEMAKER_MULTI_MODEL": "true"}))
    assert app.test_client().get("/").status_code == 404
