from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from routerpool_pii import PII, numbers
from routerpool_pii.addresses import Reader
from routerpool_pii.rules import RULES

from routerpool import ConfigError, Level, PluginError, Privacy, Probe
from routerpool.testing import make_router
from routerpool.testing.scanner_contract import ScannerContract


class TestPII(ScannerContract):
    plugin = PII
    secrets = (
        ("write to anna.meyer@firma-mueller.de", "anna.meyer@firma-mueller.de"),
        ("transfer to DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00"),
        ("card 4111 1111 1111 1111 please", "4111 1111 1111 1111"),
    )


GOOD: dict[str, tuple[str, ...]] = {
    "email": ("anna.meyer@firma-mueller.de", "o'neil+news@mail.uni-köln.de", "x_1@sub.domain.co.uk"),
    "phone": ("+49 170 1234567", "+1 (415) 867-5309", "0044 20 7946 0958", "+33.1.42.68.53.00"),
    "us-phone": ("(415) 867-5309", "415-867-5309", "415.867.5309"),
    "phone-by-name": ("Telefon: 030 901820", "call me: 0171/1234567", "電話 03-1234-5678"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "mt84malt011000012345mtlcast001s"),
    "card": ("4111 1111 1111 1111", "378282246310005", "3782 822463 10005", "5555-5555-5555-4444"),
    "us-ssn": ("536-22-8726",),
    "us-ssn-by-name": ("my SSN is 536228726",),
    "de-tax-id": ("Steuer-ID 86 095 742 719", "IdNr. 65929970489"),
    "fr-nir": ("2 55 08 14 168 025 38", "255081416802538"),
    "es-dni": ("12345678Z", "12345678-Z"),
    "es-nie": ("X1234567L", "x-1234567-l"),
    "it-codice-fiscale": ("RSSMRA85T10A562S", "rccmnl83s18d969h"),
    "nl-bsn": ("BSN: 111222333",),
    "pl-pesel": ("PESEL 44051401359",),
    "be-national": ("85.07.30-033.28",),
    "be-national-by-name": ("rijksregisternummer 85073003328",),
    "se-personal": ("personnummer 811218-9876",),
    "se-personal-full": ("19811218-9876",),
    "fi-identity": ("131052-308T",),
    "no-national": ("fødselsnummer 151086 95088",),
    "dk-cpr": ("CPR-nr 211062-5629",),
    "ch-ahv": ("756.9217.0769.85", "7569217076985"),
    "at-insurance": ("SVNR 1237 010180",),
    "gb-insurance": ("AB 12 34 56 C",),
    "gb-insurance-by-name": ("national insurance AB123456C",),
    "gb-nhs": ("NHS 943 476 5919",),
    "ie-pps": ("PPS 6433435F", "ppsn 6433435OA"),
    "pt-nif": ("NIF 501964843",),
    "br-cpf": ("390.533.447-05",),
    "br-cpf-by-name": ("CPF 39053344705",),
    "in-aadhaar": ("2341 2341 2346",),
    "in-aadhaar-by-name": ("Aadhaar 234123412346",),
    "ca-sin": ("social insurance number 130 692 544",),
    "au-tax-file": ("TFN 123 456 782",),
    "za-identity": ("ID number 8001015009087",),
    "mx-curp": ("BOXW310820HNERXN09",),
    "kr-resident": ("850101-1234566",),
    "cn-resident": ("11010519491231002X",),
    "jp-my-number": ("マイナンバー 123456789018",),
    "tr-identity": ("T.C. kimlik 17291716060",),
}


def found(text: str, **config: Any) -> list[tuple[str, str]]:
    return [(match.rule, text[match.start : match.end]) for match in PII(PII.Config(**config)).find(text)]


CHECKED = sorted(
    GOOD.keys()
    - {"email", "phone", "us-phone", "phone-by-name", "dk-cpr", "us-ssn", "us-ssn-by-name"}
    - {"gb-insurance", "gb-insurance-by-name"}
)
"""Rules with a checksum: where one digit is another, the number is none."""


def test_every_rule_is_shown_by_an_example() -> None:
    assert {rule.name for rule in RULES} == set(GOOD)


@pytest.mark.parametrize("rule", GOOD)
def test_what_the_issuers_publish_as_an_example_is_found(rule: str) -> None:
    for example in GOOD[rule]:
        for text in (example, f"see: {example}.", f'{{"value": "{example}"}}', f"a\t{example}\nb"):
            assert rule in [name for name, _ in found(text)], text


