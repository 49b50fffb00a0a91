"""What personal data looks like: a pattern, a check, and where the form alone says too little, a word nearby.

Every pattern begins with a digit or a sign, of which texts have few, and looks back from there; every repetition is
bounded, and none begins within a run of its own characters. So all of them go through a text in linear time.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from attrs import field, frozen

from routerpool import Match
from routerpool_pii import numbers as n

__all__ = ["FORMS", "RULES", "Rule", "lowered", "regions", "surroundings"]

BEFORE, AFTER = 80, 30
"""Characters before and after a match in which a word may stand that says what it is."""

EDGE = r"[\w.+/=-]"
"""What does not stand right before a number: it would be part of something longer."""
END = r"(?![\w/=]|[.-]\w)"
"""And what does not stand right behind it."""

Check = Callable[[str], bool]


@frozen
class Rule:
    """One kind of personal data: `country` is empty for what is the same everywhere.

    `begin` tells from where on a match counts and `cut` how many of its characters are meant: a pattern may read on
    into the next word. `words` are those of which one must stand nearby, in small letters; `sign` is in every match.
    """

    name: str
    kind: str
    pattern: re.Pattern[str]
    check: Check
    words: tuple[str, ...] = ()
    begin: Callable[[str, int], int] = field(default=lambda _text, start: start, kw_only=True)
    cut: Callable[[str], int] = field(default=len, kw_only=True)
    country: str = field(default="", kw_only=True)
    sign: str = field(default="", kw_only=True)

    @property
    def by_form(self) -> bool:
        """Whether nothing but its form tells a match: no word, and no sign."""
        return not self.words and not self.sign

    def matches(self, text: str, lowered: str, regions: Iterable[tuple[int, int]], near: str) -> Iterator[Match]:
        """What this rule finds in these regions; `lowered` is the text in small letters, `near` what is around them."""
        named = sorted(place for word in self.words if word in near for place in _places(lowered, word))
        if self.words and not named:
            return
        for first, last in regions:
            if self.sign and text.find(self.sign, first, last) < 0:
                continue
            match = self.pattern.search(text, first, last)
            while match is not None:
                start = self.begin(text, match.start())
                end = start + self.cut(text[start : match.end()]) if start >= 0 else -1
                told = end > 0 and (not self.words or _within(named, start - BEFORE, end + AFTER))
                if told and self.check(text[start:end]):
                    yield Match(self.name, start, end)
                    match = self.pattern.search(text, end, last)
                else:
                    match = self.pattern.search(text, match.start() + 1, last)


def _places(lowered: str, word: str) -> Iterator[int]:
    """Where a word stands, not as part of a longer one; scripts without spaces between words are taken as they are."""
    at = lowered.find(word)
    while at >= 0:
        end = at + len(word)
        apart = not (at and lowered[at - 1].isalnum()) and not lowered[end : end + 1].isalpha()
        if apart or not word.isascii():
            yield at
        at = lowered.find(word, end)


def _within(places: Sequence[int], first: int, last: int) -> bool:
    at = bisect_left(places, first)
    return at < len(places) and places[at] < last


def lowered(text: str) -> str:
    """The text in small letters, of the same length: the few letters that would become two stay."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


DIGITS = re.compile(r"\d(?:(?:[ ()./-]{0,2}\d){5,40}|\d[A-Za-z]\d\d[A-Za-z]\d{3}[A-Za-z])")
"""What every rule's finding has in it, unless it has an @: six digits with little between, or the end of a codice
fiscale."""
MARGIN = 80
"""Characters around it in which the rest of the finding stands."""


def regions(text: str) -> list[tuple[int, int]]:
    """Where there may be something to find, so that most of most texts is looked at once only."""
    places = [match.span() for match in DIGITS.finditer(text)]
    at = text.find("@")
    while at >= 0:
        places.append((at, at + 1))
        at = text.find("@", at + 1)
    found: list[tuple[int, int]] = []
    for first, last in sorted(places):
        start, end = max(0, first - MARGIN), last + MARGIN
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def surroundings(lowered: str, regions: Iterable[tuple[int, int]]) -> str:
    """All that stands so near to these regions that it may say what a number in them is."""
    return "\n".join(lowered[max(0, first - 2 * BEFORE) : last + 2 * BEFORE] for first, last in regions)


