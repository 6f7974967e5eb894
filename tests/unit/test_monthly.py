"""The month's arithmetic and its page: prices, tens for who may see nobody, plots that any reader can follow."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting import growth, monthly, monthly_page, plots
from alerting.authorities import load
from alerting.desk.reports import Month
from alerting.domain.delivery import Channel
from alerting.domain.desk import ReportState
from alerting.growth import Growth, Lives, Moved, Prices, Said, Span, Told
from alerting.monthly import AtDesk, Report, Sight
from alerting.plots import Series

CALCINAIA = load()["calcinaia"]
NOVEMBER = growth.month_of(date(2026, 11, 1))
W, T, S = Channel.WHATSAPP, Channel.TELEGRAM, Channel.SMS


def told(headline: str = "Piena dell'Arno", texts: int = 900, in_public: int = 0, parts: int = 2) -> Told:
    at = datetime(2026, 11, 3, 18, 30, tzinfo=UTC)
    return Told("x", headline, at, Counter({W: texts, T: in_public}), in_public, parts)


def a_report(*, exact: bool = True, people: int = 907, headline: str = "Piena dell'Arno", **texts: int) -> Report:
    months = growth.months(date(2025, 12, 1), date(2026, 11, 1))
    moved = [
        Moved(span, Counter({W: 10 * n}), Counter({W: n}), Counter({W: people - 50 * (len(months) - 1 - n), T: 7}))
        for n, span in enumerate(months)
    ]
    alerts = (told(headline, **texts),)
    said = [Said(span, alerts if span == NOVEMBER else (), Counter({W: 12})) for span in months]
    days = [Moved(span, Counter({W: span.begins.day % 4}), Counter(), Counter()) for span in growth.days(NOVEMBER)]
    lives = [Lives("calcinaia.fornacette", "Fornacette", 412, 380), Lives("calcinaia.capoluogo", "Capoluogo", 3)]
    return Report(NOVEMBER, Growth(CALCINAIA, moved, said, lives, growth.prices_of(CALCINAIA)), days, Sight(exact))


# ── days and months ─────────────────────────────────────────────────────────────────────────────────


def test_a_day_is_one_of_rome_also_where_the_clocks_change() -> None:
    assert growth.day_in_rome(datetime(2026, 11, 30, 23, 30, tzinfo=UTC)) == date(2026, 12, 1)
    assert growth.day_in_rome(datetime(2026, 7, 31, 22, 30, tzinfo=UTC)) == date(2026, 8, 1)
    october = growth.month_of(date(2026, 10, 25))
    assert october.ends_at.astimezone(UTC) - october.begins_at.astimezone(UTC) == timedelta(days=31, hours=1)


@given(st.dates(date(2001, 1, 1), date(2090, 1, 1)), st.integers(0, 40))
def test_months_follow_one_another_without_a_gap(first: date, count: int) -> None:
    last = first + timedelta(days=30 * count)
    spans = growth.months(first, last)
    assert spans[0].begins <= first and last < spans[-1].ends
    assert all(one.ends == other.begins for one, other in pairwise(spans))
    assert len(growth.days(spans[0])) in range(28, 32)
    assert monthly.months_before(first, 0) == first.replace(day=1)
    assert growth.month_of(monthly.months_before(first, 1)).ends == first.replace(day=1)


# ── euro ────────────────────────────────────────────────────────────────────────────────────────────


def test_of_an_sms_each_part_is_paid_and_an_answer_on_whatsapp_is_free() -> None:
    prices = Prices({W: 0.04, S: 0.05}, 0.05)
    assert prices.cost({W: 100, S: 10}, 3).euro == pytest.approx(100 * 0.04 + 10 * 0.05 * 3)
    assert prices.of_answers({W: 50, S: 2}).euro == pytest.approx(0.1)
    assert prices.as_sms(100, 2) == pytest.approx(10)


def test_what_nobody_knows_is_not_free() -> None:
    assert Prices({W: None}, None).cost({W: 1}, 1).unknown == {W}
    assert Prices({W: None}, None).as_sms(1, 1) is None
    assert not Prices({T: None, W: None}, None).cost({T: 5, W: 0}, 1).unknown
    assert "prezzo non indicato" in monthly_page.page(a_report())


def test_a_comune_without_sms_says_what_one_would_cost_and_one_with_sms_what_it_pays() -> None:
    assert growth.prices_of(CALCINAIA).of_sms == 0.05
    sms = replace(CALCINAIA.channels[0], channel=S, euro_per_text=0.07)
    assert growth.prices_of(replace(CALCINAIA, channels=(sms,))).of_sms == 0.07
    assert growth.prices_of(replace(CALCINAIA, sms_price=None)).of_sms is None


def test_a_post_in_a_public_channel_would_have_been_nobodys_sms() -> None:
    with_post = a_report(texts=100, in_public=1)
    assert with_post.sums(with_post.said).as_sms == pytest.approx(100 * 2 * 0.05)


# ── the page ────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_asks_nobody_for_anything_and_runs_nothing() -> None:
    page = monthly_page.page(a_report(headline='<script src="https://male.example">\'"'))
    assert "<script" not in page and "&lt;script" in page
    assert not re.search(r"<[^>]*(src|href)\s*=|url\(|@import", page)


def test_beside_every_plot_stands_a_table_and_every_plot_has_a_title() -> None:
    page = monthly_page.page(a_report())
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 5 and page.count("<table>") == 8
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img" and root.find("{http://www.w3.org/2000/svg}title") is not None
    assert page.count("<caption>") == page.count("<table>") and '<html lang="it">' in page


def test_who_may_see_nobody_reads_tens_in_tables_plots_and_sums() -> None:
    exact, seen = (monthly_page.page(a_report(exact=exact)) for exact in (True, False))
    assert "914" in exact and "914" not in seen and "910" in seen
    assert "&lt;10" in seen and "&lt;10" not in exact
    some, others = (a_report(exact=False, texts=n) for n in (901, 909))
    assert monthly_page.page(some) == monthly_page.page(others) and monthly.rows(some) == monthly.rows(others)
    few, none = (a_report(exact=False, texts=n) for n in (9, 0))
    assert monthly_page.page(few) == monthly_page.page(none)


def test_the_csv_opens_in_an_italian_spreadsheet() -> None:
    lines = monthly.rows(a_report()).splitlines()
    assert lines[0].startswith("\ufeffmese;iscritti;iscritti WhatsApp") and len(lines) == 13
    assert lines[-1].split(";")[0] == "2026-11" and lines[-1].endswith(";;90")


def test_of_a_comune_with_a_desk_the_page_and_the_csv_say_what_it_did() -> None:
    filed = [
        Month("2026-10", "buche", {ReportState.SOLVED: 3}),
        Month("2026-11", "buche", {ReportState.NEW: 12, ReportState.SOLVED: 31}, 0, 0.5, 72.0),
        Month("2026-11", None, {ReportState.NEW: 2}, 0, 5.0),
    ]
    at_desk = AtDesk(filed, [("2026-11", "anagrafe", 14, 2), ("2026-11", "abolito", 1, 0)])
    month = a_report()
    report = replace(month, year=replace(month.year, authority=load()["santa-fiora"]), at_desk=at_desk)
    page, lines = monthly_page.page(report), monthly.rows(report).splitlines()
    section = page.partition("Lo sportello")[2].partition("</section>")[0]
    for words in ("buche e strade", "43", "31", "30 min", "3 giorni", "da classificare", "5 h", "Anagrafe", "abolito"):
        assert f">{words}<" in section, words
    assert lines[0].endswith("segnalazioni;risolte;appuntamenti")
    assert lines[-2].endswith(";3;3;0") and lines[-1].endswith(";45;31;15")
    seen = monthly_page.page(replace(report, sight=Sight(False)))
    assert ">30 min<" in seen and ">5 h<" not in seen and ">43<" not in seen
    assert "Lo sportello" not in monthly_page.page(month) and "segnalazioni" not in monthly.rows(month)


# ── plots ───────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40))
def test_nothing_is_drawn_outside_the_frame(values: list[float]) -> None:
    labels = [str(n) for n in range(len(values))]
    one, two = Series("a", "one", values), Series("b", "two", values[::-1])
    for svg in (
        plots.line("x", labels, one),
        plots.bars("x", labels, [one, two]),
        plots.bars("x", labels, [], stacked=False),
    ):
        root = ElementTree.fromstring(svg)
        for name, most in (("x", plots.WIDTH), ("cx", plots.WIDTH), ("y", plots.HEIGHT), ("cy", plots.HEIGHT)):
            assert all(0 <= float(e.get(name, 0)) <= most for e in root.iter())
        assert all(float(e.get("height", 0)) <= plots.HEIGHT for e in root.iter() if e is not root)


@given(st.floats(0.0001, 1e12))
def test_an_axis_ends_with_a_round_number_not_far_above(most: float) -> None:
    assert most * (1 - 1e-6) <= plots.nice(most) <= most * 2.5 + 1e-9


def test_numbers_are_written_as_italians_write_them() -> None:
    assert [plots.number(n) for n in (0, 1250, 0.05, 12.5, 1_000_000)] == ["0", "1.250", "0,05", "12,5", "1.000.000"]


def test_a_span_is_named_by_its_month_or_its_day() -> None:
    assert NOVEMBER.name == "2026-11" and Span(date(2026, 11, 2), date(2026, 11, 3)).name == "2026-11-02"
