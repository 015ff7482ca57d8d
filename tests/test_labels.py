"""Class files: whatever they hold, a label space within its ranges or one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.errors import DataError
from hvp.labels import LabelSpace, load_label_space

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
colours = st.lists(st.integers(0, 255), min_size=3, max_size=3)


@st.composite
def class_files(draw: st.DrawFn) -> dict[str, Any]:
    classes = draw(st.lists(names, min_size=1, max_size=40, unique=True))
    ids = draw(st.permutations(range(len(classes))))
    n_pairs = draw(st.integers(0, len(classes) // 2))
    return {
        "classes": [{"name": name, "color": draw(colours)} for name in classes],
        "flip_pairs": [[ids[2 * i], ids[2 * i + 1]] for i in range(n_pairs)],
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@QUICK
@given(content=class_files())
def test_a_valid_class_file_is_read_as_it_stands(content: dict[str, Any], tmp_path: Path) -> None:
    space = load_label_space(write(tmp_path, content))
    assert list(space.classes) == [entry["name"] for entry in content["classes"]]
    assert [list(colour) for colour in space.palette] == [e["color"] for e in content["classes"]]
    assert [list(pair) for pair in space.flip_pairs] == content["flip_pairs"]
    table = space.flip_table()
    assert sorted(table.tolist()) == list(range(256))
    assert (table[table] == range(256)).all()


wrong_numbers = st.one_of(
    st.booleans(),
    st.floats(),
    st.none(),
    st.text(max_size=3),
    st.integers(max_value=-1),
    st.integers(min_value=256),
    st.lists(st.integers(0, 3), max_size=3),
)


@QUICK
@given(content=class_files(), wrong=wrong_numbers, data=st.data())
def test_colours_and_ids_of_another_type_or_out_of_range_are_refused(
    content: dict[str, Any], wrong: Any, data: st.DataObject, tmp_path: Path
) -> None:
    places: list[tuple[list[Any], int]] = [
        (entry["color"], i) for entry in content["classes"] for i in range(3)
    ]
    places += [(pair, i) for pair in content["flip_pairs"] for i in range(2)]
    values, i = data.draw(st.sampled_from(places))
    values[i] = wrong
    with pytest.raises(DataError, match=r"classes"):
        load_label_space(write(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (3, "3, expected text"),
        (True, "True, expected text"),
        ("", "called ''"),
        (" ", "called ' '"),
        ("a\x1b[31m", r"called 'a\\x1b\[31m'"),
        ("a\nb", r"called 'a\\nb'"),
        ("road", "two classes called 'road'"),
    ],
)
def test_names_are_printable_and_distinct_texts(name: Any, reason: str, tmp_path: Path) -> None:
    classes = [{"name": "road", "color": [1, 2, 3]}, {"name": name, "color": [4, 5, 6]}]
    with pytest.raises(DataError, match=reason):
        load_label_space(write(tmp_path, {"classes": classes}))


@pytest.mark.parametrize("pairs", [[[0, 0]], [[0, 1], [1, 2]], [[0, 1], [0, 1]], [[0, 1], [1, 0]]])
def test_an_id_swaps_with_one_other(pairs: list[list[int]], tmp_path: Path) -> None:
    classes = [{"name": name, "color": [1, 2, 3]} for name in "abc"]
    with pytest.raises(DataError, match=r"flip_pairs name the id \d twice"):
        load_label_space(write(tmp_path, {"classes": classes, "flip_pairs": pairs}))


@pytest.mark.parametrize(("count", "valid"), [(0, False), (1, True), (255, True), (300, False)])
def test_ids_fit_in_a_byte(count: int, valid: bool, tmp_path: Path) -> None:
    path = write(tmp_path, {"classes": [{"name": f"c{i}", "color": [0, 0, i % 256]}
                                        for i in range(count)]})  # fmt: skip
    if valid:
        assert load_label_space(path).n_classes == count
        return
    with pytest.raises(DataError, match=f"{count} classes, expected 1 to 255"):
        load_label_space(path)


def test_a_mistyped_key_is_named_and_not_passed_over(tmp_path: Path) -> None:
    content = {"classes": [{"name": "a", "color": [1, 2, 3]}], "flip_pair": []}
    with pytest.raises(DataError, match=r"the unknown key 'flip_pair', expected classes"):
        load_label_space(write(tmp_path, content))
    with pytest.raises(DataError, match=r"classes: the unknown key 'id'"):
        load_label_space(write(tmp_path, {"classes": [{"id": 7, **content["classes"][0]}]}))


def test_label_spaces_made_in_code_keep_the_same_ranges() -> None:
    with pytest.raises(DataError, match="each from 0 to 255"):
        LabelSpace("x", ("a",), ((0, 0, 256),))
