"""An obedient engine behind vLLM's routes: ``python engine.py PORT``.

Functions that are offered or forced are called, with arguments that obey their schema; a schema
gets its smallest instance; anything else the same sentence.
"""

import socket
import sys

import uvicorn

from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_app import create_app

NAME = "obedient"
WINDOW = 16_384


def main() -> None:
    engine = SimEngine(name=NAME, calls_tools=True, max_model_len=WINDOW)
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as bound:
        config = uvicorn.Config(create_app(engine), log_level="warning", lifespan="off")
        uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main()
