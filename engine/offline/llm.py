"""LLM: many prompts at once, in vLLM's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from tqdm.auto import tqdm

from engine.errors import BadRequest
from engine.offline import requests
from engine.offline.options import ModelOptions, engine_config
from engine.offline.outputs import RequestOutput
from engine.offline.sampling_params import MODEL_OWN, SamplingParams
from engine.offline.shared import EngineLease
from engine.types import Completion, Json, Request

Params = SamplingParams | Sequence[SamplingParams] | None
GivenPrompt = str | list[int] | Mapping[str, Any]


class LLM:
    """A model for scripts that ask many prompts at once. All of them are one batch, as far as memory has room.

    model: "demo", a folder or a hub id. options: ModelOptions. The model is loaded when this is made; objects with the
    same model and options share it. Raises EngineError where it cannot be loaded.

    >>> llm = LLM("demo", max_model_len=2048)
    >>> hello, thanks = llm.generate(["Hello", "Thanks"], SamplingParams(temperature=0, max_tokens=4), use_tqdm=False)
    >>> hello.outputs[0].finish_reason, len(hello.outputs[0].token_ids)
    ('length', 4)
    >>> from engine.assets import asset
    >>> picture = {"type": "image", "image": asset("samples") / "circle.png"}
    >>> question = {"type": "text", "text": "What is in this image?"}
    >>> greedy = SamplingParams(temperature=0, max_tokens=32)
    >>> (answer,) = llm.chat([{"role": "user", "content": [picture, question]}], greedy, use_tqdm=False)
    >>> answer.outputs[0].text
    'A large red circle in the center.'
    >>> llm.close()
    """

    def __init__(self, model: str | Path, **options: Unpack[ModelOptions]) -> None:
        self._lease = EngineLease(engine_config(model, options))
        shared = self._lease.shared
        try:
            self.card = shared.run(shared.engine.ready())
            self._text_of = shared.run(shared.engine.token_texts())
        except BaseException:
            self.close()
            raise

    def generate(
        self,
        prompts: GivenPrompt | Sequence[GivenPrompt] | None = None,
        sampling_params: Params = None,
        *,
        prompt_token_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Continue raw prompts: the text is taken as it is, without the model's chat template.

        prompts: one or a list of texts, lists of token ids, or dicts {"prompt": text, "multi_modal_data": {"image":
        one or a list, "video": …, "audio": …}}, whose text holds the model's own placeholders. sampling_params: for
        all, or one for each; None is the model's own. The outputs are in the order of the prompts.
        """
        if (prompts is None) == (prompt_token_ids is None):
            raise BadRequest("prompts: say either prompts or prompt_token_ids.", param="prompts")
        given = _listed(prompts if prompt_token_ids is None else prompt_token_ids)
        all_params = _params(sampling_params, len(given))
        asked = [
            _asked(requests.completion(prompt, params.body(), f"prompts[{i}]"), params)
            for i, (prompt, params) in enumerate(zip(given, all_params, strict=True))
        ]
        return self._run(asked, use_tqdm)

    def chat(
        self,
        messages: Sequence[Json] | Sequence[Sequence[Json]],
        sampling_params: Params = None,
        *,
        use_tqdm: bool = True,
        **fields: Any,
    ) -> list[RequestOutput]:
        """Answer a conversation, or each of a list of them, as one batch.

        messages: as OpenAI has them; media may also be objects of this program, {"type": "image", "image": PIL image}.
        fields: those of /v1/chat/completions that say no sampling, such as tools, tool_choice, chat_template_kwargs,
        add_generation_prompt, continue_final_message, video_fps.
        """
        is_one = not messages or isinstance(messages[0], Mapping)
        chats = cast(Sequence[Sequence[Json]], [messages] if is_one else messages)
        for name in fields:
            if name in SamplingParams.__dataclass_fields__:
                raise BadRequest(f"{name}: it belongs into sampling_params.", param=name)
        limits = self._lease.shared.config.media
        asked = []
        for params, one in zip(_params(sampling_params, len(chats)), chats, strict=True):
            drawn = _asked(requests.completion("x", params.body()), params)
            chat = requests.chat(one, fields, limits)
            how = {name: getattr(drawn, name) for name in DRAWN if getattr(drawn, name) is not None}
            asked.append(replace(chat, **how))
        return self._run(asked, use_tqdm)

    def encode(self, prompts: Any, **_: Any) -> list[Any]:
        """Raises BadRequest: no model that is loaded here gives embeddings."""
        why = f"{self.card.id} writes answers and gives no embeddings"
        raise BadRequest(f"model: {why}.", param="model", code="unsupported_model")

    def get_default_sampling_params(self) -> SamplingParams:
        """What a request without sampling_params asks for: the model's own settings."""
        return MODEL_OWN

    def close(self) -> None:
        """Give the model back; it leaves memory where no other object shares it. Idempotent, and not needed at the end
        of a script."""
        self._lease.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, asked: Sequence[Request], use_tqdm: bool) -> list[RequestOutput]:
        shared = self._lease.shared
        with tqdm(total=len(asked), desc="Processed prompts", disable=not use_tqdm) as bar:
            num_tokens = 0

            def ended(completion: Completion) -> None:
                nonlocal num_tokens
                num_tokens += completion.done.usage.completion_tokens
                bar.set_postfix_str(f"{num_tokens:,} tokens", refresh=False)
                bar.update()

            found = shared.run_all(asked, ended)
        return [
            RequestOutput.of(request, number, completion, self._text_of)
            for number, (request, completion) in enumerate(zip(asked, found, strict=True))
        ]


DRAWN = (
    "sampling",
    "max_tokens",
    "min_tokens",
    "ignore_eos",
    "stop",
    "stop_token_ids",
    "bad_words",
    "grammar",
    "logprobs",
    "prompt_logprobs",
    "prompt_ids",
    "n",
)
"""Fields of a Request that its SamplingParams say."""


def _asked(request: Request, params: SamplingParams) -> Request:
    return replace(request, prompt_logprobs=params.prompt_logprobs, prompt_ids=True)


def _listed(prompts: Any) -> list[Any]:
    """One prompt as a list of it."""
    if isinstance(prompts, str | Mapping) or (len(prompts) > 0 and isinstance(prompts[0], int)):
        return [prompts]
    return list(prompts)


def _params(given: Params, count: int) -> list[SamplingParams]:
    if given is None or isinstance(given, SamplingParams):
        return [given or MODEL_OWN] * count
    if len(given) != count:
        why = f"there are {len(given)} for {count} prompts"
        raise BadRequest(f"sampling_params: {why}.", param="sampling_params")
    return list(given)
