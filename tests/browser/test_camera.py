"""The counter's camera: from what it sees to the photo of a case, refused, or not there at all (R-14).

Chromium plays a film of the test's own as its camera; neither page nor policy nor script is changed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page, expect

from stations.models import EmergencyCase
from stations.services.cases import view_person
from tests.browser.cases import fill_case
from tests.browser.test_counter import small_targets
from tests.browser.test_production_flow import enter
from tests.conftest import CHROMIUM_FLAGS
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import photo, report

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
FRAME = (1280, 720)
PLACE = (422, 40)  # where the portrait stands in the frame
SCALE = 1.3
OpenCamera = Callable[..., Page]


@pytest.fixture
def counter(transactional_db: None) -> Counter:
    caches["limits"].clear()
    return make_counter()


def film(folder: Path, frame: Image.Image) -> Path:
    """Write a film that shows one picture (Motion JPEG); a camera's black is 16 and its white 235."""
    target = io.BytesIO()
    frame.point(lambda level: round(16 + level * 219 / 255)).save(target, "JPEG", quality=95)
    path = folder / "camera.mjpeg"
    path.write_bytes(target.getvalue() * 4)
    return path


def portrait() -> Image.Image:
    """Return what a camera sees: a person before a light wall, off the middle and off the card's shape."""
    frame = Image.new("RGB", FRAME, (236, 238, 240))
    with Image.open(io.BytesIO(photo())) as person:
        size = (round(person.width * SCALE), round(person.height * SCALE))
        frame.paste(person.convert("RGB").resize(size, Image.Resampling.LANCZOS), PLACE)
    return frame


@pytest.fixture
def camera(chromium: Browser, live_server: Any, counter: Counter, tmp_path: Path) -> Iterator[OpenCamera]:
    """Return a function that opens the page of a case in a browser with such a camera."""
    started: list[Browser] = []
    complaints: list[str] = []

    def start(frame: Image.Image | None, *, allowed: bool = True) -> Page:
        flags = list(CHROMIUM_FLAGS)
        if frame is not None:
            seen = film(tmp_path, frame)
            flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={seen}"]
        kind = chromium.browser_type
        started.append(kind.launch(executable_path=_program(), args=flags))
        context = started[-1].new_context(
            base_url=live_server.url, locale="zh-CN", viewport={"width": 1024, "height": 768}
        )
        if allowed:
            context.grant_permissions(["camera"], origin=live_server.url)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        report(counter.station)
        enter(page, counter.operator)
        page.goto("/admin/counter/case/")
        return page

    yield start
    for browser in started:
        browser.close()
    assert [text for text in complaints if "a status of" not in text] == []


def _program() -> str:
    return os.environ.get("CHROMIUM", "/usr/bin/chromium")


def state(page: Page) -> Any:
    return expect(page.locator("[data-photo-state]"))


def shoot(page: Page) -> None:
    """Open the camera and take a picture, by keyboard."""
    page.get_by_role("button", name="打开摄像头").press("Enter")
    state(page).to_contain_text("请对准后按“拍照”")
    expect(page.get_by_role("button", name="拍照")).to_be_focused()
    page.get_by_role("button", name="拍照").press("Enter")


def chosen(page: Page) -> bytes:
    """Return the file that the form will send."""
    found = page.evaluate(
        "async () => { const [file] = document.querySelector('[data-photo-file]').files;"
        " return file ? Array.from(new Uint8Array(await file.arrayBuffer())) : [] }"
    )
    return bytes(found)


def difference(jpeg: bytes, expected: Image.Image) -> float:
    """Return how far two pictures are apart on average, of 255."""
    with Image.open(io.BytesIO(jpeg)) as taken:
        apart = ImageChops.difference(taken.convert("RGB"), expected)
    return sum(ImageStat.Stat(apart).mean) / 3


def expected_cut(left: float) -> Image.Image:
    """Return what of the frame belongs on the card: its full height, moved sideways from 0 to 1."""
    width = 358 / 441 * FRAME[1]
    begins = (FRAME[0] - width) * left
    box = (round(begins), 0, round(begins + width), FRAME[1])
    return portrait().resize((358, 441), Image.Resampling.LANCZOS, box)


