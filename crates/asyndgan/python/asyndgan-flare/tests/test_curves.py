from __future__ import annotations

from pathlib import Path

from asyndgan_flare.curves import Curves

HEADER = "round,generator/site-1,feedback_norm/site-1,generator/site-2,feedback_norm/site-2\n"


def test_rows_are_read_once_and_only_when_they_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    curves = Curves(path, ["north", "south"])
    assert list(curves.new_rows()) == []
    path.write_text(HEADER + "0,,1.5,,2\n1,0.25,1")
    assert list(curves.new_rows()) == [(0, {"feedback_norm/north": 1.5, "feedback_norm/south": 2.0})]
    assert list(curves.new_rows()) == []
    with path.open("a") as file:
        file.write(",0.5,3\n")
    values = {"generator/north": 0.25, "feedback_norm/north": 1.0, "generator/south": 0.5, "feedback_norm/south": 3.0}
    assert list(curves.new_rows()) == [(1, values)]


def test_a_run_that_resumes_repeats_no_round(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    curves = Curves(path, ["north", "south"])
    path.write_text(HEADER + "".join(f"{number},,1,,1\n" for number in range(5)))
    assert [number for number, _ in curves.new_rows()] == [0, 1, 2, 3, 4]
    # From the checkpoint after round 3.
    path.write_text(HEADER + "".join(f"{number},,1,,1\n" for number in range(3)))
    assert list(curves.new_rows()) == []
    with path.open("a") as file:
        file.writelines(f"{number},,2,,2\n" for number in range(3, 7))
    assert list(curves.new_rows()) == [(number, {"feedback_norm/north": 2.0, "feedback_norm/south": 2.0}) for number in (5, 6)]


def test_a_file_that_has_grown_beyond_the_last_row_again_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    curves = Curves(path, ["north", "south"])
    path.write_text(HEADER + "".join(f"{number},,1,,1\n" for number in range(3)))
    assert len(list(curves.new_rows())) == 3
    path.write_text(HEADER + "".join(f"{number},,1.25,,1.5\n" for number in range(9)))
    assert list(curves.new_rows()) == [(number, {"feedback_norm/north": 1.25, "feedback_norm/south": 1.5}) for number in range(3, 9)]
    assert list(curves.new_rows()) == []
