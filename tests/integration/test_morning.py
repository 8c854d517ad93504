"""The morning of a real night: its numbers are those of the store, and the page shows them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from segpipe.cli.main import app
from segpipe.errors import SpecError
from segpipe.report.morning import Morning, morning, newest_night, write_morning
from segpipe.report.morning.candidates import CHOSEN
from segpipe.report.morning.nights import read_statistics
from segpipe.store import Snapshot, create_store
from segpipe.store.files import LocalFiles
from segpipe.store.forget import forget, plan_forgetting
from segpipe.store.fsck import check_store
from segpipe.store.leases import lease
from tests.nights import Nights
from tests.s3 import new_address

HOSTILE = "a<script>alert(1)</script>|`x`*\u202egnp"
"""A name that would be a script, break a table, and turn the text around it."""


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    files = create_store(tmp_path / "store")
    assert isinstance(files, LocalFiles)
    return Nights(files, tmp_path / "images")


def tell(nights: Nights, runs: list[str]) -> Morning:
    return morning(Snapshot(nights.files), runs)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Nights, Morning, Morning]:
    """The last of eight nights that are alike, and a night of larger objects.

    In the latter three images are broken, and one of the first night is gone.
    """
    root = tmp_path_factory.mktemp("told")
    files = create_store(root / "store")
    assert isinstance(files, LocalFiles)
    nights = Nights(files, root / "images")
    for _ in range(8):
        nights.add_images()
        runs = nights()
    calm = tell(nights, runs)
    write_morning(files, calm)
    nights.add_images(side=12, broken=3, name=HOSTILE.replace("/", "_"))
    (nights.images / "01" / "field-00.png").unlink()
    return nights, calm, tell(nights, nights())


@pytest.fixture
def drifted(told: tuple[Nights, Morning, Morning]) -> tuple[Nights, Morning]:
    nights, _, drifted = told
    return nights, drifted


def test_its_numbers_are_those_of_the_store(drifted: tuple[Nights, Morning]) -> None:
    nights, told = drifted
    rows = [row for row in Snapshot(nights.files).image_rows() if "/09/" in row["uri"]]
    assert len(rows) == told.tonight.images == 15
    assert told.counts.failed == told.tonight.failed == 3
    assert told.counts.objects == sum(row["n_objects"] or 0 for row in rows)
    assert (told.counts.listed, told.counts.skipped) == (8 * 12 - 1 + 15, 8 * 12 - 1)
    assert (told.counts.missing, told.counts.missing_new) == (1, 1)
    assert told.missing == ("01/field-00.png",)
    assert [(line.reason, line.images) for line in told.failures] == [("truncated", 3)]
    assert told.headline.startswith(
        f"15 images, 3 failed, {told.counts.objects:,} objects, 3.75 im"
    )


def test_a_shift_is_an_alarm_and_nothing_else_is(drifted: tuple[Nights, Morning]) -> None:
    _, told = drifted
    alarms = {one.measure.key: one.verdict for one in told.comparisons if one.alarm}
    assert alarms == {"object_area": "higher", "foreground": "higher", "failed": "higher"}
    assert len(told.alarms) == 3
    area = next(sentence for sentence in told.alarms if sentence.startswith("Area"))
    assert "px²" in area
    assert "the last 8 nights" in area
    assert "Look at" in area


def test_a_night_like_the_others_has_no_alarm(told: tuple[Nights, Morning, Morning]) -> None:
    _, calm, _ = told
    assert calm.alarms == ()
    assert {one.verdict for one in calm.comparisons} == {"usual"}
    assert calm.headline.endswith("; no alarms")


def test_without_statistics_earlier_nights_are_counted_again(nights: Nights) -> None:
    for written in (True, False):
        nights.add_images()
        runs = nights()
        if written:
            write_morning(nights.files, tell(nights, runs))
    nights.add_images()
    told = tell(nights, nights())
    assert [night.images for night in told.earlier] == [12, 12]
    assert any("1 earlier run had no statistics" in note for note in told.notes)


def test_what_is_counted_again_is_what_was_written(nights: Nights) -> None:
    nights.add_images(broken=1)
    first = tell(nights, nights())
    write_morning(nights.files, first)
    (run,) = first.tonight.run_ids
    written = read_statistics(nights.files, run)
    assert written is not None
    assert written.to_dict() == tell(nights, [run]).tonight.to_dict()


def test_partitions_are_one_night(nights: Nights) -> None:
    nights.add_images(12)
    runs = nights(partition_chunks=1)
    assert len(runs) == 3
    told = tell(nights, runs)
    assert (told.tonight.images, told.counts.planned) == (12, 12)
    assert told.tonight.seconds == pytest.approx(12)
    write_morning(nights.files, told)
    assert newest_night(nights.files) == newest_night(nights.files, runs[0]) == tuple(runs)
    nights.add_images()
    assert [night.run_ids for night in tell(nights, nights()).earlier] == [tuple(runs)]


def test_another_collection_or_a_retry_is_not_compared(nights: Nights) -> None:
    nights.add_images(broken=1)
    nights()
    nights(retry=True)
    other = Nights(nights.files, nights.images.parent / "others")
    other.number = 5
    other.add_images()
    assert tell(other, other()).earlier == ()
    nights.number = 8
    nights.add_images()
    assert [night.images for night in tell(nights, nights()).earlier] == [13]


def test_a_night_that_died_is_told_from_its_commits(nights: Nights) -> None:
    nights.add_images()
    told = tell(nights, nights(died=True))
    assert (told.tonight.images, told.tonight.ok) == (12, 12)
    assert told.tonight.images_per_second is None
    assert "died" in told.alarms[0]
    assert "12 images" in told.headline


def test_a_run_that_died_while_it_planned_is_told_too(nights: Nights) -> None:
    nights.add_images(2)
    (run,) = nights()
    nights.files.remove(f"runs/{run}/plan.parquet")
    record = json.loads(nights.files.read(f"runs/{run}/record.json"))
    record |= {"status": "running", "summary": None, "ended": None}
    nights.files.replace(f"runs/{run}/record.json", json.dumps(record).encode())
    told = tell(nights, [run])
    assert told.tonight.images == 0
    assert "died" in told.alarms[0]


def test_more_failures_than_allowed_are_an_alarm_without_nights_to_compare(nights: Nights) -> None:
    nights.add_images(3, broken=1)
    (sentence,) = tell(nights, nights()).alarms
    assert sentence.startswith("Images that failed: 25%, max_failed allows 10%.")


def test_a_night_with_nothing_new_has_a_page_too(nights: Nights) -> None:
    nights.add_images()
    nights()
    told = tell(nights, nights())
    assert told.headline == "nothing new, 12 images done before; no alarms"
    assert "nothing new" in told.html()
    assert "nothing new" in told.markdown()


def test_a_run_at_work_is_told_as_far_as_it_has_come(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.add_images()
    (run,) = nights(died=True)
    monkeypatch.chdir(tmp_path)
    with lease(nights.files, run):
        assert newest_night(nights.files) == (run,)
        told = tell(nights, [run])
        assert told.at_work
        assert "12 images, 0 failed" in told.headline
        assert "so far; no alarms" in told.headline
        assert any("still at work" in note for note in told.notes)
        with pytest.raises(SpecError, match="still at work"):
            write_morning(nights.files, told)
        said = CliRunner().invoke(app, ["report", str(nights.files.root)])
        assert said.exit_code == 0, said.output
        assert "so far" in (tmp_path / f"report-{run}.html").read_text("utf-8")
        more = nights.files.local_path(f"commits/{min(nights.files.names('commits'))}")
        published = nights.files.local_path("images") / f"{more.stem}.parquet"
        published.unlink()  # committed, but not in the snapshot yet
        assert "not there" not in " ".join(tell(nights, [run]).alarms)
    assert newest_night(nights.files) == (run,)  # it died


def test_a_run_without_record_is_refused(nights: Nights) -> None:
    with pytest.raises(SpecError, match="no run in this store has ended"):
        newest_night(nights.files)
    with pytest.raises(SpecError, match=r"no record\.json"):
        tell(nights, ["nonsense"])
    with pytest.raises(SpecError, match="none was given"):
        tell(nights, [])


def test_the_page_is_kept_with_the_record_and_goes_with_the_results(nights: Nights) -> None:
    nights.add_images()
    runs = nights(partition_chunks=2)
    path = write_morning(nights.files, tell(nights, runs))
    assert path == f"runs/{runs[-1]}/report.html"
    assert list(check_store(nights.files)) == []
    page = nights.files.root / path
    page.write_bytes(page.read_bytes()[:-1])
    assert [problem.path for problem in check_store(nights.files)] == [path]
    write_morning(nights.files, tell(nights, runs))
    forget(nights.files, plan_forgetting(nights.files, runs[0]))
    assert list(nights.files.root.rglob("report.html")) == []
    assert list(nights.files.root.rglob("statistics.json")) == []
    assert list(check_store(nights.files)) == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("last", range(4))
def test_killed_while_the_page_is_written_the_store_is_whole(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    nights.add_images(3)
    told = tell(nights, nights())
    write_morning(nights.files, told)
    left = [last]

    def until_killed(name: str):  # type: ignore[no-untyped-def]
        original = getattr(nights.files, name)

        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*arguments)

        return call

    for name in ("replace", "remove"):
        monkeypatch.setattr(nights.files, name, until_killed(name))
    with pytest.raises(Killed):
        write_morning(nights.files, told)
    monkeypatch.undo()
    assert list(check_store(nights.files)) == []
    write_morning(nights.files, told)
    assert list(check_store(nights.files)) == []


def test_an_image_that_is_gone_says_so_in_its_place(nights: Nights) -> None:
    nights.add_images(4)
    runs = nights()
    for path in nights.images.rglob("*.png"):
        path.unlink()
    told = tell(nights, runs)
    assert len(told.cards) == 4
    assert all(card.drawn is None and card.problem for card in told.cards)
    assert told.cards[0].problem.split()[0] in told.html()


def test_an_image_that_was_changed_is_not_shown_with_other_pixels(nights: Nights) -> None:
    nights.add_images(4)
    runs = nights()
    for path in nights.images.rglob("*.png"):
        Image.new("L", (64, 64)).save(path)
    cards = tell(nights, runs).cards
    assert all("changed since" in card.problem for card in cards)


# The page


class Page(HTMLParser):
    """What a browser would load, run or show, as a real parser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "image"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "image"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def test_the_page_needs_nothing_and_runs_nothing(drifted: tuple[Nights, Morning]) -> None:
    text = drifted[1].html()
    page = Page(text)
    assert page.open == []
    assert {"svg", "table", "image", "h1"} <= set(page.tags)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    outside = [address for address in page.addresses if not address.startswith("#")]
    assert all(address.startswith("data:image/webp;base64,") for address in outside)
    inside = [address[1:] for address in page.addresses if address.startswith("#")]
    assert inside
    assert all(text.count(f'id="{name}"') == 1 for name in inside)
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert len(text) < 5_000_000
    assert text.count("<image") <= sum(CHOSEN.values())


