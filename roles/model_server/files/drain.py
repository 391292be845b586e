"""Waits until a server has no request left, or until the seconds are over: drain.py PORT SECONDS METRIC...

The metrics together count the requests that run or wait; one with a minus before it is subtracted.
"""

import http.client
import re
import signal
import sys
import time
import urllib.error
import urllib.request

port, seconds, *metrics = sys.argv[1:]
url = f"http://127.0.0.1:{port}/metrics"
names = "|".join(re.escape(metric.removeprefix("-")) for metric in metrics)
sample = re.compile(rf"^({names})(?:\{{.*\}})? (\S+)$", re.MULTILINE)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Also in the middle of an answer that never ends. Zero would set no alarm.
signal.signal(signal.SIGALRM, lambda *_: sys.exit())
signal.setitimer(signal.ITIMER_REAL, max(float(seconds), 0.001))

# Until every proxy knows that the pod is leaving, new requests still arrive.
time.sleep(5)
while True:
    try:
        with direct.open(url, timeout=5) as answer:
            samples = sample.findall(answer.read().decode())
        # An answer without a count does not say that there is nothing to wait for.
        if samples and not sum(float(count) * (-1 if f"-{name}" in metrics else 1) for name, count in samples):
            break
    except urllib.error.URLError as error:
        # Nobody listens: a server that is gone, or not up yet, has nothing to finish.
        if isinstance(error.reason, ConnectionRefusedError):
            break
    except (OSError, ValueError, http.client.HTTPException):
        pass  # an answer that broke off: ask again
    time.sleep(1)
