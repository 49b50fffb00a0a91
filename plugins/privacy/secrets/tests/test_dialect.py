"""A pattern in RE2's dialect says the same in Python's."""

from __future__ import annotations

import re

import pytest
from routerpool_secrets.dialect import to_python


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("(?i)abc", "aBc", "abd"),
        ("a(?i)b|c", "C", "AB"),
        ("a(?i)b|c", "aB", "Ab"),
        ("(a(?i)b)c", "aBc", "aBC"),
        ("(?i)a(?-i:B)c", "ABC", "aBd"),
        ("(?i)a(?-i:B)c", "aBC", "abc"),
        ("(?i:a(?-i)B)", "AB", "Ab"),
        (r"a\z", "a", "a\n"),
        ("a$", "a", "a\n"),
        ("(?m)a$", "a\nb", "ab"),
        ("[[:alnum:]_]+-", "aZ9_-", "é-"),
        ("[^]a]b", "xb", "]b"),
        ("[]a]b", "]b", "xb"),
        ("[a[&~|]!", "[!", "b!"),
        (r"\s", "\f", "\v"),
        (r"[^\s]", "\v", "\f"),
        (r"\S", "x", " "),
        (r"\pL+1", "ab1", "1"),
        (r"[\pL-]1", "-1", "11"),
        (r"(?P<name>a)\.", "a.", "ab"),
        (r"\(?x\)", "x)", "(x"),
        ("(?s).a", "\na", "a"),
    ],
)
def test_a_converted_pattern_fits_the_same_texts(pattern: str, fits: str, fits_not: str) -> None:
    converted = re.compile(to_python(pattern).encode())

    assert converted.search(fits.encode())
    assert not converted.search(fits_not.encode())


@pytest.mark.parametrize("pattern", [r"\p{Greek}", "(?U)a+", "[[:^alpha:]]", "a)"])
def test_what_has_no_counterpart_is_told(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"counterpart|closed"):
        to_python(pattern)
