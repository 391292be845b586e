"""Tells whether every model is loaded: ready.py PORT MODEL...

The server's own /v2/health/ready is no proof: it answers 200 for a moment after a model failed to load, before the server ends.
"""

import sys
import urllib.request

port, *models = sys.argv[1:]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for model in models:
    try:
        direct.open(f"http://127.0.0.1:{port}/v2/models/{model}/ready", timeout=5).close()
    except OSError as error:
        sys.exit(f"{model} is not ready: {error}")
