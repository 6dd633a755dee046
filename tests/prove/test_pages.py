"""The API's pages in a real browser, as a developer clicks through them. Needs Chromium."""

import json
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from service import ROOT, TEXT, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, service):
    """A page that reaches this server alone; what it asked of others, and what went wrong in it, fails the test."""
    asked, wrong = [], []
    page = browser.new_page()

    def only_here(route):
        if route.request.url.startswith((service.url, "data:", "blob:")):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    page.route("**/*", only_here)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert not asked, "the page wants other servers"
    assert not wrong


def test_every_operation_stands_on_the_page(page, service):
    page.goto(f"{service.url}/docs/")
    expect(page.locator(".opblock").first).to_be_visible()
    document = service.http.get("/openapi.json").json()
    operations = [
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods if method != "parameters"
    ]
    shown = page.locator(".opblock").evaluate_all(
        "blocks => blocks.map(block => [block.querySelector('.opblock-summary-method').innerText,"
        " block.querySelector('.opblock-summary-path').getAttribute('data-path')])"
    )
    assert sorted(map(tuple, shown)) == sorted(operations)


def test_an_example_can_be_tried_out_and_answers(page, service):
    page.goto(f"{service.url}/docs/")
    block = page.locator(".opblock", has=page.locator('[data-path="/v1/zero-shot"]'))
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status").first).to_contain_text("200", timeout=30_000)
    body = json.loads(answer.locator(".highlight-code code").first.inner_text())
    assert body["object"] == "list" and body["data"][0]["label"]


def test_a_jobs_report_is_a_page_with_its_curves_drawn(page, service):
    examples = (ROOT / "examples" / "banking77.csv").read_bytes()
    file = service.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("banking77.csv", examples)}).json()
    job = service.post("/v1/fine_tuning/jobs", {"model": TEXT, "training_file": file["id"]}).json()
    url = f"/v1/fine_tuning/jobs/{job['id']}"
    ended = wait_until(lambda: (now := service.http.get(url).json())["status"] in ("succeeded", "failed") and now, "the job ends")
    assert ended["status"] == "succeeded", ended
    report = service.http.get(f"{url}/report").json()
    page.goto(f"{service.url}{url}/report")
    expect(page.get_by_text(report["transfer"]["sentence"].split(".")[0]).first).to_be_visible()
    drawings = page.locator("svg")
    assert drawings.count() >= 4, "confusion, reliability, coverage, learning curve"
    for index in range(drawings.count()):
        box = drawings.nth(index).bounding_box()
        assert box["width"] > 100 and box["height"] > 50
    zeroth = page.locator("#transfer circle", has=page.locator("title", has_text="zero-shot"))
    assert f"{report['zero_shot']['value'] * 100:.1f} %" in zeroth.locator("title").text_content()
    first = page.locator("#transfer circle.dot-one").first.bounding_box()
    assert zeroth.bounding_box()["x"] < first["x"], "no examples stand left of one"
    assert page.locator("#stages td", has_text="MiB").or_(page.locator("#stages td", has_text="GiB")).count() == len(report["stages"])
