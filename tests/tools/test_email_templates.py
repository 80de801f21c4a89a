"""Texts of mails: made of HTML, of the designs every project has, and of a project's own templates."""

from __future__ import annotations

import pytest

from tests.tools.office import Office

pytestmark = [pytest.mark.promise("EML-01"), pytest.mark.usefixtures("unasked")]


async def test_html_alone_gets_a_text_that_says_the_same(office: Office) -> None:
    html = """<html><head><title>t</title><style>p { color: red }</style></head><body><h1>Offer &amp; price</h1>
      <p>See <a href="https://example.org/a?b=1&amp;c=2">our page</a>.<br>Yours</p>
      <ul><li>one</li><li>two</li></ul><div style="display:none">preheader</div></body></html>"""

    sent = await office.send(text=None, html=html)

    read = await office.call("get_email", email_id=sent["id"])
    assert read["text"] == ("Offer & price\n\nSee our page (https://example.org/a?b=1&c=2).\nYours\n\n- one\n- two")


async def test_a_design_that_every_project_has_is_filled_in_and_escaped(office: Office) -> None:
    variables = {
        "title": "Your <order>",
        "message": "Two lines:\n& done.",
        "button": "Look",
        "url": "https://x.test/?a&b",
    }
    sent = await office.send(subject=None, text=None, template="action", variables=variables)

    (row,) = await office.written()
    assert row["subject"] == "Your <order>"
    assert row["text"] == "Your <order>\n\nTwo lines:\n& done.\n\nLook: https://x.test/?a&b\n"
    assert "<h1" in row["html"]
    assert "Your &lt;order&gt;</h1>" in row["html"]
    assert "Two lines:<br>\n&amp; done." in row["html"]
    assert 'href="https://x.test/?a&amp;b"' in row["html"]
    assert "prefers-color-scheme: dark" in row["html"]
    named = await office.send(text=None, template="notice", subject="Mine", variables={"title": "T", "message": "M"})
    assert (await office.call("get_email", email_id=named["id"]))["subject"] == "Mine"
    assert sent["status"] == "queued"


async def test_a_template_of_the_project_comes_before_the_design_of_the_same_name(office: Office) -> None:
    saved = await office.call(
        "save_template", name="notice", subject="For {{ name }}", text="Dear {{name}}", html="<p>Dear {{ name }}</p>"
    )
    assert (saved["variables"], saved["has_html"]) == (["name"], True)
    await office.send(subject=None, text=None, template="notice", variables={"name": "Ada & <Bob>"})

    (row,) = await office.written()
    assert (row["subject"], row["text"], row["html"]) == (
        "For Ada & <Bob>",
        "Dear Ada & <Bob>",
        "<p>Dear Ada &amp; &lt;Bob&gt;</p>",
    )
    assert [one["name"] for one in (await office.call("list_templates"))["templates"]] == ["notice"]
    assert (await office.call("get_template", name="notice"))["text"] == "Dear {{name}}"
    await office.call("delete_template", name="notice")
    assert (await office.refused("get_template", name="notice")).code == "template_not_found"
    assert (await office.written())[0]["text"] == "Dear Ada & <Bob>"


async def test_values_that_a_template_lacks_or_does_not_take_are_named(office: Office) -> None:
    given = {"subject": None, "text": None, "template": "notice"}

    error = await office.refused(**given, variables={"title": "T", "colour": "red"})
    assert error.message == "The template needs message and does not take colour."
    assert error.hint == "Its variables are: title, message."
    assert error.details["arguments"] == [
        {"do": "give", "at": "variables.message"},
        {"do": "drop", "at": "variables.colour"},
    ]
    assert (await office.refused(**{**given, "template": "nothing"})).code == "template_not_found"
    assert "brings its own" in (await office.refused(template="notice")).message
    assert "needs a subject" in (await office.refused(text=None)).message
    assert "none is named" in (await office.refused(variables={"a": "b"})).message
    assert "subject" in (await office.refused(**given, variables={"title": "a\nb", "message": ""})).message
    assert await office.written() == []


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "\tJavaScript:alert(1)", "data:text/html,x", "x.test", "//x.test"]
)
async def test_a_template_makes_links_only_of_addresses_that_mail_may_lead_to(office: Office, url: str) -> None:
    given = {"title": "T", "message": "M", "button": "B", "url": url}
    error = await office.refused(subject=None, text=None, template="action", variables=given)
    assert (error.code, "makes a link of url" in error.message) == ("invalid_arguments", True)
    assert error.details["arguments"] == [{"do": "change", "at": "variables.url"}]

    html = "<p>{{ said }}</p><a href={{ link }}>A</a><img SRC = '{{ link }}'>"
    await office.call("save_template", name="own", subject="S", html=html)
    own = {"subject": None, "text": None, "template": "own"}
    assert "link" in (await office.refused(**own, variables={"said": "x", "link": url})).message
    assert await office.written() == []
    for leads in ("https://x.test", "mailto:ada@example.org"):
        await office.send(**own, variables={"said": url, "link": leads})
