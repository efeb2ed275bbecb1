"""memo report: the page in a real browser, the trace, bad input."""

import json
import shutil

import pytest
from conftest import SMALL, memo, write_job
from pages import MAP, PHONE, browser, look  # noqa: F401


@pytest.fixture(scope="module")
def work(tmp_path_factory, book):
    folder = tmp_path_factory.mktemp("report")
    (folder / "book.txt").write_bytes(book)
    return folder


@pytest.fixture(scope="module")
def runs(work, disk_of_session):
    """Two runs of one job: offload, which waits for the disk, and recompute."""
    job = write_job(work / "job.toml", train={"context": 1024, "block": 128, "steps": 3}, memory={"disk": disk_of_session})
    for strategy in ("offload", "recompute"):
        done = memo("train", job, "--out", work / strategy, "--strategy", strategy)
        assert done.code == 0, done.err
    done = memo("eval", work / "offload", "--data", work / "book.txt", "--context", 512)
    assert done.code == 0, done.err
    return work / "offload", work / "recompute"


@pytest.fixture(scope="module")
def plan_32x256(work):
    """As many layers and blocks as examples/plan_32x256.toml has, of a model that is profiled at once."""
    job = write_job(work / "big.toml", model=SMALL | {"layers": 32}, train={"context": 256 * 16, "block": 16})
    done = memo("plan", job, "-o", work / "plan.json")
    assert done.code == 0, done.err
    return work / "plan.json"


def report(*inputs, out):
    done = memo("report", *inputs, "-o", out)
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def run_page(runs, work):
    return report(runs[0], out=work / "run.html")


@pytest.fixture(scope="module")
def two_page(runs, work):
    return report(*runs, out=work / "two.html")


@pytest.fixture(scope="module")
def big_page(plan_32x256, work):
    return report(plan_32x256, out=work / "big.html")


def test_a_run_is_drawn(look, run_page):
    page = look(run_page)
    for selector in (MAP, "#streams canvas", "#tiers canvas", "#loss canvas"):
        assert page.colours(selector)[0] > 8, selector
    text = page.page.inner_text("main")
    for words in ("Device peak", "Predicted against measured", "Fragmentation", "Waiting", "Loss", "By position in the context"):
        assert words in text
    assert "undefined" not in text and "NaN" not in text
    page.screenshot("run-desktop-light")


def test_hovering_names_tensor_bytes_and_lifetime(look, run_page):
    page = look(run_page)
    page.settle()
    x, y = page.middle(MAP)
    found = set()
    for dx in range(-400, 401, 80):
        for dy in range(-120, 121, 30):
            page.page.mouse.move(x + dx, y + dy)
            if page.page.is_visible("#tip"):
                found.add(page.page.inner_text("#tip"))
    assert any("layer" in tip and "block" in tip and "iB" in tip and "stays" in tip for tip in found), found


def test_hovering_names_calls_and_copies(look, run_page):
    page = look(run_page)
    page.page.locator("#streams canvas").scroll_into_view_if_needed()
    box = page.page.locator("#streams canvas").bounding_box()
    for words, y in (("predicted, compute", 35), ("predicted, copy out", 70), ("predicted, copy in", 105)):
        for x in range(75, int(box["width"]) - 12):  # a copy may be as narrow as a pixel
            page.page.mouse.move(box["x"] + x, box["y"] + y)
            if page.page.is_visible("#tip"):
                break
        assert words in page.page.inner_text("#tip")


def test_wheel_and_drag_zoom_and_pan(look, run_page):
    page = look(run_page)
    whole = page.shown()
    x, y = page.middle(MAP)
    page.page.mouse.move(x, y)
    page.page.mouse.wheel(0, -300)  # without Ctrl or focus, the page scrolls
    assert page.shown() == whole
    x, y = page.middle(MAP)
    page.page.mouse.move(x, y)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -300)
    page.page.keyboard.up("Control")
    zoomed = page.shown()
    assert zoomed != whole
    page.page.mouse.down()
    page.page.mouse.move(x - 150, y, steps=4)
    page.page.mouse.up()
    assert page.shown() not in (whole, zoomed)
    page.page.click("text=Everything")
    assert page.shown() == whole


def test_the_keyboard_does_it_all(look, run_page):
    page = look(run_page)
    whole = page.shown()
    page.page.focus(MAP)
    seen = [whole]
    for key in ("+", "+", "ArrowRight", "ArrowLeft", "-", "PageUp", "ArrowUp", "PageDown"):
        page.page.keyboard.press(key)
        seen.append(page.shown())
        assert seen[-1] != seen[-2], key
    page.page.keyboard.press("Enter")
    assert page.page.is_visible("#tip") and page.page.inner_text("#tip")
    page.page.keyboard.press("Escape")
    assert page.page.is_hidden("#tip")
    page.page.keyboard.press("0")
    assert page.shown() == whole
    reached = set()
    page.page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.closest('section')?.getAttribute('aria-labelledby') ?? ''"))
    assert {"map-title", "tiers-title", "streams-title", "loss-title"} <= reached


def test_one_kind_is_singled_out(look, run_page):
    page = look(run_page)
    before = page.colours(MAP)[0]
    first = page.page.locator("#legend button").first
    first.click()
    page.settle()
    assert first.get_attribute("aria-pressed") == "true"
    assert page.colours(MAP)[0] != before


