"""Which numbers are real ones: the checksums and ranges that banks and states publish for theirs.

Each function takes what was matched, as it stands in the text, and says whether it can be such a number. None of them
asks anybody; a number that passes need not have been issued.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence

__all__ = ["IBAN_LENGTHS", "digits_of", "luhn", "plain"]

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country, as SWIFT's registry lists them."""


def plain(text: str) -> str:
    """The letters and digits of a number, in capitals."""
    return "".join(letter for letter in text if letter.isalnum()).upper()


def digits_of(text: str) -> list[int]:
    """The digits of a number."""
    return [ord(letter) - 48 for letter in text if "0" <= letter <= "9"]


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def _day(year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def luhn(text: str) -> bool:
    """The checksum of payment cards: every second digit from the right is doubled."""
    digits = digits_of(text)[::-1]
    total = sum(digits[::2]) + sum(2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return total % 10 == 0 and len(set(digits)) > 1


def card(text: str) -> bool:
    """A payment card: the issuers' first digits and lengths, and Luhn's checksum."""
    digits = "".join(letter for letter in text if letter.isdigit())
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    lengths: tuple[int, ...] = ()
    if digits[0] == "4":
        lengths = (13, 16, 19)
    elif 51 <= two <= 55 or 2221 <= four <= 2720 or four == 6011 or two == 65 or 644 <= three <= 649:
        lengths = (16,)
    elif two in {34, 37}:
        lengths = (15,)
    elif two in {36, 38, 39} or 300 <= three <= 305:
        lengths = (14, 16)
    elif 3528 <= four <= 3589 or two == 62:
        lengths = (16, 17, 18, 19)
    return len(digits) in lengths and luhn(digits)


def iban(text: str) -> bool:
    """An IBAN: the country's length, and 1 as the remainder modulo 97."""
    code = plain(text)
    if IBAN_LENGTHS.get(code[:2]) != len(code):
        return False
    return int("".join(str(int(letter, 36)) for letter in code[4:] + code[:4])) % 97 == 1


def us_ssn(text: str) -> bool:
    """A US social security number: areas, groups and serials that are never given out are refused."""
    number = plain(text)
    area, group, serial = number[:3], number[3:5], number[5:]
    if number in {"078051120", "219099999", "123456789"}:  # printed in advertisements
        return False
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def de_tax_id(text: str) -> bool:
    """A German tax id: among its first ten digits one stands two or three times; ISO 7064 modulo 11, 10."""
    digits = digits_of(text)
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if digits[0] == 0 or counts[-1] not in {2, 3} or counts[-2] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = 2 * ((digit + product) % 10 or 10) % 11
    return (11 - product) % 10 == digits[10]


def fr_nir(text: str) -> bool:
    """A French social security number: 97 less the remainder of its first thirteen digits; Corsica has letters."""
    number = plain(text)
    body = number[:13].replace("2A", "19", 1) if number[5:7] == "2A" else number[:13].replace("2B", "18", 1)
    month = int(number[3:5])
    return (
        body.isdigit()
        and (1 <= month <= 12 or 20 <= month <= 42 or month >= 50)
        and 97 - int(body) % 97 == int(number[13:])
    )


def es_id(text: str) -> bool:
    """A Spanish DNI or NIE: the letter for the remainder modulo 23."""
    number = plain(text)
    body = str("XYZ".find(number[0])) + number[1:-1] if number[0] in "XYZ" else number[:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(body) % 23] == number[-1]


ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def it_fiscal_code(text: str) -> bool:
    """An Italian codice fiscale: letters at odd and even places count differently; the last is the remainder."""
    code = plain(text)
    total = 0
    for place, letter in enumerate(code[:15]):
        value = int(letter) if letter.isdigit() else ord(letter) - 65
        total += value if place % 2 else ODD[value]
    return chr(65 + total % 26) == code[15]


def nl_bsn(text: str) -> bool:
    """A Dutch citizen service number: the eleven test, with the last digit taken away."""
    return _weighted(digits_of(text), (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and any(digits_of(text))


def pl_pesel(text: str) -> bool:
    """A Polish PESEL: a date whose month carries the century, and a weighted sum."""
    digits = digits_of(text)
    century, month = divmod(10 * digits[2] + digits[3], 20)
    year = {4: 1800, 0: 1900, 1: 2000, 2: 2100, 3: 2200}[century] + 10 * digits[0] + digits[1]
    if not _day(year, month, 10 * digits[4] + digits[5]):
        return False
    return (10 - _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == digits[10]


def be_national(text: str) -> bool:
    """A Belgian national number: 97 less the remainder of nine digits, with a 2 before them from 2000 on."""
    number = plain(text)
    month, day = int(number[2:4]), int(number[4:6])
    body, check = int(number[:9]), int(number[9:])
    return month <= 12 and day <= 31 and check in {97 - body % 97, 97 - (body + 2 * 10**9) % 97}


def _short_date(number: str) -> bool:
    """Whether six digits are year, month and day; leap years by the two digits."""
    return _day(2000 + int(number[:2]), int(number[2:4]), int(number[4:6]))


def se_personal(text: str) -> bool:
    """A Swedish personal number, also a coordination number (day and 60): a date, and Luhn over ten digits."""
    number = plain(text)[-10:]
    day = int(number[4:6])
    return _short_date(number[:4] + f"{day - 60 if day > 60 else day:02}") and luhn(number)


def fi_identity(text: str) -> bool:
    """A Finnish identity code: a date, a sign of the century, and a character for the remainder modulo 31."""
    number = text.upper()
    date = _day(2000 + int(number[4:6]), int(number[2:4]), int(number[:2]))
    return date and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number[:6] + number[7:10]) % 31] == number[10]


def no_national(text: str) -> bool:
    """A Norwegian national number, also a D-number (day and 40): a date, and two checks modulo 11."""
    digits = digits_of(text)
    day, month = 10 * (digits[0] % 4) + digits[1], 10 * digits[2] + digits[3]
    first = _weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return _day(2000, month, day) and first == 0 and second == 0


def dk_cpr(text: str) -> bool:
    """A Danish personal number: a date; its checksum is no longer kept."""
    number = plain(text)
    return _day(2000 + int(number[4:6]), int(number[2:4]), int(number[:2]))


def br_cpf(text: str) -> bool:
    """A Brazilian CPF: two digits, each a weighted sum modulo 11 of all before it."""
    digits = digits_of(text)
    first = _weighted(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == [first, second] and len(set(digits)) > 1


TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
TURNS = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def in_aadhaar(text: str) -> bool:
    """An Indian Aadhaar number: Verhoeff's checksum over the dihedral group."""
    state = 0
    for place, digit in enumerate(reversed(digits_of(text))):
        state = int(TIMES[state][int(TURNS[place % 8][digit])])
    return state == 0


def ch_ahv(text: str) -> bool:
    """A Swiss AHV number: an EAN of thirteen digits."""
    return _weighted(digits_of(text), (1, 3) * 6 + (1,)) % 10 == 0


def at_insurance(text: str) -> bool:
    """An Austrian insurance number: its fourth digit is a weighted sum modulo 11; a date at the end."""
    digits = digits_of(text)
    month = 10 * digits[6] + digits[7]
    return digits[3] == _weighted(digits, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 and 1 <= month <= 12 and digits[0] > 0


def gb_nhs(text: str) -> bool:
    """A British NHS number: 11 less a weighted sum modulo 11."""
    digits = digits_of(text)
    return _weighted(digits, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and len(set(digits)) > 1


def gb_insurance(text: str) -> bool:
    """A British national insurance number: pairs of letters that are never given out are refused."""
    return plain(text)[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def ie_pps(text: str) -> bool:
    """An Irish PPS number: a letter for the remainder modulo 23; a second one counts nine times, but for W, T and X."""
    number = plain(text)
    extra = 9 * "WABCDEFGHI".find(number[8]) if len(number) == 9 and number[8] not in "TX" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(_weighted(digits_of(number), range(8, 1, -1)) + extra) % 23] == number[7]


def pt_nif(text: str) -> bool:
    """A Portuguese tax number: a weighted sum modulo 11."""
    digits = digits_of(text)
    return (11 - _weighted(digits[:8], range(9, 1, -1)) % 11) % 11 % 10 == digits[8]


def au_tax_file(text: str) -> bool:
    """An Australian tax file number: a weighted sum modulo 11."""
    digits = digits_of(text)
    return _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0 and len(set(digits)) > 1


def za_identity(text: str) -> bool:
    """A South African identity number: a date, and Luhn's checksum."""
    return _short_date(plain(text)) and luhn(text)


def mx_curp(text: str) -> bool:
    """A Mexican CURP: a weighted sum of its letters modulo 10."""
    order = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    code = plain(text)
    total = sum(order.index(letter) * (18 - place) for place, letter in enumerate(code[:17]))
    return (10 - total % 10) % 10 == int(code[17])


def kr_resident(text: str) -> bool:
    """A Korean resident number: a date, and a weighted sum modulo 11."""
    digits = digits_of(text)
    check = (11 - _weighted(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    return _short_date(plain(text)) and check == digits[12]


def cn_resident(text: str) -> bool:
    """A Chinese resident number: a date, and a weighted sum modulo 11, in which X is ten."""
    number = plain(text)
    if not _day(int(number[6:10]), int(number[10:12]), int(number[12:14])):
        return False
    return (
        "10X98765432"[_weighted(digits_of(number[:17]), (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11]
        == number[17]
    )


def jp_my_number(text: str) -> bool:
    """A Japanese individual number: a weighted sum modulo 11."""
    digits = digits_of(text)
    rest = _weighted(digits, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == digits[11]


def tr_identity(text: str) -> bool:
    """A Turkish identity number: two digits made of sums of the others."""
    digits = digits_of(text)
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[0] > 0 and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10]
