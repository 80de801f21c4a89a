"""The text of an HTML mail, for whatever a caller sends as HTML."""

from __future__ import annotations

import time

import pytest

from db.errors import AppError
from tools.email_templates import Template
from tools.plain_text import plain_text

pytestmark = pytest.mark.promise("RUN-22")
MANY = 30_000


def seconds(html: str) -> float:
    began = time.thread_time()
    plain_text(html)
    return time.thread_time() - began


@pytest.mark.parametrize(
    "html",
    [
        "<!--" * MANY,
        "<!--" * MANY + ">",
        "--><p>" + "<!--" * MANY,
        "<![CDATA[" * MANY + ">",
        "<![if" * MANY + "]",
        "</" * MANY,
        "<a " * MANY,
        "<head>" + "<b>" * MANY + "</i>" * MANY,
        "<a href=x>" * MANY + "</a>" * MANY,
    ],
    ids=[
        "comments",
        "comments and an end",
        "comments behind one",
        "sections",
        "conditions",
        "ends",
        "tags",
        "head",
        "links",
    ],
)
def test_no_html_takes_longer_than_its_length(html: str) -> None:
    usual = "<p>a <b>word</b></p>" * (len(html) // 20)
    assert seconds(html) < 10 * seconds(usual) + 0.01


def test_what_begins_and_does_not_end_is_left_out() -> None:
    assert plain_text("<p>Hello <!-- there --> you<!-- and me<p>Bye") == "Hello you"
    assert plain_text("<p>Hello<p title='") == "Hello"
    assert plain_text("a < b, 1 <2<br>&lt;") == "a < b, 1 <2\n<"
    assert plain_text("<p>One<![if !mso]> two<![endif]> three<![foo]>") == "One two three"


def test_a_template_is_searched_for_its_addresses_in_one_go() -> None:
    began = time.thread_time()
    template = Template("s", None, "href=" + " " * 50_000 + "{{ a }}" + '<a href="{{ b }}" src = {{c}}>')
    with pytest.raises(AppError, match="address"):
        template.filled(dict.fromkeys("abc", "no"))
    assert time.thread_time() - began < 1