def test_a_table_is_behind_each_picture(look, run_page):
    page = look(run_page)
    for parent in ("#map-table", "#tiers-table", "#streams-table", "#loss-table"):
        page.page.click(f"{parent} summary")
        page.page.wait_for_selector(f"{parent} tbody tr")
        assert page.page.locator(f"{parent} tbody tr").count() > 2, parent
    assert "NaN" not in page.page.inner_text("main")


def test_dark_and_light_follow_the_system(look, run_page):
    page = look(run_page, color_scheme="dark")
    dark = page.colours(MAP)[1]
    page.screenshot("run-desktop-dark")
    page.page.emulate_media(color_scheme="light")
    page.settle()
    light = page.colours(MAP)[1]
    assert sum(dark) < 150 and sum(light) > 600


def test_print_is_light_and_without_tools(look, run_page):
    page = look(run_page, color_scheme="dark")
    page.page.emulate_media(media="print", color_scheme="dark")
    page.settle()
    assert page.page.is_hidden("#tools")
    assert sum(page.colours(MAP)[1]) > 600
    page.screenshot("run-print")
    pdf = page.page.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000


def test_it_fits_a_phone(look, run_page, two_page, big_page):
    for name, file in (("run", run_page), ("two", two_page), ("big", big_page)):
        for scheme in ("light", "dark"):
            page = look(file, viewport=PHONE, color_scheme=scheme, is_mobile=True, has_touch=True, device_scale_factor=2)
            assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(f"{name}-phone-{scheme}")


def test_runs_are_compared(look, two_page):
    page = look(two_page)
    assert page.page.locator("#comparison-table tbody tr").count() == 2
    digests = [row.split()[-1] for row in page.page.locator("#comparison-table tbody tr").all_inner_texts()]
    assert digests[0] == digests[1]
    page.screenshot("two-desktop-light")
    page.page.focus('[role="tab"][aria-selected="true"]')
    page.page.keyboard.press("ArrowRight")
    page.page.wait_for_selector('html[data-ready="1"]')
    assert page.page.locator('[role="tab"]').nth(1).get_attribute("aria-selected") == "true"


def test_a_plan_of_32_layers_in_256_blocks(look, big_page):
    assert big_page.stat().st_size < 2 << 20
    for scheme in ("light", "dark"):
        page = look(big_page, color_scheme=scheme)
        page.screenshot(f"big-desktop-{scheme}")
    # How long a frame takes while zooming: printed, since busy machines differ.
    milliseconds = page.page.evaluate(
        """async () => {
          const canvas = document.querySelector("#map canvas"), times = [];
          for (let i = 0; i < 12; ++i) {
            const start = performance.now();
            canvas.dispatchEvent(new KeyboardEvent("keydown", {key: i % 2 ? "ArrowRight" : "+"}));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b)[6];
        }"""
    )
    print(f"a frame of the map: {milliseconds:.0f} ms")
    page.settle()
    page.screenshot("big-desktop-zoomed")


def test_the_trace_is_perfettos(runs, work):
    out = work / "trace.json"
    done = memo("report", runs[0], "-o", work / "traced.html", "--perfetto", out)
    assert done.code == 0, done.err
    events = json.loads(out.read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"compute", "copy-out", "copy-in", f"{runs[0]}, predicted", f"{runs[0]}, measured"} <= names
    assert {event["name"] for event in events if event["ph"] == "C"} == {"device bytes", "disk bytes"}
    for event in events:
        assert {"ph", "pid", "tid", "name"} <= event.keys()
        assert event["ph"] != "X" or event["dur"] >= 0


def test_trace_processor_loads_the_trace(runs, work):
    """Perfetto's package fetches its trace processor at first use: without it on this machine there is nothing to ask."""
    from perfetto.trace_processor import TraceProcessor

    out = work / "trace.json"
    assert memo("report", runs[0], "-o", work / "traced.html", "--perfetto", out).code == 0
    try:
        TraceProcessor().close()
    except Exception as error:  # whatever way of fetching failed
        pytest.skip(f"no trace processor here: {error}")
    processor = TraceProcessor(trace=str(out))
    with processor:
        slices = next(iter(processor.query("select count(*) as n from slice"))).n
        counters = next(iter(processor.query("select count(distinct name) as n from counter_track"))).n
    assert slices > 0 and counters == 2


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda run: (run / "plan.json").write_text((run / "plan.json").read_text()[:5000]), "plan.json"),
        (lambda run: (run / "plan.json").write_text('{"format": "memo-plan", "version": 99}'), "version"),
        (lambda run: (run / "plan.json").write_text('{"name": "package"}'), "plan.json"),
        (lambda run: (run / "plan.json").unlink(), "is not a run folder"),
        (lambda run: (run / "timeline.json").write_text('{"version": 2}'), "timeline.json: version: is 2"),
        (lambda run: (run / "summary.json").write_text("{"), "summary.json"),
        (lambda run: (run / "metrics.jsonl").write_text('{"step":'), "metrics.jsonl: line 1"),
    ],
)
def test_spoilt_files_are_refused_by_name(runs, tmp_path, spoil, words):
    run = tmp_path / "run"
    run.mkdir()
    for file in ("plan.json", "timeline.json", "summary.json", "metrics.jsonl"):
        shutil.copy(runs[0] / file, run)
    spoil(run)
    assert words in memo("report", run, "-o", tmp_path / "report.html").refusal(2)
    assert not (tmp_path / "report.html").exists()


def test_what_is_not_there_is_refused(tmp_path):
    assert "nowhere" in memo("report", tmp_path / "nowhere", "-o", tmp_path / "report.html").refusal(2)
    memo("report").refusal(2)
