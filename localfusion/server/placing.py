"""From a chat request to the runs that answer it: which preset, which panel, alone or not. Pure."""

from dataclasses import replace

from localfusion.errors import RequestError
from localfusion.fusion.fusion import Fusion
from localfusion.server.fields import ChatRequest
from localfusion.server.section import unsupported, wrong
from localfusion.types import Request

DISABLED = "disabled"
"""Reason of an answer that is the judge's alone because the client switched fusion off."""


def place(fusion: Fusion, chat: ChatRequest, *, depth: int) -> ChatRequest:
    """Return the request with its preset, panel and judge decided.

    A preset's name always deliberates. A plain model's does where a plugin or a tool asks for it:
    then it judges and writes.

    Args:
        fusion: Knows presets and models.
        chat: As it came.
        depth: Of fusions that this request is part of; it starts no further one.

    Raises:
        RequestError: an unknown name, a fusion in a fusion, what belongs to single models.
    """
    name, _ = fusion.resolve(chat.request.model)
    is_preset = name in fusion.presets
    if depth and is_preset:
        raise RequestError(
            "a fusion cannot be part of another one; ask for a model by its own name",
            code="recursion_refused",
            param="model",
        )
    if is_preset:
        request = _of_preset(fusion, chat, name)
    else:
        request = _of_model(fusion, chat, name, may_fuse=not depth)
    _check_single(fusion, chat, request)
    return replace(chat, request=request)


def _of_preset(fusion: Fusion, chat: ChatRequest, name: str) -> Request:
    options = chat.options
    request = replace(chat.request, model=_base(fusion, chat) or name)
    return request if options.enabled else replace(request, alone=DISABLED)


def _of_model(fusion: Fusion, chat: ChatRequest, name: str, *, may_fuse: bool) -> Request:
    request, forms = chat.request, chat.forms
    options = forms.options
    names_panel = any((options.panel, options.analysis_models, options.preset))
    wants = forms.form in ("plugin", "tool") or names_panel
    plain = replace(request, changes={k: v for k, v in request.changes.items() if k == "deadline"})
    if not wants or not may_fuse:
        return plain
    if not options.enabled:
        return replace(plain, alone=DISABLED)
    if forms.is_forbidden:
        return plain
    changes = {"judge": name, **request.changes}
    fused = replace(request, model=_base(fusion, chat) or fusion.default_preset, changes=changes)
    decides = forms.form == "tool" and not forms.is_called
    can_decide = fusion.engines[name].facts.calls_tools
    return replace(fused, may_fuse=decides and can_decide)


def _base(fusion: Fusion, chat: ChatRequest) -> str | None:
    """Return the preset that the options name.

    Raises:
        RequestError: there is none of that name.
    """
    wanted = chat.options.preset
    if wanted is None or wanted in fusion.presets:
        return wanted
    known = ", ".join(fusion.presets)
    raise wrong("fusion.preset", f"names no preset of this server; it has {known}")


def _check_single(fusion: Fusion, chat: ChatRequest, request: Request) -> None:
    is_single = request.alone is not None or request.model not in fusion.presets
    if not is_single:
        wanted = str(request.changes.get("policy", fusion.presets[request.model].policy))
        is_single = wanted == "single"
    if is_single:
        return
    if chat.choices > 1:
        raise unsupported(
            "n", "may only be 1 for a fusion; send the request as often as you need answers"
        )
    if request.logprobs is not None:
        raise unsupported(
            "logprobs", "belong to one model, not to a fusion; leave it out or name a model"
        )
