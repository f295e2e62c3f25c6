"""Nothing that judges the model, and nothing share-alike, is ever trained on."""

from pathlib import Path

import pytest
from zoo.sources import (
    NEVER_TRAINED_ON,
    OLD_PHOTOGRAPHS,
    SOURCES,
    TRAINING_LICENCES,
    source,
    table,
    training_sets,
)

ZOO = Path(__file__).parents[2] / "zoo"


def test_training_sources_have_open_licences_without_share_alike() -> None:
    for item in SOURCES:
        if item.use == "train":
            assert item.licence in TRAINING_LICENCES, item
            assert "SA" not in item.licence and "GPL" not in item.licence


def test_judges_are_not_training_sources() -> None:
    trained = {s.name for s in SOURCES if s.use == "train"}
    assert not trained & set(NEVER_TRAINED_ON)
    assert source("openmoji").use == "test"
    assert all(s.set_name not in ("openmoji", "emojione-v1") for s in training_sets())


def test_every_source_is_pinned_and_in_the_table() -> None:
    lines = "\n".join(table({"noto": 1769}))
    for item in SOURCES:
        assert item.version[0].isdigit()
        folded = item.kind == "font" or item.name.startswith(OLD_PHOTOGRAPHS)
        shown = f"| {item.name} | {item.version} |"
        assert (item.set_name.removeprefix("datasets-img-") if folded else shown) in lines
    assert "1,769" in lines


def test_only_the_train_split_of_easy_vqa_is_opened() -> None:
    for file in ZOO.glob("*.py"):
        text = file.read_text()
        assert "get_test_questions" not in text and "get_test_image_paths" not in text, file.name


def test_no_registry_host_is_written_down() -> None:
    for file in ZOO.glob("*.py"):
        text = file.read_text()
        for host in ("npm" + "js", "python" + "hosted", "pypi" + ".org", "hugging" + "face.co"):
            assert host not in text, file.name


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(KeyError, match="no-such-set"):
        source("no-such-set")
