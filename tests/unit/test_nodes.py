"""What providers and agents say of machines, and what it proves: notices, ends, orphans, orders lost on the way."""

from __future__ import annotations

from dsched.scheduler.core.effect import CallTerminate, TellStart, TellStop
from dsched.scheduler.core.message import Action, AgentHello, Group, RanksExited, Restarted, SetupBroke
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant
from tests.support.stage import Stage, offer, spec

CHEAP, DEAR = "us-east-1a", "us-west-2b"


def stage() -> Stage:
    return Stage(offer(CHEAP, 20.0), offer(DEAR, 30.0))


def test_a_notice_that_only_the_provider_told_proves_nothing_when_it_is_over() -> None:
    s = stage()
    s.run()
    (old,) = s.job().nodes
    s.notice(old, lead=120_000, by_node=False)
    s.hello(*s.launch())
    s.wait(120_000 + s.terms.proof_margin + 1)
    assert s.job().generation == 1  # the node has not heard of it and may work on
    s.kill(old)
    assert s.job().generation == 2


def test_a_notice_told_by_the_node_itself_cuts_its_lease() -> None:
    s = stage()
    s.run()
    (old,) = s.job().nodes
    s.notice(old, lead=120_000, by_node=False)
    s.notice(old, lead=120_000, by_node=True)
    s.hello(*s.launch())
    s.wait(120_000 + s.terms.proof_margin + 1)
    assert s.job().generation == 2


def test_a_machine_that_boots_for_nobody_goes_back_after_the_idle_time() -> None:
    s = stage()
    s.submit()
    s.launch()
    s.act("j1", Action.CANCEL)
    s.wait(s.terms.idle_keep)
    assert len(s.asked(CallTerminate)) == 1


def test_what_was_asked_of_strangers_is_forgotten_once_they_are_gone() -> None:
    s = stage()
    s.submit()
    (node,) = s.state.nodes.values()
    stranger = s.seen(node)
    s.refuse()
    s.list(stranger)
    assert list(s.state.asked) == [f"local:{stranger.ref}"]
    s.list()
    assert not s.state.asked


def test_the_rest_of_a_broken_gang_is_stopped_even_if_the_order_was_lost_with_the_daemon() -> None:
    s = stage()
    s.run(spec(gpus=16))
    first, second = s.job().nodes
    s.exit(1, nodes=[first])
    s.tell(Restarted())
    s.tell(AgentHello(node=second, running=(Group(job="j1", generation=1, state="running"),)))
    assert [(order.node, order.generation) for order in s.asked(TellStop)] == [(second, 1)]


def test_a_node_that_drains_by_itself_is_not_given_generation_after_generation() -> None:
    s = stage()
    s.run()
    (node,) = s.job().nodes
    for _ in range(5):  # its agent is ending and refuses whatever it is told to start
        s.tell(RanksExited(node=node, job="j1", generation=s.job().generation, exits={}, drained=True))
    assert s.job().generation == 1
    s.wait(s.terms.crash_wait)
    assert s.job().generation == 2


def test_protocol_exits_are_tried_again_whatever_the_spec_says_of_exit_codes() -> None:
    for code in (75, 76, 77):
        s = stage()
        s.run(spec(retry_on=(3,)))
        s.exit(code)
        assert s.job().state is JobState.STARTING, code
    s = stage()
    s.run(spec(retry_on=(3,)))
    s.exit(4)
    assert s.job().state is JobState.FAILED


def test_a_machine_seen_only_after_its_end_answers_its_launch() -> None:
    s = stage()
    s.submit()
    (node,) = s.state.nodes.values()
    s.list(s.seen(node, alive=False, by="interrupted", ended=s.now.market + 1_000))
    assert [intent.job for intent in s.state.intents.values() if intent.id == node.token] == []


def test_a_migrations_wish_ends_with_the_node_it_was_to_leave() -> None:
    s = stage()
    s.run()
    (old,) = s.job().nodes
    s.act("j1", Action.MIGRATE, to=(f"local/{DEAR}",))
    s.refuse()
    s.kill(old)
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + 21 * 60_000))
    s.offers(offer(CHEAP, 20.0), offer(DEAR, 30.0, free=0))
    s.wait(60_000)
    assert [s.state.nodes[n].pool.zone for n in s.job().next_nodes] == [CHEAP]


def test_an_agent_that_started_anew_has_lost_its_ranks_even_if_nobody_had_heard_of_them() -> None:
    s = stage()
    s.submit()
    (node,) = s.launch()
    s.tell(AgentHello(node=node, boot="first"))
    s.tell(AgentHello(node=node, boot="first"))
    assert len(s.asked(TellStart)) == 1  # the order was lost: the same generation again
    s.tell(AgentHello(node=node, boot="second"))
    assert (s.job().generation, len(s.asked(TellStart))) == (2, 1)


def test_a_lost_start_order_is_not_repeated_into_a_gang_that_has_broken_meanwhile() -> None:
    s = stage()
    s.submit(spec(gpus=16))
    first, second = s.launch()
    s.hello(first, second)
    s.tell(SetupBroke(node=second, job="j1", generation=1, command="pip", code=1))
    s.tell(AgentHello(node=first))  # the orders of its last session are gone
    assert s.job().generation == 1
    assert not s.state.nodes[first].running
    assert s.job().strikes == 1


def test_a_rank_whose_peer_was_refused_by_its_node_is_stopped_even_if_the_first_order_was_lost() -> None:
    s = stage()
    s.submit(spec(gpus=16))
    first, second = s.launch()
    s.hello(first, second)
    s.tell(RanksExited(node=second, job="j1", generation=1, exits={}, drained=True))  # it refuses to start anything
    s.tell(AgentHello(node=first, running=(Group(job="j1", generation=1, state="running"),)))
    assert [(order.node, order.generation) for order in s.asked(TellStop)] == [(first, 1)]


def test_a_gang_of_which_one_has_finished_works_on() -> None:
    s = stage()
    s.run(spec(gpus=16))
    first, second = s.job().nodes
    s.exit(0, nodes=[second])
    s.tell(AgentHello(node=first, running=(Group(job="j1", generation=1, state="running"),)))
    assert not s.asked(TellStop)


def test_a_machine_on_which_nothing_can_start_goes_back_and_the_job_is_tried_on_another() -> None:
    s = stage()
    s.run()
    (broken,) = s.job().nodes
    told = SetupBroke(node=broken, job="j1", generation=1, command="the node's directory", code=1, machine=True)
    s.tell(told)
    assert s.state.nodes[broken].leaving
    assert s.job().strikes == 1
    s.wait(s.terms.crash_wait)
    assert broken not in s.job().next_nodes
    s.tell(told)  # again, or late: it is not the job's machine any more
    s.hello(*s.launch())
    assert s.job().generation == 2
    assert broken not in s.job().nodes
