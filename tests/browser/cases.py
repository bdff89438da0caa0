"""The form of an emergency case, filled in as an operator does."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.stations.counter_desk import entered


def fill_case(page: Page) -> None:
    """Fill in everything but the photo."""
    for code, value in entered().row.items():
        box = page.locator(f"#id_{code}")
        if box.evaluate("one => one.tagName") == "SELECT":
            box.select_option(value)
        elif box.get_attribute("type") == "date":
            box.fill(f"{value[:4]}-{value[4:6]}-{value[6:]}")
        else:
            box.fill(value)
    page.fill("#id_account", "6222021234567890123")
    page.fill("#id_reason", "住院急用")