def test_a_photo_from_the_camera_is_cut_accepted_and_sealed_with_the_case(
    camera: OpenCamera, counter: Counter, tmp_path: Path
) -> None:
    """Seen, taken, moved, 358 × 441, taken into the case; the camera is off at once."""
    page = camera(portrait())
    page.get_by_role("button", name="打开摄像头").press("Enter")
    video = page.locator("[data-camera]")
    expect(video).to_be_visible()
    expect(video).to_have_js_property("videoWidth", 1280)  # wait_for_function would eval, which pages refuse
    assert small_targets(page) == []
    page.screenshot(path=str(tmp_path / "camera.png"), full_page=True)
    page.get_by_role("button", name="拍照").press("Enter")
    expect(video).to_be_hidden()
    assert page.evaluate("document.querySelector('[data-camera]').srcObject") is None
    state(page).to_contain_text("请裁剪照片")
    expect(page.get_by_label("缩放")).to_be_focused()
    page.get_by_label("左右移动").fill("52")
    page.screenshot(path=str(tmp_path / "cut.png"), full_page=True)
    page.get_by_role("button", name="使用此照片").press("Enter")
    state(page).to_contain_text("照片合格：358 × 441 像素")
    sent = chosen(page)
    with Image.open(io.BytesIO(sent)) as taken:
        assert (taken.size, taken.mode, taken.format) == ((358, 441), "RGB", "JPEG")
    assert difference(sent, expected_cut(0.52)) < 6 < difference(sent, expected_cut(0.3))
    fill_case(page)
    page.get_by_role("button", name="提交复核").press("Enter")
    expect(page.get_by_text("应急申请已提交，须由另一人复核后才能制卡")).to_be_visible()
    case = EmergencyCase.objects.get()
    assert view_person(case, actor=counter.supervisor).photo == sent


def test_a_picture_of_nothing_is_refused_and_a_file_is_taken_instead(
    camera: OpenCamera, counter: Counter, tmp_path: Path
) -> None:
    """A lens cap or a wall: too little in it to be a photo; nothing is put into the form."""
    page = camera(Image.new("RGB", FRAME, (236, 238, 240)))
    shoot(page)
    page.get_by_role("button", name="使用此照片").press("Enter")
    state(page).to_contain_text("字节，请换一张更清晰的")
    assert chosen(page) == b""
    fill_case(page)
    page.get_by_role("button", name="提交复核").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("照片（JPEG）")
    assert EmergencyCase.objects.count() == 0
    upload(page, tmp_path)


def test_a_camera_of_few_pixels_is_warned_of(camera: OpenCamera) -> None:
    page = camera(portrait().resize((320, 240)))
    shoot(page)
    state(page).to_contain_text("原图只有 320 × 240 像素，放大后可能模糊")


def test_a_camera_that_the_browser_may_not_use_is_told_and_a_file_is_taken(
    camera: OpenCamera, tmp_path: Path
) -> None:
    page = camera(portrait(), allowed=False)
    page.get_by_role("button", name="打开摄像头").press("Enter")
    state(page).to_contain_text("浏览器不允许使用摄像头：请在地址栏中允许，或改为选择照片文件")
    expect(page.locator("[data-camera]")).to_be_hidden()
    expect(page.get_by_role("button", name="拍照")).to_be_hidden()
    upload(page, tmp_path)


def test_a_machine_without_a_camera_is_told_and_a_file_is_taken(camera: OpenCamera, tmp_path: Path) -> None:
    page = camera(None)
    page.get_by_role("button", name="打开摄像头").press("Enter")
    state(page).to_contain_text("没有找到摄像头：请接好后再试，或改为选择照片文件")
    upload(page, tmp_path)


def test_a_camera_that_is_unplugged_is_told(camera: OpenCamera) -> None:
    page = camera(portrait())
    page.get_by_role("button", name="打开摄像头").press("Enter")
    state(page).to_contain_text("请对准后按“拍照”")
    page.locator("[data-camera]").evaluate(
        "one => one.srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )
    state(page).to_contain_text("摄像头已断开")
    expect(page.get_by_role("button", name="拍照")).to_be_hidden()


def upload(page: Page, folder: Path) -> None:
    """Take a file: whatever became of the camera, this way stays open."""
    file = folder / "photo.jpg"
    file.write_bytes(photo())
    page.set_input_files("#id_photo", str(file))
    state(page).to_contain_text("照片合格：358 × 441 像素")
    assert chosen(page) == photo()
