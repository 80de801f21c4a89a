"""Whom a project may write to: suppressed addresses, contacts and audiences."""

from __future__ import annotations

import pytest

from tests.tools.office import TO, Office

pytestmark = [pytest.mark.promise("EML-01"), pytest.mark.usefixtures("unasked")]


async def test_nobody_is_written_to_again_who_bounced_or_complained_and_the_error_says_who_and_why(
    office: Office,
) -> None:
    await office.suppress("gone@example.org", "bounced")
    await office.suppress("angry@example.org", "complained")

    error = await office.refused(to=[*TO, "Gone <GONE@example.org>"], bcc=["angry@example.org"])
    assert (error.code, error.status) == ("recipient_suppressed", 409)
    assert error.message == (
        "This project may not write to angry@example.org (it complained about mail);"
        " gone@example.org (mail to it bounced)."
    )
    assert error.details["arguments"] == [
        {"do": "change", "at": "bcc", "without": ["angry@example.org"]},
        {"do": "change", "at": "to", "without": ["Gone <GONE@example.org>"]},
    ]
    listed = await office.call("list_suppressions", limit=1)
    assert [(one["email"], one["reason"]) for one in listed["suppressions"]] == [("angry@example.org", "complained")]
    rest = await office.call("list_suppressions", after=listed["more_after"])
    assert [one["email"] for one in rest["suppressions"]] == ["gone@example.org"]
    await office.call("lift_suppression", email="Gone@Example.org")
    await office.send(to=["gone@example.org"])
    assert (await office.refused("lift_suppression", email="gone@example.org")).code == "suppression_not_found"


async def test_contacts_are_added_changed_listed_and_leave_as_they_like(office: Office) -> None:
    ada = await office.call("upsert_contact", email="ADA@example.org", name="Ada", fields={"plan": "free", "a": "1"})
    again = await office.call("upsert_contact", email="ada@example.org", fields={"plan": "paid"})

    assert again["id"] == ada["id"]
    assert (again["email"], again["name"], again["fields"]) == ("ada@example.org", "Ada", {"plan": "paid", "a": "1"})
    bob = await office.call("upsert_contact", email="bob@example.org")
    left = await office.call("unsubscribe_contact", email="bob@example.org")
    assert (left["id"], left["subscribed"]) == (bob["id"], False)
    assert (await office.call("upsert_contact", email="bob@example.org", name="Bob"))["subscribed"] is False
    first = await office.call("list_contacts", limit=1)
    assert [one["email"] for one in first["contacts"]] == ["bob@example.org"]
    rest = await office.call("list_contacts", cursor=first["next_cursor"])
    assert [one["email"] for one in rest["contacts"]] == ["ada@example.org"]
    only = await office.call("list_contacts", subscribed=True)
    assert [one["email"] for one in only["contacts"]] == ["ada@example.org"]
    back = await office.call("subscribe_contact", email="bob@example.org")
    assert (back["subscribed"], back["unsubscribed_at"]) == (True, None)
    assert (await office.refused("unsubscribe_contact", email="nobody@example.org")).code == "contact_not_found"


async def test_mail_for_an_audience_goes_to_one_contact_who_has_not_left(office: Office) -> None:
    assert (await office.refused(audience=True)).code == "contact_not_found"
    await office.call("upsert_contact", email="ada@example.org")
    for arguments in ({"to": [*TO, "bob@x.org"]}, {"cc": ["bob@x.org"]}, {"bcc": ["bob@x.org"]}):
        assert "one contact at a time" in (await office.refused(audience=True, **arguments)).message
    sent = await office.send(audience=True, text="News. {{ unsubscribe_url }}")
    assert (await office.call("get_email", email_id=sent["id"]))["audience"] is True
    assert "only in mail for an audience" in (await office.refused(text="{{unsubscribe_url}}")).message
    await office.call("unsubscribe_contact", email="ada@example.org")
    assert (await office.refused(audience=True)).code == "contact_unsubscribed"
    assert (await office.send())["status"] == "queued"
