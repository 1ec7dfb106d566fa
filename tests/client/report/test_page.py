"""The page in a real browser: what it shows, that it asks for nothing, and that keys suffice to use it."""

import json
import re

import numpy as np
import pytest

from mdiff_client.pictures.preview import COLOURS
from mdiff_client.report_page import Real, make_report, write_page
from mdiff_core import DataError

SHAPE = (24, 28, 32)
HOSTILE = "</script><script>document.title='taken'</script><b onclick=1>&amp; \u2028"
BACK, INK = "getComputedStyle(document.documentElement).backgroundColor", "getComputedStyle(document.body).color"


@pytest.fixture(scope="module")
def labels(material):
    """Two volumes to look at, different along each axis, and a piece of real material."""
    return [material[:24, :28, :32], material[24:48, 28:56, 32:], material]


@pytest.fixture(scope="module")
def page(make_store, make_real, labels, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    report = make_report(make_store(labels[:2]), make_real(), show=2)
    assert write_page(report, out) == out.stat().st_size
    return out


@pytest.fixture
def opened(browser, page):
    browser.open(page, prefers_color_scheme="light")
    return browser


def change(browser, control, value):
    """Set a control as a user does."""
    browser.run(
        f"(c => {{ c.value = {value}; c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change')) }})"
        f"(document.getElementById('{control}'))"
    )


def luminance(colour):
    """Relative luminance (WCAG 2) of CSS rgb()."""
    channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_nothing_goes_wrong_and_nothing_is_asked_for(opened, page):
    assert opened.complaints() == []
    assert opened.requests() == [page.as_uri()]


def test_no_script_runs_but_its_own(opened):
    opened.run("document.head.append(Object.assign(document.createElement('script'), {text: 'window.foreign = 1'}))")
    assert opened.run("typeof foreign") == "undefined"
    assert "Content Security Policy" in str(opened.complaints())


@pytest.mark.parametrize("axis", range(3))
def test_sliders_move_the_sections_to_the_voxel(opened, labels, axis):
    name = "zyx"[axis]
    for index in (0, 5, SHAPE[axis] - 1):
        change(opened, f"section-{name}", index)
        expected = COLOURS[np.take(labels[0], index, axis)]
        assert np.array_equal(opened.pixels(f"made-{name}")[..., :3], expected)
        # The real piece lies in the middle of the material.
        start = [(64 - n) // 2 for n in SHAPE]
        piece = labels[2][tuple(slice(s, s + n) for s, n in zip(start, SHAPE, strict=True))]
        assert np.array_equal(opened.pixels(f"real-{name}")[..., :3], COLOURS[np.take(piece, index, axis)])


def test_the_other_volume_is_chosen(opened, labels):
    change(opened, "volume", 1)
    opened.wait("document.querySelector('#views figcaption').textContent.includes('volume 1')")
    assert np.array_equal(opened.pixels("made-z")[..., :3], COLOURS[labels[1][12]])


def test_views_are_drawn_and_turn(opened):
    before = opened.screenshot("#views figure")
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100
    opened.run("document.querySelector('#views canvas').focus()")
    opened.press("ArrowRight")
    assert (opened.screenshot("#views figure") != before).any(axis=-1).mean() > 0.02


def test_a_view_without_phases_is_empty(opened):
    drawn = opened.screenshot("#views figure")
    opened.run("document.querySelector('#phases input:checked').click()")
    assert (opened.screenshot("#views figure") != drawn).any(axis=-1).mean() > 0.05


def test_keys_reach_and_move_a_slider(opened, labels):
    opened.run("document.body.focus()")
    for _ in range(20):
        opened.press("Tab")
        if opened.run("document.activeElement.id") == "section-y":
            break
    assert opened.run("document.activeElement.id") == "section-y"
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opened.press("Home")
    opened.press("ArrowRight")
    assert opened.run("document.activeElement.value") == "1"
    assert np.array_equal(opened.pixels("made-y")[..., :3], COLOURS[labels[0][:, 1]])


def test_every_control_has_a_name(opened):
    unnamed = (
        "[...document.querySelectorAll('input, select, button')].filter(e => !(e.labels?.[0] ?? e).innerText.trim())"
    )
    assert opened.run(f"{unnamed}.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(browser, page, scheme):
    browser.open(page, prefers_color_scheme=scheme)
    assert contrast(browser.run(INK), browser.run(BACK)) > 7
    tags = browser.run(
        "[...document.querySelectorAll('.tag, .facts, caption, th, td, .rule')].map(e => {"
        "let b = e; while (getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b = b.parentElement;"
        "return [getComputedStyle(e).color, getComputedStyle(b).backgroundColor]})"
    )
    assert min(contrast(*pair) for pair in tags) > 4.5


def test_dark_is_dark(browser, page):
    browser.open(page, prefers_color_scheme="dark")
    assert luminance(browser.run(BACK)) < 0.05
    assert browser.screenshot("header").mean() < 100


def test_it_prints_without_its_controls(browser, page):
    browser.open(page, prefers_color_scheme="dark")
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert luminance(browser.run(BACK)) == 1
        assert browser.run("getComputedStyle(document.querySelector('#controls')).display") == "none"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_without_webgl_the_sections_remain(browser, page):
    without = (
        "const whole = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind) {"
        "return kind === '2d' ? whole.call(this, kind) : null }"
    )
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=without)
    try:
        browser.open(page)
        assert "no 3D view" in browser.run("document.querySelector('#failure').innerText")
        assert browser.pixels("made-z").any()
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_an_image_stands_beside_sections_along_z(browser, make_store, make_real, material, tmp_path):
    write_page(make_report(make_store([material[:16, :16, :16]]), make_real(material[0])), tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert np.array_equal(browser.pixels("real-z")[..., :3], COLOURS[material[0, 24:40, 24:40]])
    assert browser.run("document.querySelectorAll('#real-y, #real-x').length") == 0
    assert browser.run("document.querySelectorAll('#views canvas').length") == 1
    assert browser.complaints() == []


def test_what_data_say_is_text(browser, make_store, material, tmp_path):
    store = make_store([material[:16, :16, :16]])
    provenance = {"data": HOSTILE, "licence": HOSTILE, "command": HOSTILE, "git_revision": HOSTILE}
    contract = store.contract
    contract = type(contract).from_json(
        json.dumps({**json.loads(contract.to_json()), "provenance": {**provenance, "weights_sha256": ""}})
    )
    object.__setattr__(store, "contract", contract)
    out = tmp_path / "report.html"
    write_page(make_report(store, Real(HOSTILE, "0" * 64, material)), out)
    browser.open(out)
    assert browser.run("document.title") == "1 volume of balls"
    assert HOSTILE in browser.run("document.querySelector('.provenance').innerText")
    assert browser.run("document.querySelectorAll('b').length") == 0
    assert browser.complaints() == []


def test_the_same_report_is_the_same_file(make_store, material, tmp_path):
    report = make_report(make_store([material[:16, :16, :16]]))
    for name in ("a.html", "b.html"):
        write_page(report, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_file_stays_small(make_store, material, tmp_path):
    """64³ voxels that do not compress."""
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 64)).astype(np.uint8)
    assert write_page(make_report(make_store([noise] * 3), show=3), tmp_path / "report.html") < 10e6


def test_a_page_that_cannot_be_written(make_store, material, tmp_path):
    report = make_report(make_store([material[:16, :16, :16]]))
    with pytest.raises(DataError, match="cannot be written"):
        write_page(report, tmp_path / "absent" / "report.html")
