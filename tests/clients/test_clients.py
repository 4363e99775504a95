"""Each client asks as its documentation shows: a chat, a stream, a picture, an error, and what only it can do."""

from __future__ import annotations

import json

import openai
import pytest

from tests import pictures
from tests.clients.conftest import KEY, Client

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1200)]
PICTURE = pictures.picture_url()
START = f"""
import os
url, root, key, picture = os.environ["BASE_URL"], os.environ["ROOT_URL"], os.environ["API_KEY"], {PICTURE!r}
"""

PYTHON = {
    "openai 2": """
import openai
assert openai.__version__.startswith("2.")
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "What is it?"}]
ask = [{"role": "user", "content": content}]
chat = client.chat.completions
print(chat.create(model="demo", messages=ask, max_tokens=20, temperature=0).choices[0].message.content)
chunks = list(chat.create(model="demo", messages=ask, stream=True, stream_options={"include_usage": True}))
assert chunks[-1].usage.total_tokens > 10
print(client.responses.create(model="demo", input="hi", max_output_tokens=20).output_text)
with client.responses.stream(model="demo", input="hi", max_output_tokens=200) as stream:
    assert stream.get_final_response().output_text
try:
    client.chat.completions.create(model="nobody", messages=ask)
except openai.NotFoundError as error:
    assert error.code == "model_not_found"
else:
    raise AssertionError("a model that nobody knows was served")
""",
    "anthropic": """
import anthropic
client = anthropic.Anthropic(base_url=root, api_key=key, max_retries=0)
ask = [{"role": "user", "content": "hi"}]
print(client.messages.create(model="demo", max_tokens=20, messages=ask).content[0].text)
with client.messages.stream(model="demo", max_tokens=20, messages=ask) as stream:
    assert "".join(stream.text_stream)
assert client.messages.count_tokens(model="demo", messages=ask).input_tokens > 0
assert [model.id for model in client.models.list()] == ["demo"]
try:
    client.messages.create(model="nobody", max_tokens=1, messages=ask)
except anthropic.NotFoundError as error:
    assert error.status_code == 404
else:
    raise AssertionError("a model that nobody knows was served")
""",
    "langchain-openai": """
from langchain_openai import ChatOpenAI
chat = ChatOpenAI(model="demo", base_url=url, api_key=key, max_tokens=20, temperature=0, max_retries=0)
print(chat.invoke("hi").content)
assert "".join(chunk.content for chunk in chat.stream("hi"))
from pydantic import BaseModel
class Answer(BaseModel):
    shape: bool
assert isinstance(chat.with_structured_output(Answer, method="json_schema").invoke("hi"), Answer)
""",
    "llama-index": """
from llama_index.llms.openai_like import OpenAILike
from llama_index.core.llms import ChatMessage
llm = OpenAILike(model="demo", api_base=url, api_key=key, is_chat_model=True, max_tokens=20, max_retries=0)
print(llm.chat([ChatMessage(role="user", content="hi")]).message.content)
assert [piece.delta for piece in llm.stream_chat([ChatMessage(role="user", content="hi")])]
print(llm.complete("hi").text)
""",
    "litellm": """
import litellm
ask = [{"role": "user", "content": "hi"}]
shared = dict(model="openai/demo", api_base=url, api_key=key, messages=ask, max_tokens=20, num_retries=0)
print(litellm.completion(**shared).choices[0].message.content)
assert "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **shared))
""",
    "instructor": """
import instructor, openai
from pydantic import BaseModel
class Answer(BaseModel):
    shape: bool
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    asked = instructor.from_openai(client, mode=mode)
    ask = [{"role": "user", "content": "hi"}]
    more = dict(response_model=Answer, max_tokens=60, max_retries=0)
    answer = asked.chat.completions.create(model="demo", messages=ask, **more)
    assert isinstance(answer, Answer)
    print(answer)
""",
    "pydantic-ai": """
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
class Answer(BaseModel):
    shape: bool
model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url=url, api_key=key))
print(Agent(model).run_sync("hi").output)
assert isinstance(Agent(model, output_type=Answer).run_sync("hi").output, Answer)
""",
    "llm": """
import json, pathlib, subprocess
folder = pathlib.Path.home() / ".config/io.datasette.llm"
folder.mkdir(parents=True)
entry = {"model_id": "here", "model_name": "demo", "api_base": url, "api_key_name": "here", "vision": True}
(folder / "extra-openai-models.yaml").write_text(json.dumps([entry]))
(folder / "keys.json").write_text(json.dumps({"here": key}))
print(subprocess.check_output(["llm", "-m", "here", "hi"], text=True, stdin=subprocess.DEVNULL))
""",
    "open-webui's calls": """
import httpx
http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
models = http.get("/models").json()["data"]
ask = {"model": models[0]["id"], "stream": True, "stream_options": {"include_usage": True},
       "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]}
with http.stream("POST", "/chat/completions", json=ask) as response:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.iter_lines() if line]
assert lines[-1] == "data: [DONE]"
title = {"model": models[0]["id"], "stream": False, "max_completion_tokens": 1000,
         "messages": [{"role": "user", "content": "Write a title for: hi"}]}
print(http.post("/chat/completions", json=title).json()["choices"][0]["message"]["content"])
""",
}

NODE = {
    "openai": f"""
import OpenAI from "openai";
const client = new OpenAI({{baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0}});
const url = {json.dumps(PICTURE)};
const content = [{{type: "image_url", image_url: {{url}}}}, {{type: "text", text: "What is it?"}}];
const messages = [{{role: "user", content}}];
const whole = await client.chat.completions.create({{model: "demo", messages, max_tokens: 20}});
console.log(whole.choices[0].message.content);
let text = "";
for await (const chunk of await client.chat.completions.create({{model: "demo", messages, stream: true}}))
  text += chunk.choices[0]?.delta?.content ?? "";
if (!text) throw new Error("no text");
console.log((await client.responses.create({{model: "demo", input: "hi", max_output_tokens: 20}})).output_text);
""",
    "ai": """
import { generateText, streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const here = createOpenAICompatible({ name: "here", baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
console.log((await generateText({ model: here("demo"), prompt: "hi", maxRetries: 0 })).text);
let text = "";
for await (const piece of streamText({ model: here("demo"), prompt: "hi", maxRetries: 0 }).textStream) text += piece;
if (!text) throw new Error("no text");
""",
}


@pytest.mark.parametrize("name", PYTHON)
def test_python(python: Client, name: str) -> None:
    assert python(START + PYTHON[name]).strip()


@pytest.mark.parametrize("name", NODE)
def test_node(node: Client, name: str) -> None:
    assert node(NODE[name]).strip()


def test_openai_3(url: str) -> None:
    """The one that the project's own tests use."""
    assert openai.__version__.startswith("3.")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        assert client.responses.create(model="demo", input="hi", max_output_tokens=20).output_text
