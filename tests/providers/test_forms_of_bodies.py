"""What a body is by its first bytes."""

from __future__ import annotations

import pytest

from routerpool.providers.forms import Form, form_of, unwrapped

FORMS: dict[bytes, Form | None] = {
    b'{"a": 1}': Form.JSON,
    b"[]": Form.JSON,
    b"\xef\xbb\xbf{}": Form.JSON,
    b": wait\n\n: wait\r\n \t{}": Form.JSON,
    b"data: x": Form.EVENTS,
    b"data:x": Form.EVENTS,
    b": wait\n\ndata: {}": Form.EVENTS,
    b"event: ping\n": Form.EVENTS,
    b"id: 1\n": Form.EVENTS,
    b"retry: 9\r": Form.EVENTS,
    b"\xef\xbb\xbf\r\ndata: {": Form.EVENTS,
    b"<html>": Form.OTHER,
    b"database: down": Form.OTHER,
    b"data is here": Form.OTHER,
    b"OK": Form.OTHER,
    b"42": Form.OTHER,
    b'"text"': Form.OTHER,
    b"": None,
    b"\xef": None,
    b"\xef\xbb\xbf": None,
    b" \n": None,
    b": wait": None,
    b": wait\n\n": None,
    b"da": None,
    b"event": None,
}


@pytest.mark.parametrize("head", FORMS, ids=repr)
def test_a_body_shows_by_its_first_bytes_what_it_is(head: bytes) -> None:
    assert form_of(head) is FORMS[head]


@pytest.mark.parametrize("body", [body for body, form in FORMS.items() if form is not None], ids=repr)
def test_a_body_is_the_same_however_much_of_it_has_come(body: bytes) -> None:
    forms = [form_of(body[:length]) for length in range(len(body) + 1)]
    told = [form for form in forms if form is not None]

    assert told
    assert set(told) == {FORMS[body]}
    assert forms[: -len(told)] == [None] * (len(forms) - len(told))


def test_what_comes_before_a_body_is_left_out_and_nothing_else() -> None:
    for before in (b"", b"\xef\xbb\xbf", b": a\n\n: b\r\n", b" \n\t"):
        assert unwrapped(before + b'{"a": ": b\\n"}\n') == b'{"a": ": b\\n"}\n'
