"""A real browser that is told what to do over the DevTools protocol; a material, and stores of volumes of it."""

import base64
import dataclasses
import io
import itertools
import json
import shutil
import subprocess
import time
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from websockets.sync.client import connect

from mdiff_client.report_page import Real
from mdiff_client.sampling import PLANS
from mdiff_client.store import VolumeStore
from mdiff_core import ModelContract, Phase, Provenance, ScheduleSpec, reference_descriptors

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-sandbox",  # as root there is none
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL without a GPU
    "--enable-unsafe-swiftshader",
    "--window-size=1200,1000",
)
_KEYS = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, " ": 32}


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers, self.events = itertools.count(1), []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, path, **media):
        """Load a file and wait until its pictures are drawn; ``media`` as prefers_color_scheme="dark"."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def wait(self, condition):
        deadline = time.monotonic() + 60
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"{condition} never came true; {self.complaints()}"
            time.sleep(0.05)

    def run(self, expression):
        """Value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and key == " " else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=_KEYS[key], **text)

    def pixels(self, canvas):
        """RGBA of a 2D canvas, by its id, uint8 [height, width, 4]."""
        size = self.run(f"(c => [c.height, c.width, 4])(document.getElementById('{canvas}'))")
        values = self.run(
            f"(c => btoa([...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
            f".map(v => String.fromCharCode(v)).join('')))(document.getElementById('{canvas}'))"
        )
        return np.frombuffer(base64.b64decode(values), np.uint8).reshape(size)

    def screenshot(self, selector="html"):
        """What an element looks like, uint8 [height, width, 3]."""
        place = self.run(
            f"(r => ({{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height}}))"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        shot = self.call("Page.captureScreenshot", clip={**place, "scale": 1}, captureBeyondViewport=True)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))

    def complaints(self):
        """What was written to the console or went wrong, since the page was opened."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
        return [event for event in self.events if event["method"] in kinds]

    def requests(self):
        """URLs that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    profile = tmp_path_factory.mktemp("profile")
    with subprocess.Popen(
        [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with connect(_page_of(profile, process), max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _page_of(profile, process):
    """Address of the open page, once the browser has written where it listens."""
    written = profile / "DevToolsActivePort"
    deadline = time.monotonic() + 60
    while not (written.exists() and written.read_text().count("\n")):
        assert process.poll() is None, "Chromium left"
        assert time.monotonic() < deadline, "Chromium did not start within a minute"
        time.sleep(0.05)
    port = written.read_text().split("\n")[0]
    with urlopen(f"http://127.0.0.1:{port}/json") as answer:
        return next(one["webSocketDebuggerUrl"] for one in json.load(answer) if one["type"] == "page")


CONTRACT = ModelContract(
    name="balls",
    image_size=(16, 16),
    channels=1,
    phases=(Phase("matrix", 0), Phase("ball", 255)),
    schedule=ScheduleSpec("linear", 1000),
    prediction="epsilon",
    provenance=Provenance("balls <b>made</b> here", "CC0-1.0", "none", "none", "abc123"),
)


def balls(shape, seed, radius=3):
    """Random overlapping balls in a periodic box, a third of the volume: statistically alike at every seed."""
    centres = np.random.default_rng(seed).random(shape) < 0.4 / (4 / 3 * np.pi * radius**3)
    inside = ndimage.distance_transform_edt(~np.pad(centres, radius, "wrap")) <= radius
    return inside[(slice(radius, -radius),) * 3].astype(np.uint8)


@pytest.fixture(scope="session")
def material():
    """Real material [64, 64, 64] of ``balls``."""
    return balls((64, 64, 64), seed=0)


@pytest.fixture(scope="session")
def make_store(tmp_path_factory, material):
    """``make_store(volumes)``: a store of these labels; its contract has the curves of the material."""

    def make(volumes, **changes):
        names = [phase.name for phase in CONTRACT.phases]
        references = reference_descriptors(material, names, CONTRACT.image_size)
        contract = dataclasses.replace(CONTRACT, **{"references": references, **changes})
        plan = dataclasses.replace(PLANS["draft"], size=volumes[0].shape)
        location = tmp_path_factory.mktemp("store") / "rve.zarr"
        store = VolumeStore.create(location, contract, plan, seed=7, count=len(volumes), grey=False)
        for index, labels in enumerate(volumes):
            store.write(index, labels, evaluations=14)
        return store

    return make


@pytest.fixture(scope="session")
def make_real(material):
    return lambda labels=material: Real("balls.npy", "0" * 64, labels)
