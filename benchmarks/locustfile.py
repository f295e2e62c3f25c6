"""The soak's clients for locust (2.47): the same questions as benchmarks/soak_load.py.

    locust -f benchmarks/locustfile.py --headless -u 32 -r 8 -t 10m --host http://127.0.0.1:8000

`python benchmarks/soak.py --locust PATH/TO/locust` runs it and watches the server's memory too.
"""

import itertools
import sys
from pathlib import Path

from locust import HttpUser, constant, task

sys.path.insert(0, str(Path(__file__).parent))
from soak_load import CHAT, Asker, complete

SEEDS = itertools.count()


class Visitor(HttpUser):
    """One client: it asks the next question as soon as it has its answer."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Give it questions of its own."""
        self.asker = Asker(next(SEEDS))

    @task
    def ask(self) -> None:
        """One question, left in the middle at times; an answer must be whole."""
        body, leave = self.asker.question()
        kind = "left" if leave else "streamed" if body["stream"] else "whole"
        post = self.client.post(
            CHAT, json=body, stream=True, name=kind, catch_response=True, timeout=300
        )
        with post as response:
            if response.status_code == 429:
                response.success()  # what a full server must say
            elif response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif leave:
                next(response.iter_content(200), None)
                response.close()
                response.success()
            elif complete(body, response.content):
                response.success()
            else:
                response.failure("cut off")
