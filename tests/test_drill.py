"""Short form of `make drill`: some damages of every kind of file, some kills of one stage."""

from pathlib import Path

from tests.drill.faults import damage_files
from tests.drill.kills import STRUCTURE, kill_and_go_on
from tests.drill.tally import Tally, judge


def test_no_damage_goes_unnoticed_or_ends_in_a_traceback(tmp_path: Path) -> None:
    tally = Tally()
    damage_files(tmp_path, seed=0, times=13, tally=tally)
    tally.show()
    assert len(tally.counts) >= 20
    assert not tally.bad, "\n".join(tally.examples)


def test_no_kill_changes_or_loses_anything(tmp_path: Path) -> None:
    tally = Tally()
    kill_and_go_on(tmp_path, seed=1, kills=3, tally=tally, command=STRUCTURE)
    tally.show()
    assert sum(count.total() for count in tally.counts.values()) == 3
    assert not tally.bad, "\n".join(tally.examples)


def test_the_drill_sees_what_goes_wrong(tmp_path: Path) -> None:
    """A reader that believes everything is silent, one without manners raw."""
    path = tmp_path / "file"
    path.write_bytes(b"damaged")
    assert judge(path.read_bytes, b"whole")[0] == "silent"
    assert judge(lambda: 1 / 0, b"whole")[0] == "raw"
    assert judge(path.read_bytes, b"whole", b"damaged")[0] == "detected"
