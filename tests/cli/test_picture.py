"""How a plan looks: each device once, and once more for each group that takes turns."""

from dataclasses import replace

from localfusion.cli.picture import WIDTH, draw
from localfusion.placement import GIB, Plan, plan
from tests.placement.asking import SMALL_CPU, gpus, members, need


def lines(made: Plan) -> list[str]:
    return [line.strip() for line in draw(made)]


def test_each_card_shows_who_holds_what_and_what_is_free() -> None:
    made = plan([need("a", 30), need("b", 30), need("c", 5)], members("a", "b", "c"), gpus(80, 80))

    first, legend, second, other = lines(made)

    assert first.startswith("gpu0    AAAA")
    assert set(first.split()[1]) == {"A", "C", "·"}
    assert second.startswith("gpu1    BBBB")
    assert len(first.split()[1]) == len(second.split()[1]) == WIDTH
    assert legend.startswith("A a 3")
    assert "C c " in legend
    assert other.endswith("of 80.0 GiB")


def test_shares_are_drawn_to_scale() -> None:
    slot = plan([need("a", 30)], members("a"), gpus(80))["a"]

    bar = lines(plan([need("a", 30)], members("a"), gpus(80)))[0].split()[1]

    assert bar.count("A") == round(slot.bytes / (80 * GIB) * WIDTH)


def test_idle_cards_take_one_line() -> None:
    made = plan([need("a", 5)], members("a"), gpus(80, 80, 80))

    assert [line.split()[0] for line in lines(made)] == ["gpu0", "A", "idle:"]
    assert lines(made)[-1] == "idle: gpu1, gpu2"


def test_turns_are_two_pictures_with_the_sleepers_in_small_letters() -> None:
    needs = [need("a", 10), need("b", 5), need("j", 12)]

    made = plan(needs, members("a", "b", judge="j"), gpus(24), ["phases"])

    panel, judge = "while the panel works:", "while the judge works:"
    drawn = lines(made)
    assert [line for line in drawn if line.endswith(":")] == [panel, judge]
    assert set(drawn[1].split()[1]) >= {"B", "C", "a"}
    assert set(drawn[4].split()[1]) >= {"A", "b", "c"}
    assert "a j asleep 1.3" in drawn[2]


def test_memory_of_other_programs_is_shown_as_taken() -> None:
    card = replace(gpus(24).gpus[0], free_bytes=18 * GIB)

    bar, legend = lines(plan([need("a", 5)], members("a"), replace(gpus(24), gpus=(card,))))

    assert bar.endswith("x" * (WIDTH // 4))
    assert legend.endswith("of 18.0 GiB, x others 6.0")


def test_machine_without_gpu_is_one_memory() -> None:
    made = plan([need("a", 1), need("j", 2)], members("a", judge="j"), SMALL_CPU)

    assert lines(made)[0].startswith("memory  A")
    assert "A j 8" in lines(made)[1]
