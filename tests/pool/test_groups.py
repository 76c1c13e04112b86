"""Turns of groups: who comes in, when a group is swapped; decisions only, no engine, no clock."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from localfusion.pool.groups import LINGER, Call, Decision, GroupQueue

PANEL, JUDGE = frozenset("ab"), frozenset("j")


def two_groups() -> GroupQueue:
    return GroupQueue([PANEL, JUDGE])


def in_turn_of_judge(queue: GroupQueue) -> None:
    call = queue.enter("earlier", "j", 0)
    assert queue.decide(0).target == JUDGE
    queue.swapped(JUDGE)
    queue.end(call, 0)
    queue.close("earlier")


def test_without_groups_nobody_waits() -> None:
    queue = GroupQueue([])

    assert queue.enter("run", "a", 0).is_admitted
    assert queue.enter("run", "j", 0).is_admitted
    assert queue.decide(0) == Decision()


def test_first_group_has_the_first_turn() -> None:
    queue = two_groups()

    assert queue.enter("run", "a", 0).is_admitted
    assert not queue.enter("run", "j", 0).is_admitted


def test_model_in_every_group_never_waits() -> None:
    queue = GroupQueue([{"a", "x"}, {"j", "x"}])
    queue.enter("waits", "j", 0)

    assert queue.enter("run", "x", 0).is_admitted


def test_group_with_a_call_is_not_swapped() -> None:
    queue = two_groups()
    going = queue.enter("first", "a", 0)
    queue.enter("second", "j", 1)

    assert queue.decide(1) == Decision()
    queue.end(going, 5)
    queue.close("first")
    assert queue.decide(5) == Decision(target=JUDGE)


def test_run_between_two_calls_keeps_its_turn_for_a_while() -> None:
    queue = two_groups()
    queue.end(queue.enter("first", "a", 0), 5)
    queue.enter("second", "j", 1)

    assert queue.decide(5) == Decision(check_at=5 + LINGER)
    assert queue.enter("first", "b", 5.5).is_admitted
    assert queue.decide(5.5) == Decision()


def test_run_that_goes_on_in_another_group_gives_its_turn_up_at_once() -> None:
    queue = two_groups()
    queue.end(queue.enter("run", "a", 0), 5)

    queue.enter("run", "j", 5)

    assert queue.decide(5) == Decision(target=JUDGE)


def test_turn_is_closed_to_newcomers_once_somebody_waits_for_another_group() -> None:
    queue = two_groups()
    queue.enter("first", "a", 0)
    queue.enter("second", "j", 1)

    assert not queue.enter("third", "a", 2).is_admitted
    assert queue.enter("first", "b", 2).is_admitted


def test_newcomer_comes_in_after_all_when_the_other_group_is_given_up() -> None:
    queue = two_groups()
    queue.enter("first", "a", 0)
    gone = queue.enter("second", "j", 1)
    newcomer = queue.enter("third", "a", 2)

    queue.end(gone, 3)

    assert queue.decide(3).admitted == (newcomer,)


def test_all_who_wait_for_a_group_come_in_together() -> None:
    queue = two_groups()
    in_turn_of_judge(queue)
    calls = [queue.enter(run, "a", 1) for run in range(9)]

    assert queue.decide(1).target == PANEL
    assert queue.swapped(PANEL) == tuple(calls)


def test_nobody_comes_in_during_a_swap() -> None:
    queue = two_groups()
    queue.enter("run", "j", 0)
    assert queue.decide(0).target == JUDGE

    assert not queue.enter("other", "j", 0).is_admitted
    assert not queue.enter("other", "a", 0).is_admitted
    assert queue.decide(0) == Decision()


def test_two_runs_that_need_the_groups_in_opposite_order_both_end() -> None:
    queue = two_groups()
    first = queue.enter("first", "a", 0)
    second = queue.enter("second", "j", 0)
    queue.end(first, 1)
    first = queue.enter("first", "j", 1)

    assert queue.decide(1).target == JUDGE
    assert set(queue.swapped(JUDGE)) == {first, second}
    queue.end(second, 2)
    second = queue.enter("second", "a", 2)
    queue.end(first, 3)
    queue.close("first")
    assert queue.decide(3).target == PANEL
    assert queue.swapped(PANEL) == (second,)


def test_next_group_is_that_of_whoever_waits_longest() -> None:
    queue = GroupQueue(["a", "b", "c"])
    going = queue.enter("now", "a", 0)
    queue.enter("first", "c", 1)
    queue.enter("second", "b", 2)
    queue.enter("third", "b", 3)

    queue.end(going, 4)
    queue.close("now")

    assert queue.decide(4).target == frozenset("c")


def test_among_groups_with_the_model_the_one_with_most_of_the_run_is_chosen() -> None:
    queue = GroupQueue([{"x"}, {"a"}, {"a", "b"}])
    queue.enter("run", "a", 0)
    queue.enter("run", "b", 0)

    assert queue.decide(0).target == frozenset("ab")


def test_queue_shows_runs_in_order_with_what_they_wait_for() -> None:
    queue = two_groups()
    in_turn_of_judge(queue)
    queue.enter("going", "j", 9)
    queue.enter("first", "a", 10)
    queue.enter("second", "a", 11)
    queue.enter("first", "b", 12)
    queue.enter("first", "b", 12)

    shown = [(w.models, w.position, w.seconds) for w in queue.waiting(15)]

    assert shown == [(("a", "b"), 1, 5), (("a",), 2, 4)]


def test_new_groups_wait_for_the_calls_of_an_engine_that_must_go() -> None:
    queue = GroupQueue([])
    judging = queue.enter("run", "j", 0)
    queue.swapped(frozenset("abj"))

    queue.regroup([PANEL, JUDGE])

    assert queue.decide(0) == Decision()
    assert not queue.enter("other", "a", 0).is_admitted
    queue.end(judging, 1)
    assert queue.decide(1).target == PANEL
    assert queue.has_goal
    queue.swapped(PANEL)
    assert not queue.has_goal


def test_groups_that_become_one_need_nobody_to_end() -> None:
    queue = two_groups()
    queue.enter("run", "a", 0)
    waiting = queue.enter("other", "j", 0)

    queue.regroup([PANEL | JUDGE])

    assert queue.decide(0).target == PANEL | JUDGE
    assert queue.swapped(PANEL | JUDGE) == (waiting,)


def test_groups_that_change_during_a_swap_have_their_turn_after_it() -> None:
    queue = two_groups()
    waiting = queue.enter("run", "j", 0)
    assert queue.decide(0).target == JUDGE

    queue.regroup([PANEL | JUDGE])

    assert queue.decide(0) == Decision()
    assert queue.swapped(JUDGE) == ()
    assert queue.has_goal
    assert queue.decide(0).target == PANEL | JUDGE
    assert queue.swapped(PANEL | JUDGE) == (waiting,)


@dataclass
class Simulation:
    """Runs that come, call, wait and go, in simulated time; checks what the queue promises."""

    queue: GroupQueue
    swap_seconds: float
    swaps: int = 0
    going: dict[Call, Callable[[], None]] = field(default_factory=dict)
    began: dict[Call, int] = field(default_factory=dict)
    resident: frozenset[str] = frozenset()
    now: float = 0.0
    timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: "count[int]" = field(default_factory=count)

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.now + seconds, next(self.order), do))

    def run(self, stages: Sequence[tuple[frozenset[str], float, float]]) -> None:
        """Call the models of each stage at once for some seconds, pause, go on to the next."""
        me = object()

        def go(stage: int) -> None:
            if stage == len(stages):
                self.queue.close(me)
                return
            models, seconds, pause = stages[stage]
            left = set(models)

            def end(model: str, call: Call) -> None:
                self.queue.end(call, self.now)
                del self.going[call]
                left.discard(model)
                if not left:
                    self.at(pause, lambda: go(stage + 1))

            for model in models:
                call = self.queue.enter(me, model, self.now)
                self.began[call] = self.swaps

                def begin(model: str = model, call: Call = call) -> None:
                    self.at(seconds, lambda: end(model, call))

                self.going[call] = begin
                if call.is_admitted:
                    begin()

        go(0)

    def settle(self) -> None:
        decision = self.queue.decide(self.now)
        self.admit(decision.admitted)
        if decision.check_at is not None:
            assert decision.check_at > self.now
            self.at(decision.check_at - self.now, lambda: None)
        if decision.target is not None:
            target = decision.target
            self.swaps += 1
            evicted = self.resident - target
            assert not any(c.is_admitted and c.model in evicted for c in self.going)
            self.resident &= target
            self.at(self.swap_seconds, lambda: self.arrive(target))

    def arrive(self, target: frozenset[str]) -> None:
        self.resident = target
        self.admit(self.queue.swapped(target))

    def admit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            assert self.swaps - self.began[call] <= len(self.queue.groups)
            assert call.model in self.resident
            self.going[call]()

    def to_the_end(self) -> None:
        self.resident = self.queue.groups[0]
        while self.timers:
            self.now, _, do = heapq.heappop(self.timers)
            do()
            self.settle()


SECONDS = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])
MODELS = st.frozensets(st.sampled_from("abcd"), min_size=1)
STAGES = st.lists(st.tuples(MODELS, SECONDS, SECONDS), min_size=1, max_size=4)
GROUPS = st.lists(MODELS, min_size=1, max_size=4).map(
    lambda groups: [*groups, frozenset("abcd") - frozenset.union(*groups)]
)


@settings(max_examples=300, deadline=None)
@given(groups=GROUPS, runs=st.lists(st.tuples(SECONDS, STAGES), max_size=8), swap=SECONDS)
def test_every_run_ends_busy_groups_stay_and_waits_are_bounded(
    groups: list[frozenset[str]],
    runs: list[tuple[float, list[tuple[frozenset[str], float, float]]]],
    swap: float,
) -> None:
    simulation = Simulation(GroupQueue([g for g in groups if g]), swap)
    for arrival, stages in runs:
        simulation.at(arrival, lambda stages=stages: simulation.run(stages))  # type: ignore[misc]  # bound per run

    simulation.to_the_end()

    assert not simulation.going
    assert simulation.queue.waiting(simulation.now) == ()
