"""What the report's pictures of time show: of all that is darker than the page, as much as there is time in it."""

import json
import re

import pytest
from conftest import REPOSITORY, memo, write_job
from pages import browser, look  # noqa: F401

STEP = 10_000_000  # microseconds; longer than any prediction of such a job, so that the picture is as long as the step
GROUP, LANE, HEAD, RIGHT = 125, 35, 20, 12  # of streams.js: heights of a group of lanes, a lane, a title; the margin
LANES = {"stall": 0, "copy out": 1, "copy in": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory, book, disk_of_session):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "book.txt").write_bytes(book)
    job = write_job(folder / "job.toml", train={"context": 1024, "block": 64, "steps": 1}, memory={"disk": disk_of_session})
    done = memo("train", job, "--out", folder / "run", "--strategy", "offload")
    assert done.code == 0, done.err
    return folder / "run"


def with_tiny_spans(run, share):
    """Gives the run a timeline of many stalls and copies that are shorter than a pixel; returns how long each is, and of
    each kind their share of the step.

    Calls take no time. Before a call that waits for a copy there is a stall, before any other one nothing.
    """
    program = json.loads((run / "plan.json").read_text())["program"]
    copies = [dict(zip(program["copies"]["columns"], row)) for row in program["copies"]["rows"]]
    calls = len(program["calls"]["rows"])
    waits = sorted({copy["before"] for copy in copies if copy["before"] < calls})
    tiny = int(share * STEP / len(waits))
    empty = (STEP - len(waits) * tiny) // (calls - len(waits))
    starts, now = [], 0
    for k in range(calls):
        now += tiny if k in waits else empty
        starts.append(now)
    measured = {"calls": [[k, at, at] for k, at in enumerate(starts)]}
    lasted = {"stall": len(waits) * tiny}
    for direction, (name, title) in enumerate({"copies_out": "copy out", "copies_in": "copy in"}.items()):
        those = [i for i, copy in enumerate(copies) if copy["direction"] == direction]
        begin = [STEP * (n + 1) // (len(those) + 1) for n in range(len(those))]
        measured[name] = [[i, at, at + tiny] for i, at in zip(those, begin)]
        lasted[title] = len(those) * tiny
    timeline = json.loads((run / "timeline.json").read_text()) | {"measured": measured}
    (run / "timeline.json").write_text(json.dumps(timeline))
    return tiny, {title: microseconds / starts[-1] for title, microseconds in lasted.items()}


def darkness(page, title):
    """Of a lane of the measured streams: the mean over its pixels of how much of the lane's colour is in each."""
    row = page.row("#streams canvas", GROUP + HEAD + LANES[title] * LANE + 13)
    row = row[int(float(page.style("html", "--gutter").removesuffix("px"))) : -RIGHT]
    card = [int(page.style("html", "--card")[at : at + 2], 16) for at in (1, 3, 5)]
    chip = page.style(f"#streams-legend .chip:text-is('{title}') i", "background-color")
    towards = [int(value) - behind for value, behind in zip(re.findall(r"\d+", chip), card)]
    length = sum(to * to for to in towards)
    of = lambda pixel: sum((value - behind) * to for value, behind, to in zip(pixel, card, towards)) / length
    return sum(map(of, row)) / len(row)


@pytest.mark.parametrize("share", [0.004, 0.01])
def test_stalls_and_copies_shorter_than_a_pixel_are_as_dark_as_their_share(look, run, tmp_path, share):
    tiny, shares = with_tiny_spans(run, share)
    done = memo("report", run, "-o", tmp_path / "page.html")
    assert done.code == 0, done.err
    page = look(tmp_path / "page.html")
    assert tiny / STEP * page.page.locator("#streams canvas").bounding_box()["width"] < 0.5, "of a pixel"
    for title, expected in shares.items():
        assert darkness(page, title) == pytest.approx(expected, rel=0.1), title


def test_a_short_peak_before_a_long_call_is_no_wider_than_a_column(browser):
    """In the charts of bytes: 955 short calls, of which one holds more, and one that is as long as 90 columns of 100."""
    page = browser.new_page()
    for script in ("subject.js", "charts.js"):
        page.add_script_tag(content=(REPOSITORY / "memo/report/page" / script).read_text())
    seen = page.evaluate(
        """() => {
          const clock = Array.from({length: 956}, (_, k) => k / 100).concat(100), total = clock.map(() => 1);
          total[940] = 9;
          return seenCalls(clock, total, [0, 100], 100).map(([time, call]) => [time, total[call]]);
        }"""
    )
    times = [time for time, _ in seen] + [100]
    high = sum(until - time for (time, value), until in zip(seen, times[1:]) if value == 9)
    assert 0 < high <= 1
    page.close()
