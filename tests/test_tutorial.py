"""The tutorial: its cells run, and the notebook beside it has the same cells, executed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT = DOCS / "tutorial.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    """``docs/execute.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("execute", DOCS / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(outputs: list[dict[str, Any]]) -> str:
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


def test_the_tutorial_runs_and_says_where_it_leaves_something_out(
    tool: Any,
    region_catalogue: Path,
    tiny_models: dict[str, dict[str, str]],
    threads: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cdscale.export import pictures

    monkeypatch.setattr(pictures, "DPI", 40)
    monkeypatch.setattr(tool, "DPI", 40)
    cells = tool.cells_of(SCRIPT.read_text(encoding="utf-8"))
    parameters = {
        "WORK": tmp_path, "CATALOGUE": str(region_catalogue), "SEED": 1, "SIZE": 256,
        "PERIOD": "2022-03..2022-06", "MODELS": tiny_models, "CLUSTER": threads,
        "DATA": str(tmp_path / "nowhere"),
    }  # fmt: skip

    outputs = tool.execute(cells, parameters, "tutorial.py")

    said = "\n".join(map(printed, outputs))
    assert said.count("no real data here") == 2
    assert re.search(r"in truth \d+\.\d\d km2 changed", said)
    assert {"change.zarr", "cube.zarr", "report.html"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    made = tool.notebook(cells, outputs)
    pictured = [o for c in made["cells"] for o in c.get("outputs", ()) if "data" in o]
    assert sum("image/png" in o["data"] for o in pictured) == 1
    assert any("text/html" in o["data"] for o in pictured)


def test_the_notebook_has_the_cells_of_the_script_and_what_they_said(tool: Any) -> None:
    cells = tool.cells_of(SCRIPT.read_text(encoding="utf-8"))
    text = SCRIPT.with_suffix(".ipynb").read_text(encoding="utf-8")
    made = json.loads(text)

    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert ["".join(cell["source"]) for cell in made["cells"]] == [cell.source for cell in cells]
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result"}
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    assert len(text) < 1_000_000


def test_cells_are_told_apart_and_a_cell_that_fails_stops_the_rest(tool: Any) -> None:
    text = (
        "# %% [markdown]\n# # Title\n#\n# words\n\n# %%\nx = 1\n\n# %% tags=['parameters']\ny = 2\n"
    )
    text += "# %%\nprint(x)\nx + y\n"
    cells = tool.cells_of(text)
    assert [(cell.kind, cell.source) for cell in cells] == [
        ("markdown", "# Title\n\nwords"), ("code", "x = 1"), ("code", "y = 2"),
        ("code", "print(x)\nx + y"),
    ]  # fmt: skip
    *_, last = tool.execute(cells, {"y": 40}, "made")
    assert [o["output_type"] for o in last] == ["stream", "execute_result"]
    assert last[1]["data"] == {"text/plain": ["41"]}
    with pytest.raises(ZeroDivisionError):
        tool.execute(tool.cells_of("# %%\n1 / 0\n"), {}, "made")
