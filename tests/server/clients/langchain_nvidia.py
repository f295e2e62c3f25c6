"""langchain-nvidia-ai-endpoints, any version, against a server: argv is its URL and a data URI.

Old versions know neva-22b's address; it is moved by their own table. New ones are told of it.
"""

import os
import sys

os.environ["NVIDIA_API_KEY"] = "nvapi-" + "x" * 64
import langchain_nvidia_ai_endpoints as package
from langchain_core.messages import HumanMessage
from langchain_nvidia_ai_endpoints import ChatNVIDIA

url, picture = sys.argv[1:3]
endpoint = f"{url}/v1/vlm/nvidia/neva-22b"
name = "nvidia/neva-22b"
statics = package._statics
if name in statics.MODEL_TABLE:
    statics.MODEL_TABLE[name].endpoint = endpoint
else:
    package.register_model(
        package.Model(id=name, model_type="nv-vlm", client="ChatNVIDIA", endpoint=endpoint)
    )

parts = [
    {"type": "text", "text": "What?"},
    {"type": "image_url", "image_url": {"url": picture}},
]
tagged = f'What? <img src="{picture}" />'


version = tuple(map(int, sys.argv[3].split(".")))
FINISH, LAST = "with the finish", "in the last chunk"
stops_early = version < (1, 0)  # hangs up at the finish, before the last chunk with the usage


def ask(llm, *contents, usage, many=True):
    for content in contents:
        whole = llm.invoke([HumanMessage(content=content)], seed=1)
        assert "(8, 6)" in whole.content, whole
        text = "".join(
            chunk.content for chunk in llm.stream([HumanMessage(content=content)], seed=1)
        )
        assert text == whole.content, (text, whole.content)
    if many:
        total = None
        for chunk in llm.stream([HumanMessage(content=contents[0])], seed=1):
            total = chunk if total is None else total + chunk
        counted = getattr(total, "usage_metadata", None)
        if usage == LAST and stops_early:
            assert not counted, counted
        elif counted or version >= (0, 3):  # older ones count nothing in streams
            assert counted["total_tokens"] == expected(llm, contents[0]), counted


def expected(llm, content):
    whole = llm.invoke([HumanMessage(content=content)], seed=1)
    usage = whole.usage_metadata or whole.response_metadata["token_usage"]
    return usage["total_tokens"]


hosted = ChatNVIDIA(model=name)
ask(hosted, parts, tagged, usage=FINISH)
labelled = hosted.invoke([HumanMessage(content="Hi")], labels={"creativity": 6, "humor": 0})
assert "labels={'creativity': 6, 'humor': 0}" in labelled.content, labelled
try:
    hosted.invoke([HumanMessage(content="Hi")], temperature=9)
except Exception as error:
    assert "temperature" in str(error), error
else:
    raise AssertionError("no error")
if version >= (0, 2):
    local = ChatNVIDIA(base_url=f"{url}/v1", model=name)
    ask(local, parts, tagged, usage=LAST if version >= (0, 3) else FINISH)
print("fine")