def test_names_are_shown_and_never_obeyed(drifted: tuple[Nights, Morning]) -> None:
    _, told = drifted
    shown = "".join(Page(told.html()).shown)
    assert "a<script>alert(1)<" in shown
    assert "\u202e" not in told.html() + told.markdown()
    assert "%E2%80%AEgnp" in shown
    assert "<script" not in told.markdown()


def test_several_classes_are_told_one_by_one(drifted: tuple[Nights, Morning]) -> None:
    _, told = drifted
    (area,), (score,) = told.tonight.area.values(), told.tonight.score.values()
    two = replace(told.tonight, area={HOSTILE: area, "b": area}, score={HOSTILE: score})
    page = Page(replace(told, tonight=two).html())
    assert "script" not in page.tags
    assert "alert(1)</script>" in "".join(page.shown)
    assert "Median area" in page.shown


def test_the_markdown_is_tables_that_hold(drifted: tuple[Nights, Morning]) -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt("gfm-like", {"linkify": False}).render(drifted[1].markdown())
    page = Page(html)
    assert page.tags.count("table") == 3
    rows = html.split("<tr>")[1:]
    assert {len(re.findall(r"<t[dh][ >]", row)) for row in rows} == {3, 4}
    assert "em" not in page.tags
    assert "code" not in page.tags
    assert "a<script>alert(1)<" in "".join(page.shown)


# The command


def test_the_command_writes_the_page_of_a_night(
    drifted: tuple[Nights, Morning], tmp_path: Path
) -> None:
    nights, told = drifted
    store, out = str(nights.files.root), tmp_path / "page.html"
    said = CliRunner().invoke(app, ["report", store, "--out", str(out), "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["headline"] == told.headline
    assert out.read_text("utf-8").startswith("<!DOCTYPE html>")
    first = min(nights.files.names("runs"))
    said = CliRunner().invoke(app, ["report", store, "--run", first])
    assert said.exit_code == 0, said.output
    assert f"runs/{first}/report.html" in said.stdout
    assert list(check_store(nights.files)) == []


def test_a_store_in_a_bucket_has_mornings_too(s3: str, tmp_path: Path) -> None:
    files = create_store(new_address())
    nights = Nights(files, tmp_path / "images")
    nights.add_images(3, broken=1)
    told = tell(nights, nights())
    assert told.headline.startswith("4 images, 1 failed")
    assert sum(card.drawn is not None for card in told.cards) == 3
    path = write_morning(files, told)
    assert files.read(path).startswith(b"<!DOCTYPE html>")
    assert list(check_store(files)) == []
    assert newest_night(files) == told.tonight.run_ids
