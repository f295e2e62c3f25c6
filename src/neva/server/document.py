"""The OpenAPI document: FastAPI's, and true of errors too."""

from typing import Any

from fastapi import FastAPI

JSON = "application/json"


class DocumentedAPI(FastAPI):
    """An app whose document says that errors are JSON, also where the route's answer is none.

    FastAPI tells them under the kind of the route's own response.
    """

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            for operations in super().openapi()["paths"].values():
                for operation in operations.values():
                    _mend(operation["responses"])
        return super().openapi()


def _mend(responses: dict[str, Any]) -> None:
    """Every error's one content, whatever it is called, is JSON."""
    for status, response in responses.items():
        if status >= "400" and "content" in response:
            (schema,) = response["content"].values()
            response["content"] = {JSON: schema}