RESERVED = re.compile(
    r"(?:^|[@.])(?:example\.(?:com|org|net)|(?:[\w-]+\.)*(?:example|test|invalid|localhost))$", re.IGNORECASE
)
ROBOTS = re.compile(r"^(?:git|no-?reply|noreply|donotreply|mailer-daemon)@", re.IGNORECASE)


def email(text: str) -> bool:
    """An address that may be somebody's: no domain that is reserved for examples, no account of a program."""
    return RESERVED.search(text) is None and ROBOTS.search(text) is None and not text.endswith(FILES)


FILES = (".png", ".jpg", ".svg", ".js", ".css", ".py", ".service", ".html")
"""What stands behind an @ in file names, and is no top-level domain."""

CALLING = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90
91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 237 238 239
240 241 242 243 244 245 246 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290
291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 380 381 382 383 385 386
387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 673 674
675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 850 852 853 855 856 880 886 960 961 962 963 964
965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
"""
CALLING_CODES = frozenset(CALLING.split())


def international(text: str) -> bool:
    """A telephone number with a country's code: 8 to 15 digits, as ITU's E.164 has it."""
    number = n.plain(text)
    coded = any(number[:length] in CALLING_CODES for length in (1, 2, 3))
    return coded and 8 <= len(number) <= 15 and len(set(number)) > 2


def _dialled(text: str) -> int:
    """How many characters of these are one telephone number: whole groups, up to 15 digits, 11 in North America."""
    digits = [at for at, letter in enumerate(text) if letter.isdigit()]
    start = 2 if text.startswith("00") else 0
    most = start + (11 if text[digits[start]] == "1" else 15)
    if len(digits) <= most:
        return len(text)
    groups = [at for before, at in pairwise(digits[: most + 1]) if at - before > 1]
    return digits[digits.index(groups[-1]) - 1] + 1 if groups else len(text)


def _accounted(text: str) -> int:
    """How many characters of these an IBAN of their country has, with what stands between."""
    length = n.IBAN_LENGTHS.get(text[:2].upper(), 0)
    places = [at for at, letter in enumerate(text) if letter.isalnum()]
    if not 0 < length <= len(places):
        return len(text)
    end = places[length - 1] + 1
    return end if not text[end : end + 1].isalnum() else len(text)


def abroad(text: str) -> bool:
    """A telephone number that is dialled with 00 before the country's code."""
    return international(text[2:])


def north_american(text: str) -> bool:
    """A number of the North American plan; 555-01xx is made for films."""
    number = n.plain(text)[-10:]
    area, exchange = number[:3], number[3:6]
    valid = area[0] >= "2" and exchange[0] >= "2" and area[1:] != "11" and exchange[1:] != "11"
    return valid and number[3:8] != "55501"


def national(text: str) -> bool:
    """A telephone number without a country's code: 7 to 13 digits, not all alike."""
    number = n.plain(text)
    return 7 <= len(number) <= 13 and len(set(number)) > 2


LOCAL_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+%-")


def _mailbox(text: str, at: int) -> int:
    """Where the name before an @ begins; -1 without one, or where it is longer than a name can be."""
    start = at
    while start > 0 and (text[start - 1] in LOCAL_PART or text[start - 1].isalpha()):
        start -= 1
        if at - start > 64:
            return -1
    return start if start < at else -1


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split("|")) if text else ()


def _number(
    name: str,
    kind: str,
    pattern: str,
    check: Check,
    words: str = "",
    *,
    before: str = "",
    back: int = 0,
    country: str = "",
    cut: Callable[[str], int] = len,
) -> Rule:
    """A number that begins with the digit `pattern` begins with, `back` characters of the form `before` earlier."""
    first, rest = (pattern[:2], pattern[2:]) if pattern[0] == "\\" else pattern.partition("]")[::2]
    first += "" if pattern[0] == "\\" else "]"
    before = f"(?i:{before})" if before else ""
    looked = (rf"(?<={before}{first})" if before else "") + rf"(?<!{EDGE}{before}{first})"
    compiled = re.compile(f"{first}{looked}(?i:{rest}){END}")
    return Rule(
        name, kind, compiled, check, _words(words), begin=lambda _text, start: start - back, cut=cut, country=country
    )


