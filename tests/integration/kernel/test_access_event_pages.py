"""Pages of stored events, asked for by a caller that may read one team's only."""

from __future__ import annotations

from contextlib import AsyncExitStack

from access_world import AccessWorld, kernel_of_two_teams


async def test_the_next_page_begins_where_no_event_of_others_says() -> None:
    """A filter that keeps only events of others is answered as one that keeps none; one's own pages join."""
    with kernel_of_two_teams() as running:
        async with AsyncExitStack() as stack:
            world = await AccessWorld(running=running).start(stack)
            ann = world.as_("ann")
            for hidden in ({"job_id": "b.one"}, {"host": "teamb"}, {"run_id": world.runs["b"]}):
                page = await ann("ListEvents", page_size=1, **hidden)
                assert (list(page.events), page.next_before_seq) == ([], 0), hidden
            of_run = await ann("ListEvents", run_id=world.runs["a"])
            assert of_run.events
            assert {event.run_id for event in of_run.events} == {world.runs["a"]}
            whole = await ann("ListEvents", page_size=500)
            assert not whole.next_before_seq
            seen, before = [], 1_000_000
            while before:
                page = await ann("ListEvents", page_size=2, before_seq=before)
                seen += [event.seq for event in page.events]
                before = page.next_before_seq
            assert seen == [event.seq for event in whole.events]
            assert len(seen) > 5
