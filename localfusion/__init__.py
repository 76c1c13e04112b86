"""localfusion: one prompt to several local models, a local judge, one streamed answer.

Importing this package loads neither torch nor vllm nor an HTTP server.
"""

__version__ = "0.1.0"