def _id(
    country: str, name: str, pattern: str, check: Check, words: str = "", *, before: str = "", back: int = 0
) -> Rule:
    name = f"{country.lower()}-{name}"
    return _number(name, "id", pattern, check, words, before=before, back=back, country=country)


MAIL = re.compile(r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[^\W\d_]{2,24}(?![\w-])")
CALLED = (
    "phone|telephone|tel|mobile|cell|call me|fax|whatsapp|telefon|telefonnummer|handy|mobil|rufnummer|téléphone|"
    "portable|teléfono|móvil|telefone|celular|telefono|cellulare|komórka|puhelin|телефон|電話|电话|手机|전화|هاتف"
)
CONTACTS = (
    Rule("email", "contact", MAIL, email, begin=_mailbox, sign="@"),
    Rule(
        "phone",
        "contact",
        re.compile(r"\+\d(?<![\w.+/=]\+\d)(?:[ ()./-]{0,2}\d){7,16}(?![\w=]|[.:]\d)"),
        international,
        cut=_dialled,
        sign="+",
    ),
    Rule(
        "phone",
        "contact",
        re.compile(r"00[1-9](?<![\w.+/=-]00[1-9])(?<!\d 00[1-9])(?:[ ()./-]{0,2}\d){7,16}(?![\w=]|[.:]\d)"),
        abroad,
        cut=_dialled,
        sign="00",
    ),
    Rule(
        "us-phone",
        "contact",
        re.compile(r"\(\d{3}\)(?<!\w\(\d{3}\)) ?\d{3}[ .-]\d{4}(?![\w=]|[.-]\d)"),
        north_american,
        sign="(",
    ),
    _number("us-phone", "contact", r"\d\d{2}[.-]\d{3}[.-]\d{4}", north_american),
    _number("phone-by-name", "contact", r"\d(?:[ ()./-]{0,2}\d){6,12}", national, CALLED),
)

FINANCE = (
    _number("iban", "finance", r"\d\d(?:[ -]?[A-Z0-9]){11,30}", n.iban, before="[A-Z]{2}", back=2, cut=_accounted),
    _number("card", "finance", r"\d\d{12,18}", n.card),
    _number("card", "finance", r"\d\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?", n.card),
    _number("card", "finance", r"\d\d{3}([ -])\d{6}\1\d{4,5}", n.card),
)

IDS = (
    _id("US", "ssn", r"\d\d{2}-\d{2}-\d{4}", n.us_ssn),
    _id("US", "ssn-by-name", r"\d(?:\d{8}|\d{2} \d{2} \d{4})", n.us_ssn, "ssn|social security"),
    _id("DE", "tax-id", r"\d\d ?\d{3} ?\d{3} ?\d{3}", n.de_tax_id,
        "steuer-id|steuerid|steueridentifikationsnummer|steuerliche identifikationsnummer|idnr|tin|tax id"),
    _id("FR", "nir", r"[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", n.fr_nir),
    _id("ES", "dni", r"\d\d{7}-?[A-HJ-NP-TV-Z]", n.es_id),
    _id("ES", "nie", r"\d\d{6}-?[A-HJ-NP-TV-Z]", n.es_id, before="[XYZ]", back=1),
    _id("ES", "nie", r"\d\d{6}-?[A-HJ-NP-TV-Z]", n.es_id, before="[XYZ]-", back=2),
    _id("IT", "codice-fiscale", r"\d\d[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", n.it_fiscal_code, before="[A-Z]{6}", back=6),
    _id("NL", "bsn", r"\d\d{3}[. ]?\d{2}[. ]?\d{3}", n.nl_bsn, "bsn|burgerservicenummer|sofinummer|sofi-nummer"),
    _id("PL", "pesel", r"\d\d{10}", n.pl_pesel, "pesel"),
    _id("BE", "national", r"\d\d\.\d{2}\.\d{2}-\d{3}\.\d{2}", n.be_national),
    _id("BE", "national-by-name", r"\d\d{10}", n.be_national,
        "rijksregisternummer|insz|niss|numéro national|numéro de registre national|national number"),
    _id("SE", "personal", r"\d\d{5}[-+]\d{4}", n.se_personal,
        "personnummer|samordningsnummer|personal identity number"),
    _id("SE", "personal-full", r"[12][90]\d{6}[-+]\d{4}", n.se_personal),
    _id("FI", "identity", r"\d\d{5}[-+A-FU-Y]\d{3}[\dA-FHJ-NPR-Y]", n.fi_identity),
    _id("NO", "national", r"\d\d{5} ?\d{5}", n.no_national,
        "fødselsnummer|fodselsnummer|personnummer|d-nummer|national identity number"),
    _id("DK", "cpr", r"\d\d{5}-?\d{4}", n.dk_cpr, "cpr|cpr-nummer|cpr-nr|personnummer"),
    _id("CH", "ahv", r"[7]56\.?\d{4}\.?\d{4}\.?\d{2}", n.ch_ahv),
    _id("AT", "insurance", r"\d\d{3} ?\d{6}", n.at_insurance,
        "svnr|sv-nummer|sozialversicherungsnummer|versicherungsnummer"),
    _id("GB", "insurance", r"\d\d \d{2} \d{2} [A-D]", n.gb_insurance,
        before="[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ", back=3),
    _id("GB", "insurance-by-name", r"\d\d{5} ?[A-D]", n.gb_insurance, "national insurance|nino|ni number|ni no",
        before="[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]", back=2),
    _id("GB", "nhs", r"\d\d{2}[ -]?\d{3}[ -]?\d{4}", n.gb_nhs, "nhs"),
    _id("IE", "pps", r"\d\d{6}[A-W][A-ITWX]?", n.ie_pps, "pps|ppsn|pps number"),
    _id("PT", "nif", r"[1-9]\d{2} ?\d{3} ?\d{3}", n.pt_nif, "nif|contribuinte|número de contribuinte"),
    _id("BR", "cpf", r"\d\d{2}\.\d{3}\.\d{3}-\d{2}", n.br_cpf),
    _id("BR", "cpf-by-name", r"\d\d{10}", n.br_cpf, "cpf"),
    _id("IN", "aadhaar", r"[2-9]\d{3} \d{4} \d{4}", n.in_aadhaar),
    _id("IN", "aadhaar-by-name", r"[2-9]\d{11}", n.in_aadhaar, "aadhaar|aadhar|uidai|uid|आधार"),
    _id("CA", "sin", r"[1-79]\d{2}[ -]?\d{3}[ -]?\d{3}", n.luhn, "sin|social insurance number|social insurance|nas"),
    _id("AU", "tax-file", r"\d\d{2} ?\d{3} ?\d{3}", n.au_tax_file, "tfn|tax file number"),
    _id("ZA", "identity", r"\d\d{12}", n.za_identity, "id number|identity number|sa id|id no"),
    _id("MX", "curp", r"\d\d{5}[HMX][A-Z]{5}[A-Z\d]\d", n.mx_curp, before="[A-Z][AEIOUX][A-Z]{2}", back=4),
    _id("KR", "resident", r"\d\d{5}-[1-8]\d{6}", n.kr_resident),
    _id("CN", "resident", r"[1-9]\d{5}(?:18|19|20)\d{9}[\dX]", n.cn_resident),
    _id("JP", "my-number", r"\d\d{3}[ -]?\d{4}[ -]?\d{4}", n.jp_my_number,
        "my number|mynumber|individual number|マイナンバー|個人番号"),
    _id("TR", "identity", r"[1-9]\d{10}", n.tr_identity, "kimlik|t.c.|tckn|tc kimlik|turkish id"),
)  # fmt: skip

RULES: Sequence[Rule] = (*CONTACTS, *FINANCE, *IDS)
"""All rules. Two of one name are two ways to write the same."""


def _any_of(rules: Iterable[Rule]) -> re.Pattern[str]:
    """One pattern that is found wherever one of these is; they begin with a digit each."""
    apart: list[str] = []
    behind: list[str] = []
    for rule in rules:
        source = rule.pattern.pattern.replace("([ -])", "[ -]").replace("\\1", "[ -]")
        first = source[: source.index("]") + 1] if source[0] == "[" else source[:2]
        rest = f"(?<={first}){source[len(first) :]}"
        (apart if source.startswith(f"{first}(?<!{EDGE}{first})") else behind).append(rest)
    return re.compile(rf"\d(?:(?<!{EDGE}\d)(?:{'|'.join(apart)})|{'|'.join(behind)})")


FORMS = _any_of(rule for rule in RULES if rule.by_form)
"""Whether any rule without words or signs can match at all: asked once, since the answer is mostly no."""
