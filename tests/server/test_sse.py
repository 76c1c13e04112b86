"""SSE framing: whatever is framed comes out of a client as it went in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from localfusion.server import sse

VALUES = st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text()))


@given(VALUES)
def test_framed_object_is_read_back(value: dict[str, object]) -> None:
    frame = sse.data(value)

    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert json.loads(frame[6:-2]) == json.loads(
        json.dumps(value, ensure_ascii=False).encode(errors="replace")
    )


@given(VALUES)
def test_frame_is_one_line_however_a_client_splits_lines(value: dict[str, object]) -> None:
    assert sse.data(value).decode().splitlines()[1:] == [""]


def test_comment_is_skipped_by_clients() -> None:
    assert sse.comment("localfusion panel 2/3") == b": localfusion panel 2/3\n\n"
