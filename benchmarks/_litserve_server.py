"""The LitServe server of session.py: a script, for its worker processes must be able to import what they run.

No postponed annotations: LitServe looks at that of `request` at run time.
"""

import argparse
import functools
from typing import Any

import litserve
from _photos import read
from _runtimes import cores, ort
from fastapi import Request


class Api(litserve.LitAPI):
    """The model of 0 ms, or MobileNet on ONNX Runtime with one thread, on the path of a photo."""

    model = ""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's contract
        """Load the model."""
        self.call = functools.partial(best_class, ort(self.model)) if self.model else lambda x: x

    def decode_request(self, request: Request) -> Any:
        """Return what was sent."""
        return request["input"]

    def predict(self, x: Any) -> Any:
        """Return the answer."""
        return self.call(x)

    def encode_response(self, output: Any) -> Any:
        """Return what is sent back."""
        return {"output": output}


def best_class(predict: Any, path: str) -> int:
    """Return the best class of a photo."""
    return int(predict(read(path))[0].argmax())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="")
    given = parser.parse_args()
    api = Api()
    api.model = given.model
    workers = cores() if given.model else 1
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=True, timeout=False)
    server.run(host="127.0.0.1", port=given.port, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
