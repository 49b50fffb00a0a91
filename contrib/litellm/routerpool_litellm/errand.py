"""One request of LiteLLM's from its arrival to its record: what was asked, our plan for it, and how far that came.

It travels in LiteLLM's own metadata of the request, since that is all that LiteLLM carries from hook to hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from attrs import define, field

from routerpool import Answer, Assignment, Caller, ChatRequest, Failure, FailureKind, Handover, RequestError, Usage
from routerpool.engine import Served
from routerpool.privacy import may_see
from routerpool.wire import loads
from routerpool_litellm.asked import asked_of, caller_of, headers_of, request_of
from routerpool_litellm.deployments import Deployment
from routerpool_litellm.home import Residence, home
from routerpool_litellm.host import Refused, all_metadata, metadata_of

__all__ = ["Errand", "carry", "errand_of", "permitted"]

KEY = "routerpool"
"""Where an errand stands in LiteLLM's metadata."""


@define(eq=False)
class Errand:
    """A request and its plan. No field of it is ever logged: LiteLLM's loggers see its bare name."""

    asked: Mapping[str, Any] = field(repr=False)
    hints: Any = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)
    caller: Caller
    stream: bool = False
    routed: bool = False
    """Whether LiteLLM is to choose whom our plan says, and not by itself."""
    group: str = ""
    residence: Residence | None = field(default=None, repr=False)
    handover: Handover | None = field(default=None, repr=False)
    given: bool = False
    """Whether LiteLLM is asking the plan's candidate now, for all we know."""
    refusal: RequestError | None = field(default=None, repr=False)
    """Why this group may not answer, where asking again cannot help."""
    tried: list[str] = field(factory=list)
    served: Served | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The errand of a request that has just come."""
        return cls(asked_of(data), data.get("router"), headers_of(data), caller_of(data), bool(data.get("stream")))

    def __repr__(self) -> str:
        return "<Errand>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """The same: LiteLLM copies metadata before it retries, and it remains one request."""
        return self

    # Whom to ask

    async def choose(
        self, group: str, messages: Iterable[Any], offered: Iterable[Deployment]
    ) -> tuple[Deployment, ...]:
        """Those of the deployments that are the one candidate to ask now; RequestError where nobody may be asked.

        Called again, as LiteLLM does for each retry, it is the next candidate of the same plan, until that is over; for
        another group of LiteLLM's, a fallback, a plan of its own.
        """
        offered = tuple(offered)
        if self.refusal is not None and self.group == group:
            raise self.refusal
        if self.handover is not None and self.group == group:
            await self._move_on(offered)
            if chosen := self._chosen(offered):
                return chosen
            if self.handover is not None and self.handover.error is not None and not self.handover.expired:
                raise self.handover.error
        await self.give_up()
        self.residence = await home()
        request = self._request(group, messages)
        self.group, self.tried, self.refusal = group, [], None
        try:
            async with self.residence.visit() as router:
                with self.residence.deployments.offered(request, offered):
                    self.handover = await router.hand_over(request)
        except RequestError as error:
            self.handover = None
            if error.status < 500 and error.retry_after is None:
                self.refusal = error
            raise
        if chosen := self._chosen(offered):
            return chosen
        raise self._answered_already(self.handover.answer)

    def _answered_already(self, answer: Answer | None) -> Exception:
        """What a plugin's own answer becomes: LiteLLM takes none before a deployment is chosen, but a refusal."""
        told = loads(answer.body).get("error") if answer is not None else None
        if answer is not None and answer.status >= 400 and isinstance(told, dict):
            return Refused(answer.status, told)
        return RequestError("not_implemented", "a plugin answers this request itself, which LiteLLM has no place for")

    def _request(self, group: str, messages: Iterable[Any]) -> ChatRequest:
        assert self.residence is not None
        told = {"hints": self.hints, "headers": self.headers, "caller": self.caller, "stream": self.stream}
        return request_of(self.residence.router, group, self.asked, messages, **told)

    async def _move_on(self, offered: Sequence[Deployment]) -> None:
        """Leave behind who was asked without a word of how it went, and whom LiteLLM has benched meanwhile."""
        if self.given:
            await self.failed(Failure(kind=FailureKind.SERVER, message="LiteLLM asks anew, and does not say why"))
        while self.handover is not None and self.handover.candidate is not None and not self._chosen(offered):
            unasked = Failure(kind=FailureKind.UNAVAILABLE, message="LiteLLM does not offer it now", retry_after=0.0)
            await self.failed(unasked)

    def _chosen(self, offered: Iterable[Deployment]) -> tuple[Deployment, ...]:
        candidate = self.handover.candidate if self.handover else None
        if candidate is None:
            return ()
        return tuple(deployment for deployment in offered if deployment.candidate.key == candidate.key)

    def assignment(self, deployment: Deployment) -> Assignment | None:
        """What to send to this deployment, where it is the one that the plan says."""
        assignment = self.handover.assignment if self.handover else None
        if assignment is None or assignment.candidate.key != deployment.candidate.key:
            return None
        self.given = True
        self._tell(assignment)
        return assignment

    def _tell(self, assignment: Assignment) -> None:
        assert self.handover is not None
        plan = self.handover.plan
        self.served = Served(
            request_id=plan.request.id,
            profile=plan.profile,
            candidate=assignment.candidate,
            attempts=assignment.attempt.number,
            tried=", ".join(self.tried),
        )

    # How it went

    async def failed(self, failure: Failure) -> None:
        """The candidate brought no answer."""
        self.given = False
        candidate = self.handover.candidate if self.handover else None
        if candidate is not None:
            self.tried.append(f"{candidate.key}:{failure.kind.value}")
            await self._report(failure)

    async def answered(self, usage: Usage | None) -> None:
        """The candidate has answered; `usage` is None where nobody has counted."""
        self.given = False
        await self._report(usage or Usage())

    async def give_up(self) -> None:
        """LiteLLM asks nobody else of this plan."""
        self.given = False
        await self._report(None)

    async def _report(self, told: Failure | Usage | None) -> None:
        residence, handover = self.residence, self.handover
        if residence is not None and handover is not None and handover.candidate is not None:
            try:
                await asyncio.shield(residence.router.report(handover, told))
            except RequestError:  # its time was up, or it is being reported already
                self.handover = None


def errand_of(data: Mapping[str, Any]) -> Errand | None:
    """The errand that a request of LiteLLM's carries."""
    return next((kept[KEY] for kept in all_metadata(data) if isinstance(kept.get(KEY), Errand)), None)


def carry(data: dict[str, Any]) -> Errand:
    """The errand that a request carries, given to it if it has none."""
    errand = errand_of(data)
    if errand is None:
        errand = Errand.of(data)
        bucket = metadata_of(data)
        bucket[KEY] = errand
        if not any(bucket is kept for kept in all_metadata(data)):
            data["metadata"] = bucket
    return errand


async def permitted(request: ChatRequest, residence: Residence, offered: Iterable[Deployment]) -> list[Deployment]:
    """Those of the deployments that may see a request; RequestError where none may."""
    router = residence.router
    privacy, allows = (await router.classify(request)).privacy, router.config.privacy.remote_allows
    kept = [d for d in offered if may_see(router.providers[d.candidate.provider], d.candidate, privacy, allows)]
    if not kept:
        raise RequestError("privacy_blocked", "no deployment may see a request of this privacy class")
    return kept
