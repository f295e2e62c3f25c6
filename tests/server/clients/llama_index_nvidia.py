"""llama-index-multi-modal-llms-nvidia against a server: argv is its URL and a data URI."""

import asyncio
import os
import sys

os.environ["NVIDIA_API_KEY"] = "nvapi-" + "x" * 64
import llama_index.multi_modal_llms.nvidia.utils as utils
from llama_index.core.schema import ImageDocument
from llama_index.multi_modal_llms.nvidia import NVIDIAMultiModal

url, picture = sys.argv[1:3]
utils.NVIDIA_MULTI_MODAL_MODELS["nvidia/neva-22b"]["endpoint"] = f"{url}/v1/vlm/nvidia/neva-22b"
llm = NVIDIAMultiModal(model="nvidia/neva-22b")
documents = [ImageDocument(image=picture.split(",", 1)[1], metadata={"file_type": "image/png"})]

whole = llm.complete("What?", image_documents=documents).text
assert "(8, 6)" in whole, whole
pieces = llm.stream_complete("What?", image_documents=documents)
text = "".join(piece.text for piece in pieces)
assert text == whole, (text, whole)


async def later() -> None:
    assert (await llm.acomplete("What?", image_documents=documents)).text == whole
    text = ""
    async for piece in await llm.astream_complete("What?", image_documents=documents):
        text = piece.text  # cumulative here, unlike above
    assert text == whole, (text, whole)


asyncio.run(later())
print("fine")
