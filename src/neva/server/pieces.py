"""Large bodies go out piece by piece: only what the client takes is handed to its connection.

Handed over whole, a file would lie in the connection's buffer, its request done and its key's place
free, for as long as the client likes.
"""

from starlette.types import Message, Send

PIECE = 64 * 1024


def in_pieces(send: Send) -> Send:
    """`send`, which returns from the end of a large body when all of it has been taken."""

    async def send_pieces(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= PIECE:
            await send(message)
            return
        for start in range(0, len(body), PIECE):
            await send({**message, "body": body[start : start + PIECE], "more_body": True})
        if not message.get("more_body", False):
            await send({**message, "body": b"", "more_body": False})

    return send_pieces
