"""Crop and ask again: dragged over a turned phone picture, by numbers, refused in words, there after a reload."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

WHOLE, BLUE = (600, 800), (300, 450, 500, 650)


@pytest.fixture
def phone(tmp_path):
    """A JPEG as a phone stores it: on its side. Upright it has a red circle, and below it a blue square."""
    upright = Image.new("RGB", WHOLE, (235, 236, 240))
    draw = ImageDraw.Draw(upright)
    draw.ellipse((60, 80, 260, 280), fill=(220, 40, 40))
    draw.rectangle(BLUE, fill=(40, 90, 220))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    return path


def numbers(box) -> list[int]:
    return [int(field.input_value()) for field in box.locator("input[type=number]").all()]


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_part_is_asked_about_and_stays(person, workbench_url, phone, how):
    me = person(workbench_url).arrive()
    page = me.page
    me.drop(phone)
    me.ask("What is in this picture?")
    page.locator("#chat .receipt").first.wait_for()
    page.locator("#chat .medium.image img").first.click()
    box, image = page.locator(".lightbox"), page.locator(".lightbox .sent img")
    page.locator(".lightbox .seen:not([hidden])").wait_for()
    left, top, right, bottom = 280, 430, 520, 670
    if how == "mouse":
        at = image.bounding_box()
        scale = at["width"] / WHOLE[0]
        page.mouse.move(at["x"] + right * scale, at["y"] + bottom * scale)
        page.mouse.down()
        page.mouse.move(at["x"] + 400 * scale, at["y"] + 500 * scale)
        page.mouse.move(at["x"] + left * scale, at["y"] + top * scale)
        page.mouse.up()
        assert numbers(box) == [pytest.approx(n, abs=2) for n in (left, top, right - left, bottom - top)]
    else:
        box.locator(".crop-open").focus()
        page.keyboard.press("Enter")
        assert numbers(box) == [0, 0, *WHOLE]
    fields = box.locator("input[type=number]")
    fields.nth(0).fill("500")
    fields.nth(2).fill("240")
    box.locator(".question").fill("What color is it?")
    page.keyboard.press("Enter")
    assert "must lie inside of the picture, which has 600 × 800 pixels" in box.locator(".problem").inner_text()
    for place, number in enumerate((left, top, right - left, bottom - top)):
        fields.nth(place).fill(str(number))
    box.locator("button[type=submit]").click()
    receipt = page.locator("#chat .receipt").nth(1)
    receipt.wait_for()
    assert not box.is_visible() and page.locator("#chat .turn.bot .answer").last.inner_text()
    assert "crop of 600 × 800, 240 × 240 at 280, 430" in receipt.locator("summary").inner_text()
    page.reload()
    shown = page.locator("#chat .medium.image img").nth(1)
    shown.wait_for()
    page.wait_for_function("() => document.querySelectorAll('#chat .medium.image img')[1]?.naturalWidth > 0")
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [240, 240]
