"""Members of a project and invitations."""

from __future__ import annotations

from tests.server.site.acts.world import P, Told, World, row


@row("invite_member", f"{P}/members/invite")
async def invite(world: World) -> Told:
    async with world.guest() as guest:
        return Told(world.me, str(await world.invite(guest)), world.one)


@row("resend_invitation", f"{P}/members/invitations/{{invitation_id:uuid}}/resend")
async def resend(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("members", f"members/invitations/{invitation}/resend")
        return Told(world.me, str(invitation), world.one)


@row("revoke_invitation", f"{P}/members/invitations/{{invitation_id:uuid}}/revoke")
async def take_back(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("members", f"members/invitations/{invitation}/revoke")
        return Told(world.me, str(invitation), world.one)


@row("invitation:accepted", "/invitations")
async def accept(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="accept")
        return Told(guest.user_id, str(invitation), world.one, "viewer")


@row("member:added", "/invitations")
async def join(world: World) -> Told:
    async with world.guest() as guest:
        await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="accept")
        return Told(guest.user_id, str(guest.user_id), world.one, "viewer")


@row("invitation:declined", "/invitations")
async def decline(world: World) -> Told:
    async with world.guest() as guest:
        invitation = await world.invite(guest)
        await world.form("/invitations", "/invitations", guest, decision="decline")
        return Told(guest.user_id, str(invitation), world.one)


@row("member:role", f"{P}/members/{{member_id:uuid}}/role")
async def change_a_role(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", f"members/{guest.user_id}/role", role="admin")
        return Told(world.me, str(guest.user_id), world.one, "admin (was viewer)")


@row("member:removed", f"{P}/members/{{member_id:uuid}}/remove")
async def remove(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", f"members/{guest.user_id}/remove")
        return Told(world.me, str(guest.user_id), world.one, "viewer")


@row("member:left", f"{P}/members/leave")
async def leave(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", "members/leave", guest)
        return Told(guest.user_id, str(guest.user_id), world.one, "viewer")


@row("project:transferred", f"{P}/members/transfer")
async def transfer(world: World) -> Told:
    async with world.guest() as guest:
        await world.join(guest)
        await world.form("members", "members/transfer", member=str(guest.user_id), name="One")
        return Told(world.me, str(world.one), world.one, str(guest.user_id))
