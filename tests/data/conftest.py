"""A byte-level tokenizer without merges, and a folder of small pictures."""

from pathlib import Path

import pytest
from made_pictures import SIZE, make_pictures
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from neva.data import Encoding, PreparedImages
from neva.data.stores import Folder
from neva.images import PixelRecipe
from neva.prompts import TEMPLATES


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    markers = ("<image>", "<|im_start|>", "<|im_end|>")
    made.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in markers])
    return made


@pytest.fixture(scope="session")
def encoding(tokenizer: Tokenizer) -> Encoding:
    return Encoding(
        TEMPLATES["chatml"], tokenizer, tokenizer.token_to_id("<image>"), 4, max_length=200
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    return folder


@pytest.fixture(scope="session")
def folder(pictures: Path) -> PreparedImages:
    return PreparedImages(Folder(pictures), PixelRecipe(SIZE))
