"""The command line of data sets and models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdscale.learn.data import DATASETS
from cdscale.models import list_cards
from tests.commands import INCOMPLETE, OK, Cli, refused


def test_data_sets_are_listed(cdscale: Cli) -> None:
    text = cdscale("data", "list").out
    assert [name for name in DATASETS if name not in text] == []
    told = json.loads(cdscale("data", "list", "--json").out)
    assert [known["name"] for known in told] == list(DATASETS)
    assert all(known["licence"] and known["citation"] for known in told)


@pytest.mark.parametrize("name", ["oscd", "quickbird"])
def test_a_miniature_is_whole_until_a_file_goes(cdscale: Cli, tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    assert "Simulated miniature" in cdscale("data", "miniature", name, root).out
    whole = cdscale("data", "check", name, root, "--deep")
    assert (whole.code, whole.err) == (OK, "")
    assert "a made-up miniature): whole" in whole.out
    lost = next(iter(sorted([*root.rglob("*.tif"), *root.rglob("*.bmp")])))
    lost.unlink()
    assert cdscale("data", "check", name, root).code == INCOMPLETE
    told = cdscale("data", "check", name, root, "--json")
    found = json.loads(told.out)
    assert (told.code, found["whole"], found["simulated"]) == (INCOMPLETE, False, True)
    assert any(lost.name in finding["path"] for finding in found["findings"])


def test_a_folder_that_is_not_there_is_not_whole(cdscale: Cli, tmp_path: Path) -> None:
    result = cdscale("data", "check", "oscd", tmp_path / "nowhere")
    assert result.code == INCOMPLETE
    assert "no such folder" in result.out


def test_unknown_names_list_the_known(cdscale: Cli, tmp_path: Path) -> None:
    for command in (["check", "osdc", tmp_path], ["download", "osdc"], ["miniature", "osdc", "x"]):
        refused(cdscale("data", *command), "unknown data set", "oscd", "'osdc'")
    refused(cdscale("models", "show", "urban"), "no such model", "change-s1s2-oscd", "got urban")


def test_a_miniature_never_goes_among_other_files(cdscale: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    refused(cdscale("data", "miniature", "oscd", tmp_path), "is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_how_a_data_set_is_had_is_a_script(cdscale: Cli, tmp_path: Path) -> None:
    lines = cdscale("data", "download", "oscd", "--to", tmp_path).out.splitlines()
    assert "CC BY-NC-SA" in lines[0]
    assert any(line.startswith("curl ") and "https://" in line for line in lines)
    assert sum("md5sum -c" in line for line in lines) == 3
    refused(cdscale("data", "download", "hrscd", "--to", tmp_path, "--fetch"), "nothing to fetch")


def test_models_are_listed_with_what_they_were_trained_on(cdscale: Cli) -> None:
    text = cdscale("models", "list").out
    assert [card.name for card in list_cards() if card.name not in text] == []
    assert "simulated scenes" in text
    told = json.loads(cdscale("models", "list", "--json").out)
    assert [card["name"] for card in told] == [card.name for card in list_cards()]


def test_a_card_is_shown_with_licence_limits_and_figures(cdscale: Cli) -> None:
    for card in list_cards():
        result = cdscale("models", "show", card.name)
        said = " ".join(result.out.split())
        assert (result.code, result.err) == (OK, "")
        assert card.family in said
        assert " ".join(card.limits[0].split()) in said
        assert ("SIMULATED" in said) == card.training.simulated
        assert "f1 0." in said
        assert json.loads(cdscale("models", "show", card.name, "--json").out)["name"] == card.name