@pytest.mark.parametrize("rule", CHECKED)
def test_a_number_with_one_other_digit_is_none(rule: str) -> None:
    for example in GOOD[rule]:
        place = max(at for at, letter in enumerate(example) if letter.isdigit())
        passed = 0
        for digit in set("0123456789") - {example[place]}:
            changed = example[:place] + digit + example[place + 1 :]
            passed += rule in [name for name, _ in found(changed)]
        assert passed == 0, example


@pytest.mark.parametrize("rule", [rule for rule in GOOD if rule.endswith("-by-name")])
def test_numbers_that_say_too_little_count_only_with_a_word_for_them_nearby(rule: str) -> None:
    for example in GOOD[rule]:
        number = "".join(letter for letter in example if letter.isdigit() or letter in " -/")
        letters = [word for word in example.split() if any(letter.isdigit() for letter in word)]
        alone = number.strip() if rule != "gb-insurance-by-name" else letters[0]
        assert rule not in [name for name, _ in found(alone)]
        assert rule not in [name for name, _ in found(alone + " " * 100 + example.split()[0])]


@pytest.mark.parametrize(
    "text",
    [
        "me@example.com, git@github.com:a/b.git, no-reply@firma.de, logo@2x.png",
        "commit 4111111111111111a, 0x4111111111111111, 4111111111111111.5, 41111111111111110000",
        "2026-02-24 09:01:40,391 request 536-22-87261 in 900-12-3456 of 000-12-3456 and 078-05-1120",
        "call (415) 555-0123 or 123-456-7890 or +999 12345678 or +11111111111",
        "uuid 12345678-1234-4abc-8def-123456789012, version 1.2.3.4, ip 192.168.100.200:8080",
        "DE00 3704 0044 0532 0130 00 and XX89370400440532013000 and DE8937040044053201300",
        "the hotel has 030901820 rooms",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_match_is_the_number_and_nothing_around_it() -> None:
    text = "IBAN: DE89 3704 0044 0532 0130 00, mail <anna@firma.de>; born RSSMRA85T10A562S."
    assert sorted(found(text)) == [
        ("email", "anna@firma.de"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("it-codice-fiscale", "RSSMRA85T10A562S"),
    ]


def test_a_number_ends_where_it_is_full_and_the_next_one_is_found_too() -> None:
    text = "DE89 3704 0044 0532 0130 00 is mine and GB82 WEST 1234 5698 7654 32 DE89370400440532013000 yours"
    assert [number for rule, number in found(text) if rule == "iban"] == [
        "DE89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
    ]
    text = "+1 415 867 5309 2026 and +49 170 1234567 20261120 and 0044 20 7946 0958"
    assert [number for rule, number in found(text) if rule == "phone"] == [
        "+1 415 867 5309",
        "+49 170 1234567",
        "0044 20 7946 0958",
    ]


def test_letters_that_grow_when_they_are_made_small_do_not_move_a_word_away() -> None:
    assert ("pl-pesel", "44051401359") in found("İ" * 500 + " PESEL 44051401359")


def test_classes_and_countries_choose_what_is_looked_for() -> None:
    text = "anna@firma.de DE89 3704 0044 0532 0130 00 536-22-8726 12345678Z"
    assert [rule for rule, _ in found(text, classes=["finance"])] == ["iban"]
    assert [rule for rule, _ in found(text, classes=["id"], countries=["ES"])] == ["es-dni"]
    with pytest.raises(ValueError, match="'XX' is no country"):
        PII.Config(countries=["XX"])
    with pytest.raises(ValueError, match="'mails' is no class"):
        PII.Config(classes=["mails"])


def test_actions_may_be_named_by_rule_and_by_class() -> None:
    scanner = PII(PII.Config(actions={"finance": "block", "email": "redact"}))
    assert (scanner.class_of("iban"), scanner.class_of("email")) == ("finance", "contact")
    with pytest.raises(ValueError, match="ibann"):
        PII(PII.Config(actions={"ibann": "block"}))


def test_findings_are_sensitive_and_the_scanner_is_required_unless_the_section_says_otherwise() -> None:
    assert PII.Config().level is Privacy.SENSITIVE
    assert PII.required


def test_luhn_refuses_what_is_all_one_digit() -> None:
    assert not numbers.luhn("0000 0000 0000 0000")


# Postal addresses, by Presidio


def opened(scanner: PII) -> None:
    async def open_and_close() -> None:
        async for _ in scanner.lifespan(router=None):
            pass

    asyncio.run(open_and_close())


def test_addresses_without_presidio_are_an_error_of_the_configuration_that_says_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("routerpool_pii.addresses.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'routerpool-pii\[presidio\]'"):
        make_router({"plugins": {"pii": {"addresses": "en_core_web_sm"}}}, plugins={"pii": PII})


def test_addresses_without_their_model_stop_the_start_and_nothing_is_taken_to_be_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = stand_ins({})
    monkeypatch.setattr("routerpool_pii.addresses.find_spec", modules.get)
    monkeypatch.setattr("routerpool_pii.addresses.import_module", modules.__getitem__)
    scanner = PII(PII.Config(addresses="unknown"))
    with pytest.raises(PluginError, match="no spaCy model 'unknown'"):
        opened(scanner)
    with pytest.raises(RuntimeError, match="not loaded"):
        list(scanner.find("742 Evergreen Terrace, Springfield"))
    reports = list(scanner.check(Probe()))
    assert [(report.level, report.cure) for report in reports] == [
        (Level.ERROR, "pip install 'routerpool-pii[presidio]', and install the spaCy model that `addresses` names")
    ]


def test_addresses_with_their_model_are_looked_for_beside_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = stand_ins({})
    monkeypatch.setattr("routerpool_pii.addresses.find_spec", modules.get)
    monkeypatch.setattr("routerpool_pii.addresses.import_module", modules.__getitem__)
    scanner = PII(PII.Config(addresses="known"))
    opened(scanner)
    assert scanner.status()["addresses"] == "known"
    assert [match.rule for match in scanner.find("anna@firma.de\n742 Evergreen Terrace, Springfield")] == [
        "email",
        "address",
    ]


def test_nothing_of_presidio_is_imported_unless_addresses_are_asked_for() -> None:
    opened(PII())
    assert "presidio_analyzer" not in sys.modules
    assert "spacy" not in sys.modules
    assert "addresses" not in PII().status()


class Analyzer:
    """Presidio's analyzer, as far as it is asked: it knows two places."""

    def __init__(self, **made_of: Any) -> None:
        assert made_of["registry"].recognizers == ["places"]

    def analyze(self, text: str, language: str, entities: list[str]) -> list[SimpleNamespace]:
        assert (language, entities) == ("en", ["LOCATION"])
        spans = [(text.find(place), len(place)) for place in ("Berlin", "Springfield")]
        return [SimpleNamespace(start=start, end=start + length) for start, length in spans if start >= 0]


def stand_ins(asked: dict[str, Any]) -> dict[str, ModuleType]:
    """Modules with the names of Presidio's, that note how they are used."""
    return {  # type: ignore[return-value]  # namespaces will do
        "spacy": SimpleNamespace(util=SimpleNamespace(is_package=lambda name: name == "known")),
        "tldextract": SimpleNamespace(tldextract=SimpleNamespace(), TLDExtract=lambda **how: asked.update(how)),
        "presidio_analyzer": SimpleNamespace(
            AnalyzerEngine=Analyzer, RecognizerRegistry=lambda recognizers: SimpleNamespace(recognizers=recognizers)
        ),
        "presidio_analyzer.nlp_engine": SimpleNamespace(SpacyNlpEngine=lambda models: models),
        "presidio_analyzer.predefined_recognizers": SimpleNamespace(SpacyRecognizer=lambda **how: "places"),
    }


def loaded(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], model: str = "known") -> Reader:
    modules = stand_ins(asked)
    monkeypatch.setattr("routerpool_pii.addresses.find_spec", modules.get)
    monkeypatch.setattr("routerpool_pii.addresses.import_module", modules.__getitem__)
    reader = Reader(model)
    reader.load()
    return reader


def test_an_address_is_a_place_with_a_number_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = loaded(monkeypatch, {})
    text = "Write to Hauptstr. 12, 10115 Berlin.\n12 of us met.\nSpringfield is nice."
    assert [text[match.start : match.end] for match in reader.find(text)] == ["12, 10115 Berlin"]


def test_presidio_is_kept_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    assert loaded(monkeypatch, asked).idle == ""
    assert asked == {"suffix_list_urls": (), "cache_dir": None}
    assert "no spaCy model 'unknown'" in loaded(monkeypatch, {}, "unknown").idle  # and none is downloaded


def test_a_long_text_is_read_in_pieces_without_losing_or_doubling_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = loaded(monkeypatch, {})
    address = "742 Evergreen Terrace, Springfield"
    for filler in (49_900, 49_980, 50_000, 50_100, 120_000):
        text = "x" * filler + "\n" + address + "\n" + "y" * 1000
        assert [text[match.start : match.end] for match in reader.find(text)] == [address]
