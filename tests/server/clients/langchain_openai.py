"""langchain-openai against a server: argv is its URL and a data URI.

Its own folder comes first in sys.path, where this file would hide the package.
"""

import sys

sys.path.pop(0)
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

url, picture = sys.argv[1:3]
parts = [
    {"type": "text", "text": "What?"},
    {"type": "image_url", "image_url": {"url": picture}},
]
asked = [HumanMessage(content=parts)]
for more in ({}, {"stream_usage": True}, {"stream_usage": False}):
    llm = ChatOpenAI(base_url=f"{url}/v1", api_key="x", model="nvidia/neva-22b", seed=1, **more)
    whole, total = llm.invoke(asked), None
    for chunk in llm.stream(asked):
        total = chunk if total is None else total + chunk
    assert "(8, 6)" in whole.content and total.content == whole.content, (whole, total)
    assert total.usage_metadata == whole.usage_metadata, (total, whole)
    assert total.usage_metadata["total_tokens"] > 0
print("fine")
