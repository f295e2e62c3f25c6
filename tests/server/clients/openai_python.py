"""openai-python against a server: argv is its URL and a data URI of a picture of 8 x 6 pixels."""

import base64
import sys

from openai import BadRequestError, NotFoundError, OpenAI, UnprocessableEntityError
from openai.types.chat import ChatCompletion

url, picture = sys.argv[1:3]
client = OpenAI(base_url=f"{url}/v1", api_key="nvapi-x", max_retries=0)
model = client.models.list().data[0].id
part = {"type": "image_url", "image_url": {"url": picture, "detail": "auto"}}
asked = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]

whole = client.chat.completions.create(model=model, messages=asked, seed=1, max_tokens=50)
text = whole.choices[0].message.content
assert "(8, 6)" in text, text
assert whole.choices[0].finish_reason == "stop"
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.prompt_tokens_details.cached_tokens == 6

chunks = list(client.chat.completions.create(model=model, messages=asked, seed=1, stream=True))
assert "".join(chunk.choices[0].delta.content for chunk in chunks) == text
assert chunks[-1].usage == whole.usage

options = {"include_usage": True}
chunks = list(
    client.chat.completions.create(model=model, messages=asked, stream=True, stream_options=options)
)
assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
assert all(chunk.usage is None for chunk in chunks[:-1])

hello = [{"role": "assistant", "content": "Hello!"}, *asked, {"role": "system", "content": "Be."}]
greeted = client.chat.completions.create(model=model, messages=hello)
assert "system='Be.' | user:  | assistant: 'Hello!'" in greeted.choices[0].message.content

with client.chat.completions.stream(model=model, messages=asked, seed=1) as stream:
    for _ in stream:
        pass
    assert stream.get_final_completion().choices[0].message.content == text

three = client.chat.completions.create(model=model, messages=asked, n=3, seed=1, stop=["seed"])
assert [choice.index for choice in three.choices] == [0, 1, 2]

neva = OpenAI(base_url=f"{url}/v1/vlm/nvidia", api_key="nvapi-x")
answer = neva.post("/neva-22b", body={"messages": asked, "seed": 1}, cast_to=ChatCompletion)
assert answer.choices[0].message.content == text

try:
    client.chat.completions.create(model=model, messages=asked, temperature=9)
except UnprocessableEntityError as error:
    assert "temperature" in str(error), error
else:
    raise AssertionError("no error")
try:
    client.chat.completions.create(model="gpt-9", messages=asked)
except NotFoundError as error:
    assert "gpt-9" in str(error), error
else:
    raise AssertionError("no error")

said = client.responses.create(
    model=model,
    input=[
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": picture, "detail": "auto"},
            ],
        }
    ],
    store=True,
)
assert "(8, 6)" in said.output_text, said
assert said.usage.input_tokens_details.cached_tokens == 6
more = client.responses.create(model=model, input="And now?", previous_response_id=said.id)
assert "(8, 6)" in more.output_text and "And now?" in more.output_text
with client.responses.stream(model=model, input="Hi") as events:
    kinds = [event.type for event in events]
    assert events.get_final_response().output_text
assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
assert client.responses.retrieve(said.id).output_text == said.output_text
(item,) = client.responses.input_items.list(said.id)
assert item.content[0].text == "What?" and item.content[1].image_url == picture, item
turns = [{"role": "user", "content": str(number)} for number in range(5)]
many = client.responses.create(model=model, input=turns)
items = list(client.responses.input_items.list(many.id, order="asc", limit=2))
assert [item.content[0].text for item in items] == list("01234"), "page after page"
client.responses.delete(said.id)

pixels = base64.b64decode(picture.partition(",")[2])
file = client.files.create(file=("a.png", pixels), purpose="vision")
assert (file.bytes, file.filename, file.status) == (len(pixels), "a.png", "processed"), file
assert file.id in [one.id for one in client.files.list(purpose="vision")]
assert client.files.retrieve(file.id) == file
assert client.files.content(file.id).read() == pixels
image = {"type": "input_image", "file_id": file.id, "detail": "auto"}
seen = client.responses.create(model=model, input=[{"role": "user", "content": [image]}])
assert "(8, 6)" in seen.output_text, seen
named = [{"role": "user", "content": [{"type": "file", "file": {"file_id": file.id}}]}]
seen = client.chat.completions.create(model=model, messages=named)
assert "(8, 6)" in seen.choices[0].message.content, seen
assert client.files.delete(file.id).deleted
try:
    client.chat.completions.create(model=model, messages=asked, logprobs=True)
except BadRequestError as error:
    assert "log probabilities" in str(error), error
else:
    raise AssertionError("the double has none")
print("fine")
