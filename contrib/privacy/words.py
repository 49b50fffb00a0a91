"""Ordinary words, names, hosts, passwords and prose in many languages, drawn at random: what surrounds a secret."""

from __future__ import annotations

import random
import string

__all__ = ["PROSE", "host", "noun", "password", "phrase", "prose", "user", "uuid"]

NOUN_LIST = """
account archive basket billing bridge buffer camera canvas castle catalog channel circle client cluster coffee column
compass copper corner crystal desert dinner dragon driver engine falcon family filter forest garden ginger guitar hammer
harbor helmet hunter island jacket kernel kitchen ladder lantern lemon library magnet market matrix meadow memory mirror
monitor mountain museum needle notebook ocean office orange orchid packet palace panther parcel pencil pepper picture
pillow planet pocket portal puzzle rabbit record ribbon river rocket saddle sample scanner schedule shadow shelter
silver socket spider station stream summer sunset system tablet teacher temple ticket timber tractor tunnel turtle
valley velvet violin wagon warden window winter wizard worker yellow zebra
"""
FIRST_NAMES = (
    "anna ben carla david elena felix greta hugo ines jonas karim lena marta nils olga paul rosa sven tara yusuf"
)
LAST_NAMES = "almeida bauer costa dubois eriksen ferrari garcia hansen ivanov jansen kim lopez meyer novak rossi sato"
NOUNS, FIRST, LAST = NOUN_LIST.split(), FIRST_NAMES.split(), LAST_NAMES.split()
ZONES = ("internal", "example.com", "corp.example.net", "svc.cluster.local", "prod.example.org", "eu-west-1.example.io")


def noun(rng: random.Random) -> str:
    """One ordinary word."""
    return rng.choice(NOUNS)


def user(rng: random.Random) -> str:
    """An account name."""
    return rng.choice(
        [rng.choice(FIRST), f"{rng.choice(FIRST)}.{rng.choice(LAST)}", f"{noun(rng)}_app", "admin", "deploy"]
    )


def host(rng: random.Random) -> str:
    """The name or the address of a machine."""
    if rng.random() < 0.2:
        return f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return f"{noun(rng)}-{rng.randrange(1, 20)}.{rng.choice(ZONES)}"


def uuid(rng: random.Random) -> str:
    """A random UUID of version 4."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{rng.choice('89ab')}{digits[17:20]}-{digits[20:]}"


def phrase(rng: random.Random, count: int = 12) -> str:
    """Words in a row."""
    return " ".join(rng.choices(NOUNS, k=count))


def password(rng: random.Random, style: str) -> str:
    """A password as people and generators make them: words with digits and signs, or 16 to 24 random characters.

    `quoted` has a percent-encoded sign in it, as URLs need it; `plain` has no sign that a URL or a shell would read.
    """
    signs = {"plain": "-_.!~", "quoted": ["%40", "%23", "%21", "%2F"]}.get(style, "!@#$%&*-_+")
    if rng.random() < 0.5:
        word = noun(rng).capitalize()
        return f"{word}{rng.choice(signs)}{noun(rng)}{rng.randrange(10, 9999)}{rng.choice(signs)}"
    body = rng.choices(string.ascii_letters + string.digits, k=rng.randint(15, 23))
    body.insert(rng.randrange(1, len(body)), rng.choice(signs))
    return "".join(body)


PROSE: dict[str, tuple[str, ...]] = {
    "en": (
        "The deployment failed again last night and I cannot see why.",
        "Please explain what this does, step by step, and suggest a simpler form.",
        "We moved the {noun} service to the new cluster on Monday, and latency went up by {n} percent.",
        "Our team keeps the {noun} in one place, so that everybody finds it.",
        "It worked on my machine until I updated the {noun} package to version {n}.{n}.",
        "Could you write a short summary for the customers, in a friendly tone?",
        "The old {noun} had a cracked handle, yet nobody wanted to throw it away.",
    ),
    "de": (
        "Seit dem Update startet der Dienst {noun} nicht mehr, bitte hilf mir bei der Suche nach dem Fehler.",
        "Können Sie mir erklären, warum die Abfrage so lange dauert?",
        "Wir haben am Freitag {n} Änderungen ausgeliefert, und seitdem häufen sich die Beschwerden.",
        "Der Schlüssel zum Keller hängt neben der Tür, das Geheimnis guter Suppe ist die Brühe.",
        "Bitte schreibe eine freundliche Antwort an den Kunden und fasse die Punkte zusammen.",
    ),
    "fr": (
        "Depuis la mise à jour, le service {noun} ne démarre plus et je ne comprends pas pourquoi.",
        "Peux-tu expliquer cette erreur et proposer une correction plus simple ?",
        "Nous avons reçu {n} demandes cette semaine, surtout à propos de la facturation.",
        "La clé du succès, c'est la patience, disait ma grand-mère.",
    ),
    "es": (
        "El despliegue falló otra vez y no encuentro la causa en los registros.",
        "¿Puedes resumir este documento en {n} puntos y corregir la ortografía?",
        "La contraseña se cambia cada {n} días según la norma de la empresa.",
        "El equipo de {noun} terminó la migración el martes por la noche.",
    ),
    "pt": (
        "O serviço {noun} parou de responder depois da última atualização.",
        "Você pode explicar este código e sugerir testes?",
        "Recebemos {n} reclamações na semana passada sobre a entrega.",
    ),
    "it": (
        "Dopo l'aggiornamento il servizio {noun} non risponde più.",
        "Mi spieghi che cosa fa questa funzione e come renderla più veloce?",
        "La riunione è spostata alle {n}, portate i numeri del trimestre.",
    ),
    "pl": (
        "Po aktualizacji usługa {noun} nie odpowiada, a w logach nic nie widać.",
        "Wyjaśnij proszę, dlaczego to zapytanie trwa {n} sekund.",
    ),
    "tr": (
        "Güncellemeden sonra {noun} servisi yanıt vermiyor, nedenini bulamıyorum.",
        "Bu kodu açıklar mısın ve {n} maddede özetler misin?",
    ),
    "ru": (
        "После обновления сервис {noun} не отвечает, в журналах ничего нет.",
        "Объясни, пожалуйста, что делает этот код, и предложи {n} теста.",
    ),
    "ja": (
        "更新後に {noun} サービスが応答しなくなりました。原因を調べてください。",
        "このコードの動作を {n} 行で説明してください。",
    ),
    "zh": (
        "更新之后 {noun} 服务没有响应,请帮我看看日志。",
        "请解释这段代码,并给出 {n} 条建议。",
    ),
    "ko": ("업데이트 이후 {noun} 서비스가 응답하지 않습니다. 원인을 찾아 주세요.", "이 코드를 {n}줄로 설명해 주세요."),
    "ar": ("بعد التحديث لم تعد خدمة {noun} تستجيب، ما السبب؟", "اشرح هذا الكود في {n} نقاط من فضلك."),
    "hi": ("अपडेट के बाद {noun} सेवा उत्तर नहीं दे रही है।", "कृपया इस कोड को {n} बिंदुओं में समझाइए।"),
}
"""Sentences by language, with holes for a word and a number."""


def prose(rng: random.Random, sentences: int, language: str | None = None) -> str:
    """Sentences of one language in random order."""
    stock = PROSE[language or rng.choice(list(PROSE))]
    return " ".join(
        rng.choice(stock).replace("{noun}", noun(rng)).replace("{n}", str(rng.randrange(2, 99)))
        for _ in range(sentences)
    )
