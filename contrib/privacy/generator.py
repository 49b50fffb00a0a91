"""Secrets made up by the formats that their issuers publish: never real, the same for the same seed.

It imports nothing of any scanner. `KNOWN` are kinds that a scanner can be expected to have a rule for, because their
issuer documents the form or because the name beside them tells; `UNKNOWN` are kinds that no rule of ours is expected
to know, and that are reported apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from formats import (
    BEGIN,
    CLOSE,
    END,
    OPEN,
    Kind,
    Secret,
    basic,
    checked,
    discord,
    encoded,
    filled,
    jwt,
    kubernetes_secret,
    mapbox,
    pem,
    sentry_org,
    service_account,
    wif,
)

__all__ = ["KINDS", "KNOWN", "UNKNOWN", "secrets"]

AI = (
    Kind("openai legacy", ("sk-{an:20}T3BlbkFJ{an:20}",), names=("OPENAI_API_KEY",)),
    Kind(
        "openai project",
        ("sk-proj-{url:74}T3BlbkFJ{url:74}", "sk-proj-{url:58}T3BlbkFJ{url:58}", "sk-proj-{an:20}T3BlbkFJ{an:20}"),
        names=("OPENAI_API_KEY",),
    ),
    Kind("openai service", ("sk-svcacct-{url:74}T3BlbkFJ{url:74}",), names=("OPENAI_API_KEY",)),
    Kind("openai admin", ("sk-admin-{url:74}T3BlbkFJ{url:74}",), names=("OPENAI_ADMIN_KEY",)),
    Kind("anthropic", ("sk-ant-api03-{url:93}AA",), names=("ANTHROPIC_API_KEY", "CLAUDE_API_KEY")),
    Kind("anthropic admin", ("sk-ant-admin01-{url:93}AA",), names=("ANTHROPIC_ADMIN_KEY",)),
    Kind("anthropic oauth", ("sk-ant-oat01-{url:93}AA",), names=("CLAUDE_CODE_OAUTH_TOKEN",)),
    Kind("openrouter", ("sk-or-v1-{hex:64}",), names=("OPENROUTER_API_KEY",)),
    Kind("groq", ("gsk_{an:20}WGdyb3FY{an:24}",), names=("GROQ_API_KEY",)),
    Kind("google api key", ("AIza{url:35}",), names=("GEMINI_API_KEY", "GOOGLE_API_KEY", "FIREBASE_KEY")),
    Kind("hugging face", ("hf_{al:34}",), names=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
    Kind("replicate", ("r8_{an:37}",), names=("REPLICATE_API_TOKEN",)),
    Kind("perplexity", ("pplx-{an:48}",), names=("PERPLEXITY_API_KEY",)),
    Kind("xai", ("xai-{an:80}",), names=("XAI_API_KEY",)),
    Kind("cerebras", ("csk-{low:48}",), names=("CEREBRAS_API_KEY",)),
    Kind("nvidia", ("nvapi-{url:64}",), names=("NVIDIA_API_KEY", "NGC_API_KEY")),
    Kind("fireworks", ("fw_{an:24}",), names=("FIREWORKS_API_KEY",)),
    Kind("deepseek", ("sk-{hex:32}",), names=("DEEPSEEK_API_KEY", "DASHSCOPE_API_KEY")),
    Kind("together", ("tgp_v1_{url:43}",), names=("TOGETHER_API_KEY",)),
    Kind("mistral", ("{an:32}",), "named", ("MISTRAL_API_KEY",)),
    Kind("cohere", ("{an:40}",), "named", ("COHERE_API_KEY", "CO_API_KEY")),
    Kind("voyage", ("pa-{url:43}",), "named", ("VOYAGE_API_KEY",)),
    Kind("elevenlabs", ("sk_{hex:48}",), names=("ELEVENLABS_API_KEY",)),
    Kind("langsmith", ("lsv2_pt_{hex:32}_{hex:10}", "lsv2_sk_{hex:32}_{hex:10}"), names=("LANGSMITH_API_KEY",)),
    Kind("langfuse", ("sk-lf-{uuid}",), names=("LANGFUSE_SECRET_KEY",)),
    Kind("pinecone", ("pcsk_{an:5-6}_{an:63}",), names=("PINECONE_API_KEY",)),
    Kind("tavily", ("tvly-dev-{an:32}", "tvly-{an:32}"), names=("TAVILY_API_KEY",)),
    Kind("vercel ai gateway", ("vck_{an:56}",), names=("AI_GATEWAY_API_KEY",)),
    Kind("weights and biases", ("{hex:40}",), "named", ("WANDB_API_KEY",)),
    Kind("azure openai", ("{hex:32}",), "named", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY")),
)

CLOUDS = (
    Kind("aws access key id", ("AKIA{b32:16}", "ASIA{b32:16}"), names=("AWS_ACCESS_KEY_ID",)),
    Kind("aws secret key", ("{b64:40}",), "named", ("AWS_SECRET_ACCESS_KEY", "SECRET_ACCESS_KEY")),
    Kind("aws session token", ("IQoJb3JpZ2luX2Vj{b64:340}==",), "named", ("AWS_SESSION_TOKEN",)),
    Kind("aws bedrock key", (encoded("ABSK", "BedrockAPIKey-", 84),), names=("AWS_BEARER_TOKEN_BEDROCK",)),
    Kind("google oauth client", ("GOCSPX-{url:28}",), names=("GOOGLE_CLIENT_SECRET",)),
    Kind("google oauth access", ("ya29.a0{url:180}",), names=("ACCESS_TOKEN",)),
    Kind("google service account", (service_account,), "block"),
    Kind(
        "azure storage",
        ("AccountName={db}store;AccountKey=<<{b64:86}==>>;EndpointSuffix=core.windows.net",),
        "line",
    ),
    Kind(
        "azure service bus",
        ("Endpoint=sb://{db}.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=<<{b64:43}=>>",),
        "line",
    ),
    Kind("azure client secret", ("{an:3}8Q~{url:34}",), names=("AZURE_CLIENT_SECRET", "ARM_CLIENT_SECRET")),
    Kind("azure devops", ("{an:76}AZDO{an:4}",), names=("AZURE_DEVOPS_PAT", "SYSTEM_ACCESSTOKEN")),
    Kind("digitalocean", ("dop_v1_{hex:64}", "doo_v1_{hex:64}"), names=("DIGITALOCEAN_TOKEN",)),
    Kind("heroku", ("HRKU-AA{url:58}",), names=("HEROKU_API_KEY",)),
    Kind("heroku old", ("{uuid}",), "named", ("HEROKU_API_KEY",)),
    Kind("alibaba", ("LTAI{an:20}",), names=("ALIBABA_CLOUD_ACCESS_KEY_ID",)),
    Kind("cloudflare", ("cfut_{an:40}{hex:8}", "cfat_{an:40}{hex:8}"), names=("CLOUDFLARE_API_TOKEN",)),
    Kind("cloudflare old", ("{url:40}",), "named", ("CLOUDFLARE_API_TOKEN", "CF_API_TOKEN")),
    Kind("cloudflare origin", ("v1.0-{hex:24}-{hex:146}",), names=("CLOUDFLARE_ORIGIN_CA_KEY",)),
    Kind("hetzner", ("{an:64}",), "named", ("HCLOUD_TOKEN",)),
    Kind("flyio", ("fo1_{url:43}",), names=("FLY_API_TOKEN",)),
    Kind("doppler", ("dp.pt.{an:43}", "dp.st.prd.{an:43}"), names=("DOPPLER_TOKEN",)),
    Kind("vault", ("hvs.CAESI{url:90}", "hvs.{an:24}"), names=("VAULT_TOKEN",)),
    Kind("terraform cloud", ("{an:14}.atlasv1.{url:67}",), names=("TFE_TOKEN",)),
    Kind("pulumi", ("pul-{hex:40}",), names=("PULUMI_ACCESS_TOKEN",)),
    Kind("netlify", ("nfp_{an:36}",), names=("NETLIFY_AUTH_TOKEN",)),
    Kind("supabase", ("sbp_{hex:40}", "sb_secret_{url:22}_{url:8}"), names=("SUPABASE_ACCESS_TOKEN",)),
    Kind("planetscale", ("pscale_tkn_{url:43}", "pscale_pw_{url:43}"), names=("PLANETSCALE_SERVICE_TOKEN",)),
    Kind("databricks", ("dapi{hex:32}", "dapi{hex:32}-2"), names=("DATABRICKS_TOKEN",)),
    Kind("confluent", ("{b64:64}",), "named", ("CONFLUENT_CLOUD_API_SECRET", "KAFKA_API_SECRET")),
    Kind("tailscale", ("tskey-auth-k{an:11}CNTRL-{an:32}",), names=("TS_AUTHKEY", "TAILSCALE_AUTHKEY")),
    Kind("neon", ("napi_{low:64}",), names=("NEON_API_KEY",)),
)

CODE = (
    Kind("github classic", (checked("ghp_"),), names=("GITHUB_TOKEN", "GH_TOKEN")),
    Kind("github oauth", (checked("gho_"), checked("ghu_"), checked("ghs_")), names=("GITHUB_TOKEN",)),
    Kind("github fine grained", ("github_pat_{an:22}_{an:59}",), names=("GITHUB_PAT", "GITHUB_TOKEN")),
    Kind("gitlab", ("glpat-{url:20}",), names=("GITLAB_TOKEN", "CI_PUSH_TOKEN")),
    Kind("gitlab routable", ("glpat-{url:27}.01.{low:9}",), names=("GITLAB_TOKEN",)),
    Kind("gitlab runner", ("glrt-{url:20}", "gldt-{url:20}", "glptt-{hex:40}"), names=("RUNNER_TOKEN",)),
    Kind("bitbucket app password", ("ATBB{an:28}{HEX:8}",), names=("BITBUCKET_APP_PASSWORD",)),
    Kind("atlassian", ("ATATT3xFfGF0{url:171}={HEX:8}",), names=("JIRA_API_TOKEN", "ATLASSIAN_TOKEN")),
    Kind("circleci", ("CCIPAT_{an:22}_{hex:40}",), names=("CIRCLE_TOKEN",)),
    Kind("buildkite", ("bkua_{hex:40}",), names=("BUILDKITE_API_TOKEN",)),
    Kind("npm", (checked("npm_"),), names=("NPM_TOKEN", "NODE_AUTH_TOKEN")),
    Kind("pypi", ("pypi-AgEIcHlwaS5vcmc{url:150}",), names=("TWINE_PASSWORD", "PYPI_TOKEN")),
    Kind("rubygems", ("rubygems_{hex:48}",), names=("GEM_HOST_API_KEY",)),
    Kind("nuget", ("oy2{low:43}",), names=("NUGET_API_KEY",)),
    Kind("docker hub", ("dckr_pat_{url:27}",), names=("DOCKER_PASSWORD", "DOCKERHUB_TOKEN")),
    Kind("clojars", ("CLOJARS_{hex:60}",), names=("CLOJARS_PASSWORD",)),
    Kind("sonar", ("squ_{hex:40}", "sqp_{hex:40}"), names=("SONAR_TOKEN",)),
    Kind("artifactory", ("AKCp{an:69}", "cmVmdGtu{an:56}"), names=("ARTIFACTORY_API_KEY",)),
    Kind("sentry", (sentry_org, "sntryu_{hex:64}"), names=("SENTRY_AUTH_TOKEN",)),
    Kind("sourcegraph", ("sgp_{hex:16}_{hex:40}",), names=("SRC_ACCESS_TOKEN",)),
    Kind("postman", ("PMAK-{hex:24}-{hex:34}",), names=("POSTMAN_API_KEY",)),
    Kind("linear", ("lin_api_{an:40}",), names=("LINEAR_API_KEY",)),
    Kind("notion", ("ntn_{dig:11}{an:35}", "secret_{an:43}"), names=("NOTION_TOKEN", "NOTION_API_KEY")),
    Kind("airtable", ("pat{an:14}.{hex:64}",), names=("AIRTABLE_API_KEY", "AIRTABLE_PAT")),
    Kind("figma", ("figd_{url:40}",), names=("FIGMA_TOKEN",)),
    Kind("hubspot", ("pat-na1-{uuid}", "pat-eu1-{uuid}"), names=("HUBSPOT_ACCESS_TOKEN",)),
    Kind("typeform", ("tfp_{url:59}",), names=("TYPEFORM_TOKEN",)),
    Kind("grafana", ("glsa_{an:32}_{hex:8}", encoded("glc_", '{"o":"', 70)), names=("GRAFANA_TOKEN",)),
    Kind("new relic", ("NRAK-{up:27}",), names=("NEW_RELIC_API_KEY",)),
    Kind("datadog", ("{hex:32}", "{hex:40}"), "named", ("DD_API_KEY", "DATADOG_APP_KEY")),
    Kind("dynatrace", ("dt0c01.{b32:24}.{b32:64}",), names=("DT_API_TOKEN",)),
    Kind("snyk", ("{uuid}",), "named", ("SNYK_TOKEN",)),
    Kind("algolia", ("{hex:32}",), "named", ("ALGOLIA_ADMIN_KEY", "ALGOLIA_API_KEY")),
    Kind("okta", ("00{url:40}",), "named", ("OKTA_API_TOKEN",)),
)

MESSAGES = (
    Kind("slack bot", ("xoxb-{dig:12}-{dig:13}-{an:24}",), names=("SLACK_BOT_TOKEN",)),
    Kind("slack user", ("xoxp-{dig:12}-{dig:12}-{dig:13}-{hex:32}",), names=("SLACK_USER_TOKEN",)),
    Kind("slack app", ("xapp-1-A{up:10}-{dig:13}-{hex:64}",), names=("SLACK_APP_TOKEN",)),
    Kind(
        "slack webhook", ("https://hooks.slack.com/services/T{up:10}/B{up:10}/<<{an:24}>>",), names=("SLACK_WEBHOOK",)
    ),
    Kind("discord bot", (discord,), names=("DISCORD_TOKEN", "BOT_TOKEN")),
    Kind(
        "discord webhook", ("https://discord.com/api/webhooks/{dig:19}/<<{url:68}>>",), names=("DISCORD_WEBHOOK_URL",)
    ),
    Kind("telegram", ("{dig:9-10}:AA{url:33}",), names=("TELEGRAM_BOT_TOKEN", "TELEGRAM_TOKEN")),
    Kind("twilio key", ("SK{hex:32}",), names=("TWILIO_API_KEY",)),
    Kind("twilio token", ("{hex:32}",), "named", ("TWILIO_AUTH_TOKEN",)),
    Kind("sendgrid", ("SG.{url:22}.{url:43}",), names=("SENDGRID_API_KEY",)),
    Kind("mailgun", ("key-{hex:32}", "{hex:32}-{hex:8}-{hex:8}"), "named", ("MAILGUN_API_KEY",)),
    Kind("mailchimp", ("{hex:32}-us{dig:1-2}",), names=("MAILCHIMP_API_KEY",)),
    Kind("brevo", ("xkeysib-{hex:64}-{an:16}",), names=("BREVO_API_KEY",)),
    Kind("resend", ("re_{an:8}_{an:24}",), names=("RESEND_API_KEY",)),
    Kind("mapbox", (mapbox,), names=("MAPBOX_SECRET_TOKEN",)),
    Kind("facebook", ("EAA{an:160}",), names=("FB_PAGE_TOKEN", "FACEBOOK_ACCESS_TOKEN")),
    Kind("salesforce", ("00D{an:12}!{word:96}",), "named", ("SF_ACCESS_TOKEN",)),
)

PAYMENT = (
    Kind("stripe", ("sk_live_{an:24}", "sk_live_51{an:97}", "rk_live_51{an:97}"), names=("STRIPE_SECRET_KEY",)),
    Kind("stripe test", ("sk_test_{an:24}", "sk_test_51{an:97}"), names=("STRIPE_SECRET_KEY",)),
    Kind("stripe webhook", ("whsec_{an:32}",), names=("STRIPE_WEBHOOK_SECRET",)),
    Kind("square", ("EAAA{url:60}", "sq0csp-{url:43}"), names=("SQUARE_ACCESS_TOKEN",)),
    Kind("braintree", ("access_token$production${low:16}${hex:32}",), names=("BRAINTREE_ACCESS_TOKEN",)),
    Kind("plaid", ("access-production-{uuid}",), names=("PLAID_ACCESS_TOKEN",)),
    Kind("shopify", ("shpat_{hex:32}", "shpss_{hex:32}", "shpca_{hex:32}"), names=("SHOPIFY_ACCESS_TOKEN",)),
    Kind("flutterwave", ("FLWSECK_TEST-{hex:32}-X",), names=("FLW_SECRET_KEY",)),
    Kind("shippo", ("shippo_live_{hex:40}",), names=("SHIPPO_TOKEN",)),
    Kind("easypost", ("EZAK{hex:54}",), names=("EASYPOST_API_KEY",)),
    Kind("duffel", ("duffel_live_{url:43}",), names=("DUFFEL_ACCESS_TOKEN",)),
)

GENERIC = (
    Kind("jwt", (jwt,), names=("ACCESS_TOKEN", "ID_TOKEN", "JWT")),
    Kind(
        "rsa private key",
        (pem("RSA PRIVATE KEY", 600, b"\x30\x82\x04"), pem("PRIVATE KEY", 1200, b"\x30\x82")),
        "block",
    ),
    Kind("ec private key", (pem("EC PRIVATE KEY", 121, b"\x30\x77\x02\x01\x01"),), "block"),
    Kind("openssh private key", (pem("OPENSSH PRIVATE KEY", 250, b"openssh-key-v1\0"),), "block"),
    Kind("pgp private key", (pem("PGP PRIVATE KEY BLOCK", 700, b"\x95\x01"),), "block"),
    Kind("age key", ("AGE-SECRET-KEY-1{bech:58}",), names=("SOPS_AGE_KEY",)),
    Kind("postgres url", ("postgresql://{user}:<<{password:plain}>>@{host}:5432/{db}",), "line"),
    Kind("mysql url", ("mysql+pymysql://{user}:<<{password:quoted}>>@{host}/{db}",), "line"),
    Kind("mongodb url", ("mongodb+srv://{user}:<<{password:plain}>>@{db}.{low:6}.mongodb.net/{db}",), "line"),
    Kind(
        "redis url", ("redis://:<<{password:plain}>>@{host}:6379/0", "rediss://default:<<{an:36}>>@{host}:6380"), "line"
    ),
    Kind("amqp url", ("amqp://{user}:<<{password:plain}>>@{host}:5672/{db}",), "line"),
    Kind("url with password", ("https://{user}:<<{password:plain}>>@{host}/{db}.git",), "line"),
    Kind("jdbc", ("jdbc:postgresql://{host}:5432/{db}?user={user}&password=<<{password:plain}>>",), "line"),
    Kind("ado", ("Server={host};Database={db};User Id={user};Password=<<{password:plain}>>;Encrypt=True;",), "line"),
    Kind("basic header", (basic,), "line"),
    Kind("bearer header", ("Authorization: Bearer <<{url:48}>>", "Authorization: Bearer <<{hex:64}>>"), "line"),
    Kind("npmrc", ("//registry.{host}/:_authToken=<<{uuid}>>", "//npm.{host}/:_authToken=<<{an:40}>>"), "line"),
    Kind("password setting", ("{password:plain}",), "named", ("DB_PASSWORD", "POSTGRES_PASSWORD", "SMTP_PASSWORD")),
    Kind("secret setting", ("{hex:64}", "{an:48}"), "named", ("SECRET_KEY", "JWT_SECRET", "SESSION_SECRET")),
    Kind("django secret key", ("{django:50}",), "named", ("SECRET_KEY", "DJANGO_SECRET_KEY")),
    Kind("rails key base", ("{hex:128}",), "named", ("SECRET_KEY_BASE",)),
    Kind("base64 key", ("{b64:43}=",), "named", ("ENCRYPTION_KEY", "SIGNING_KEY", "FERNET_KEY")),
    Kind("client secret", ("{url:64}",), "named", ("AUTH0_CLIENT_SECRET", "OAUTH_CLIENT_SECRET", "CLIENT_SECRET")),
    Kind("own api key", ("{hex:40}", "{an:32}"), "named", ("INTERNAL_API_KEY", "SERVICE_TOKEN", "WEBHOOK_SECRET")),
    Kind("kubernetes secret", (kubernetes_secret,), "block"),
)

KNOWN: tuple[Kind, ...] = (*AI, *CLOUDS, *CODE, *MESSAGES, *PAYMENT, *GENERIC)
"""Kinds that rules are expected for."""


def _unknown(name: str, *shapes: str) -> Kind:
    return Kind(name, shapes, "line", known=False)


UNKNOWN: tuple[Kind, ...] = (
    _unknown("recovery words", "recovery phrase: <<{words:12}>>"),
    _unknown("one-time password seed", "otpauth://totp/{host}:{user}?secret=<<{b32:32}>>&issuer={db}"),
    _unknown("wireless network", "WIFI:T:WPA;S:{db}-guest;P:<<{password:plain}>>;;"),
    _unknown("product key", "<<{up:5}-{up:5}-{up:5}-{up:5}-{up:5}>>"),
    _unknown("crypt hash", "{user}:<<$6${an:16}${an:86}>>:19700:0:99999:7:::"),
    _unknown("backup codes", "<<{dig:4} {dig:4}\n{dig:4} {dig:4}\n{dig:4} {dig:4}>>"),
    _unknown("spoken password", "the password is <<{password:plain}>>", "das Passwort lautet <<{password:plain}>>"),
    _unknown("database client", "mysql -h {host} -u {user} -p<<{password:plain}>> {db}"),
    _unknown("ssh client", "sshpass -p '<<{password:plain}>>' ssh {user}@{host}"),
    _unknown("file share", "smbclient //{host}/{db} -U {user}%<<{password:plain}>>"),
    _unknown("pgpass", "{host}:5432:{db}:{user}:<<{password:plain}>>"),
    _unknown("session cookie", "Cookie: sessionid=<<{low:32}>>; theme=dark"),
    _unknown("cluster join", "kubeadm join {host}:6443 --token <<{low:6}.{low:16}>>"),
    _unknown("game developer", "<<RGAPI-{uuid}>>"),
    _unknown("key without a name", "<<{an:40}>>", "<<{b64:43}=>>"),
    Kind("wallet import format", (wif,), known=False),
    Kind("extended private key", ("xprv{b58:107}",), known=False),
)
"""Kinds that no rule of ours is expected to know."""

KINDS: tuple[Kind, ...] = (*KNOWN, *UNKNOWN)


def secrets(seed: int, each: int = 4) -> Iterator[Secret]:
    """`each` secrets of every kind, in the order of KINDS; the shapes and the names of a kind take turns."""
    for kind in KINDS:
        rng = random.Random(f"{seed}/{kind.name}")
        for number in range(each):
            shape = kind.shapes[number % len(kind.shapes)]
            made = shape(rng) if callable(shape) else filled(rng, shape)
            marked = made if OPEN in made else f"{OPEN}{made}{CLOSE}"
            yield Secret(kind, kind.names[number % len(kind.names)], f"{BEGIN}{marked}{END}")
