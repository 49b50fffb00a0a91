"""What holds for one provider: its data file, its class, the user's section and the environment, laid over each other.

Each of them goes before the ones named earlier. `facts_of` joins the two that its author wrote, `settle` lays the
user's two over them. Both are pure: they read nothing but what they are given, and change nothing. What is wrong with a
setting is told in words; whoever asks decides whether it stops the start or leaves the provider idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from ssl import SSLContext
from typing import Any, ClassVar, Literal

from attrs import evolve, field, frozen
from multidict import CIMultiDict
from yarl import URL

from routerpool.privacy.guard import is_loopback, may_be_local
from routerpool.providers.connection import fits_header, unfit_header
from routerpool.providers.data import DataPolicy, ModelData, Params, ProviderData
from routerpool.providers.failures import ErrorForm
from routerpool.providers.surroundings import TRUST, Proxy, api_address, bare_key, proxy_for, trusted_authorities
from routerpool.refusals.resets import DEFAULT_SPECS, HeaderSpec
from routerpool.types import Model, Pool

__all__ = ["Declarations", "ProviderConfig", "Settings", "facts_of", "settle"]

SENT_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "routerpool"}
"""What every request says; whoever declares a header of the same name goes before it."""


@frozen(kw_only=True)
class ProviderConfig:
    """The section of an OpenAI-compatible provider; what is left out comes from the plugin."""

    base_url: str | None = field(default=None, metadata={"help": "address of the API, up to and with /v1"})
    api_key_env: str | None = field(default=None, metadata={"help": "environment variable that holds the key"})
    models: tuple[str | ModelData, ...] | None = field(
        default=None, metadata={"help": "only these models, by id or as mappings"}
    )
    local: bool | None = field(default=None, metadata={"help": "prompts stay on this machine or network"})
    free: bool | None = field(default=None, metadata={"help": "its models cost nothing on this account"})
    data_policy: DataPolicy | None = field(default=None, metadata={"help": "what the provider may do with prompts"})
    discover: Literal["roster", "all", "off"] | None = field(
        default=None,
        metadata={"help": "what its own list is for: to see who is left of the roster, all of it, or off"},
    )
    separate_account: bool = field(
        default=False, metadata={"help": "its key belongs to another account: no quota is shared with other instances"}
    )
    headers: dict[str, str] = field(factory=dict, metadata={"help": "more headers for every request"}, repr=False)
    trust_env: bool | None = field(
        default=None, metadata={"help": "use HTTPS_PROXY and NO_PROXY for it, instead of the general trust_env"}
    )
    ca_file: Path | None = field(
        default=None, metadata={"help": "certificates of authorities to trust beside the system's (PEM)"}
    )


class Declarations:
    """What a provider's class may say of it, beside a data file or instead of one.

    `data` names the YAML file beside the module; the others are named and meant as in that file (see `ProviderData`),
    but for `shared_quotas`, its `pools`. `models` are those that the file does not hold, `path` is where chat is posted
    below `base_url`. `address_variables` are asked for an address after `<NAME>_BASE_URL`. While another provider is
    here, one that is `named_only` is asked only by its model's name, or where a profile lists it.
    """

    data: ClassVar[str | None] = None
    title: str = ""
    base_url: str | None = None
    api_key_env: str | Sequence[str] = ()
    local: bool = False
    free: bool = False
    models: Sequence[Model | str] = ()
    headers: Mapping[str, str] = {}
    errors: Sequence[ErrorForm] = ()
    resets: Sequence[HeaderSpec] = ()
    params: Params = Params()
    shared_quotas: Sequence[Pool] = ()
    models_at: str | None = None
    path: str = "chat/completions"
    address_variables: Sequence[str] = ()
    named_only: bool = False


def facts_of(owner: Declarations, file: ProviderData) -> ProviderData:
    """What the author knows: the data file under what the class says, single words replaced and lists joined.

    The common spellings of resets come last, but for those that the author has told otherwise.
    """
    variables = owner.api_key_env or file.api_key_env
    resets = (*owner.resets, *file.resets)
    special = {spec.name for spec in resets}
    return evolve(
        file,
        title=owner.title or file.title,
        base_url=owner.base_url or file.base_url,
        api_key_env=(variables,) if isinstance(variables, str) else tuple(variables),
        local=owner.local or file.local,
        free=owner.free or file.free,
        headers={**file.headers, **owner.headers},
        errors=(*owner.errors, *file.errors),
        resets=(*resets, *(spec for spec in DEFAULT_SPECS if spec.name not in special)),
        params=owner.params if file.params == Params() else file.params,
        pools=(*owner.shared_quotas, *file.pools),
        models_at=owner.models_at or file.models_at,
    )


@frozen(kw_only=True)
class Settings:
    """What holds for one instance.

    `wrong` says why it cannot be made at all, `unfit` what of the environment cannot be used and leaves it idle. `key`
    is the first that its variables hold, from `key_from`; `headers` go with every request, and the key is not yet
    among them. `account` is whose quotas it draws on. `models` are those of the author, `named` those that the user or
    the environment names instead, None for no such word. `data_policy` is the user's word on it. `key_mended` says that
    something was around the key that is none of it. `proxy` is asked in its place, `spurned_proxy` would be if the
    environment were trusted; `tls` is what a `ca_file` makes.
    """

    base_url: str
    local: bool
    free: bool
    account: str
    key_variables: tuple[str, ...]
    headers: CIMultiDict[str] = field(repr=False)
    models: tuple[str | ModelData | Model, ...] = ()
    named: tuple[str | ModelData, ...] | None = None
    data_policy: DataPolicy | None = None
    key: str | None = field(default=None, repr=False)
    key_from: str | None = None
    key_mended: bool = False
    proxy: Proxy | None = None
    spurned_proxy: Proxy | None = None
    tls: SSLContext | None = field(default=None, repr=False)
    wrong: str | None = None
    unfit: str | None = None

    @property
    def way(self) -> dict[str, Any]:
        """How aiohttp gets there: by which proxy, and whose certificates it trusts."""
        return {"proxy": self.proxy.url if self.proxy else None, "ssl": self.tls or True}


def settle(
    facts: ProviderData,
    section: ProviderConfig,
    env: Mapping[str, str],
    *,
    account: str,
    models: Sequence[Model | str] = (),
    named: tuple[str, ...] = (),
    address: str | None = None,
    read: Callable[[str], str] = str,
) -> Settings:
    """What holds of an author's facts under a user's section and this environment.

    `account` is what the instance's account is called at its usual address; at another one of the section's it is
    another account. `models` are those of the class, `named` those that the environment names, `address` the variable
    that says where the provider is, and `read` takes its value, or raises a ValueError that says what is wrong.
    """
    base_url, wrong, unfit = _address(facts, section, env, address, read)
    headers = CIMultiDict(SENT_HEADERS)
    headers.update(facts.headers)
    headers.update(section.headers)
    variables = (section.api_key_env,) if section.api_key_env else facts.api_key_env
    keys = {variable: bare_key(env.get(variable, ""), variable) for variable in variables}
    key_from = next((variable for variable, key in keys.items() if key), None)
    key = keys[key_from] if key_from else None
    mended = key_from is not None and key != env[key_from].strip()
    if key is not None and not fits_header(key):
        unfit = f"{key_from} holds a character that no header can carry, such as a line break"
        key = key_from = None
    stranger = None if wrong or section.base_url is None or section.api_key_env else _stranger(facts, base_url)
    if key is not None and stranger is not None:
        cure = f"write `api_key_env: {key_from}` into its section if it is meant for it"
        unfit = f"{key_from} is not sent to {stranger}; {cure}"
        key = key_from = None
    trusted = section.trust_env if section.trust_env is not None else env.get(TRUST, "").lower() in ("1", "true")
    proxy = None if wrong else proxy_for(base_url, env)
    if trusted and proxy is not None and proxy.url is None:
        unfit = f"{proxy.variable} names no http:// or https:// proxy"
    tls = None
    if section.ca_file is not None:
        try:
            tls = trusted_authorities(section.ca_file)
        except ValueError as error:
            wrong = wrong or str(error)
    elsewhere = section.base_url and base_url != facts.base_url and not section.separate_account
    # What is local by nature is neither local nor free at a public address; who says himself that it is, is told so.
    here = wrong is not None or may_be_local(URL(base_url).host or "")
    return Settings(
        base_url=base_url,
        local=facts.local and here if section.local is None else section.local,
        free=facts.free and (here or not facts.local) if section.free is None else section.free,
        account=f"{account}@{URL(base_url).authority}" if elsewhere and not wrong else account,
        key_variables=variables,
        headers=headers,
        models=(*facts.models, *models),
        named=section.models if section.models is not None else named or None,
        data_policy=section.data_policy,
        key=key,
        key_from=key_from,
        key_mended=mended,
        proxy=proxy if trusted else None,
        spurned_proxy=None if trusted else proxy,
        tls=tls,
        wrong=wrong or unfit_header(headers),
        unfit=unfit,
    )


def _stranger(facts: ProviderData, base_url: str) -> str | None:
    """The host of an address where the vendor's own key has no business: not the vendor's, nor this machine."""
    own, host = URL(facts.base_url or "").host, URL(base_url).host
    if own is None or facts.local or host is None or host == own or is_loopback(host):
        return None
    return None if host.endswith("." + ".".join(own.rsplit(".", 2)[-2:])) else host


def _address(
    facts: ProviderData,
    section: ProviderConfig,
    env: Mapping[str, str],
    variable: str | None,
    read: Callable[[str], str],
) -> tuple[str, str | None, str | None]:
    """Where the API is, what is wrong with that, and what cannot be used of the variable that names another place."""
    base_url = facts.base_url or "" if section.base_url is None else api_address(section.base_url, facts.base_url)
    wrong = _wrong_address(base_url.rstrip("/"), section.local)
    if variable is None or section.base_url is not None:
        return base_url.rstrip("/"), wrong, None
    try:
        moved = api_address(read(env[variable]), facts.base_url)
        complaint = _wrong_address(moved, section.local)
    except ValueError as error:
        moved, complaint = "", str(error)
    return (
        (base_url.rstrip("/"), wrong, f"{variable} cannot be used: {complaint}") if complaint else (moved, wrong, None)
    )


def _wrong_address(base_url: str, local: bool | None) -> str | None:
    """What is wrong with an address, where the user claims that it is local or not; None where nothing is."""
    if not base_url:
        return "`base_url` is missing; add the address of the API, such as http://127.0.0.1:9000/v1"
    try:
        url = URL(base_url)
    except ValueError as error:
        return str(error)
    if url.scheme not in ("http", "https") or not url.host:
        cure = f"; write http://{base_url}" if "://" not in base_url else ""
        return f"`base_url` must be an http:// or https:// address, not {base_url!r}{cure}"
    if url.user or url.password or url.query_string:
        return "`base_url` must not hold credentials or a query; name the key by `api_key_env`"
    if "#" in base_url or any(sign.isspace() for sign in base_url):
        return "`base_url` must not hold a fragment (#) or blanks; write the address of the API up to and with /v1"
    if local and not may_be_local(url.host):
        return f"`local: true`, but {url.host} is a public address, or may be; a private request would leave the house"
    return None
