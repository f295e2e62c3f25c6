"""Tags and data URIs as clients really send them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import ImageError
from neva.images import ImageSource, parse_data_uri, split_tags

PIXEL = base64.b64encode(b"pixels").decode()


@pytest.mark.parametrize(
    "label", ["image/png", "image/image/png", "text/plain", "", "IMAGE/JPEG;charset=x"]
)
def test_labels_do_not_matter(label: str) -> None:
    assert parse_data_uri(f"data:{label};base64,{PIXEL}") == b"pixels"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "data:",
        "data:image/png,abc",
        "data:image/png;base64",
        "data:image/png;base64,",
        f"data:image/png;base64,b'{PIXEL}'",
        f"data:image/png;base64,{PIXEL} ",
        f"data:image/png;base64,{PIXEL[:-1]}",
        f"data:image/png;base64,{PIXEL}é",
        f"http://example.com/{PIXEL}",
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_data_uri(uri)
    assert PIXEL not in str(caught.value)


def test_tags_split_text() -> None:
    text = f"""a<img src="data:x;base64,{PIXEL}" />b <IMG  SRC='cat.jpg'> c<img src="x"/>"""
    parts = split_tags(text)
    assert parts == [
        "a",
        ImageSource(f"data:x;base64,{PIXEL}"),
        "b ",
        ImageSource("cat.jpg"),
        " c",
        ImageSource("x"),
    ]
    assert parts[1].data() == b"pixels"  # type: ignore[union-attr]


def test_sources_know_what_they_are() -> None:
    asset = ImageSource("data:image/jpeg;asset_id,1234-ab")
    assert asset.asset_id == "1234-ab" and not asset.is_data
    assert ImageSource(f"data:image/png;base64,{PIXEL}").is_data
    assert not ImageSource("https://example.com/a.png").is_data
    assert split_tags('<img src="a?b=1&amp;c=2" />') == [ImageSource("a?b=1&c=2")]


@pytest.mark.parametrize(
    "text", ["", "no tag", "<img>", "<img src=x>", '<img src="x', "<imgsrc='x'>"]
)
def test_text_without_tags_stays(text: str) -> None:
    assert split_tags(text) == ([text] if text else [])


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="<"), min_size=1), st.binary(min_size=1)
        ),
        max_size=6,
    )
)
def test_round_trip(parts: list[str | bytes]) -> None:
    text, expected = "", []
    for part in parts:
        if isinstance(part, bytes):
            url = f"data:image/png;base64,{base64.b64encode(part).decode()}"
            text += f'<img src="{url}" />'
            expected.append(part)
        elif expected and isinstance(expected[-1], str):
            text += part
            expected[-1] += part
        else:
            text += part
            expected.append(part)
    got = [part.data() if isinstance(part, ImageSource) else part for part in split_tags(text)]
    assert got == expected


def test_many_open_tags_take_no_time() -> None:
    for text in ('<img src="' * 20_000, "<img " * 20_000, "<img src=" + " " * 200_000):
        assert split_tags(text)[0]
