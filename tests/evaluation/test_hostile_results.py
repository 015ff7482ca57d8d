"""Results files that others may have written: what they hold, or one error, in bounded time."""

import json
import math
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.errors import ArtifactError
from hvp.evaluation.results import Evaluation, load_results, save_results
from tests.evaluation.test_evaluation_results import evaluation

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip


def places(value: Any, path: tuple = ()) -> list[tuple]:
    items = enumerate(value) if isinstance(value, list) else ()
    items = value.items() if isinstance(value, dict) else items
    return [path, *(found for key, item in items for found in places(item, (*path, key)))]


def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.getbasetemp() / "results"
    if not folder.exists():
        save_results(folder, evaluation())
        (folder / "good").write_text((folder / "results.json").read_text())
    return folder / "results.json", json.loads((folder / "good").read_text())


def arrays(found: Evaluation) -> list[np.ndarray]:
    return [
        *(c.values for r in found for c in (*r.curves, *r.class_curves)),
        *(c.clips for r in found for c in (*r.curves, *r.class_curves)),
        *(matrix for r in found for matrix in r.confusion.values()),
    ]  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_value_gives_results_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, content = stored(tmp_path_factory)
    candidates = [p for p in places(content) if p and "rows" not in p]
    *parents, last = data.draw(st.sampled_from(candidates))
    holder: Any = content
    for key in parents:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(JSON)
    else:
        del holder[last]
    path.write_text(json.dumps(content))
    try:
        found = load_results(path)
    except ArtifactError:
        return
    assert all(array.dtype in (np.float64, np.int64) for array in arrays(found))
    for result in found:
        result.window_rows(), result.point_rows(), list(result.step_rows())
        assert all(info.format(1.0) for info in result.measured)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["curves"][0]["values"].append(1.0), "expected equally many"),
        (lambda r: r["curves"][0].update(values=["1"] * 6), "str among the values"),
        (lambda r: r["curves"][0]["values"].__setitem__(0, math.nan), "expected null"),
        (lambda r: r["curves"][0]["values"].__setitem__(0, True), "bool among the values"),
        (lambda r: r["curves"][0]["clips"].__setitem__(0, -1), "negative"),
        (lambda r: r["curves"][0]["clips"].__setitem__(0, 1.5), "float among the counts"),
        (lambda r: r["curves"][0]["clips"].__setitem__(0, 10**400), "beyond 2|digits"),
        (lambda r: r["metrics"][0].update(decimals=10**9), "decimals=1000000000"),
        (lambda r: r["protocol"].update(horizon="6"), "horizon"),
        (lambda r: r.update(confusion={"model": [[1, 2], [3]]}), "expected equally many"),
    ],
    ids=range(10),
)
def test_wrong_numbers_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path, _ = save_results(tmp_path, evaluation())
    content = json.loads(path.read_text())
    change(content["results"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=message):
        load_results(path)


@pytest.mark.parametrize("n", [1_000_000, 4_000_000])
def test_a_million_values_are_read_or_refused_in_bounded_time_and_memory(
    tmp_path: Path, n: int
) -> None:
    path, _ = save_results(tmp_path, evaluation())
    content = json.loads(path.read_text())
    content["results"][0]["curves"][0].update(values=[0.5] * (n // 2), clips=[1] * (n // 2))
    path.write_text(json.dumps(content))
    began = time.process_time()
    if n == 1_000_000:
        assert load_results(path).results[0].curves[0].values.shape == (n // 2,)
    else:
        tracemalloc.start()
        with pytest.raises(ArtifactError, match=r"results\.json: .* more than"):
            load_results(path)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
        tracemalloc.stop()
    assert time.process_time() - began < 10
