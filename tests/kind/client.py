"""A pod that sends requests to a Service at a steady rate and counts the results."""

import json
import time

CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}

# Fifty a second, over a new connection each time; one that is due while all workers wait is sent as soon as one is free.
ASK = """
import collections, http.client, itertools, json, os, sys, threading, time
asked = json.loads(sys.argv[1])
counts, answers = {"answered": 0, "failed": 0}, collections.Counter()
numbers, lock, begin = itertools.count(), threading.Lock(), time.monotonic()

def say(*words):
    # At once, or lines of several threads would mix.
    sys.stderr.write(f"{time.monotonic() - begin:.1f} s: {' '.join(map(str, words))}\\n")

def ask(number):
    time.sleep(max(0, begin + number / 50 - time.monotonic()))
    connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=30)
    try:
        connection.request("POST", asked["path"], asked["body"], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status == 200:
            return json.dumps(json.loads(text)["outputs"][0]["data"])
        say(answer.status, text)
    except (OSError, http.client.HTTPException) as error:
        say(type(error).__name__, error)
    finally:
        connection.close()

def work():
    while not os.path.exists("/tmp/stop"):
        with lock:
            number = next(numbers)
        if number >= asked["total"]:
            break
        found = ask(number)
        with lock:
            counts["failed" if found is None else "answered"] += 1
            answers[found] += 1
            with open("/tmp/counts.new", "w") as file:
                json.dump({**counts, "answers": answers, "seconds": time.monotonic() - begin}, file)
            os.replace("/tmp/counts.new", "/tmp/counts")

for thread in [threading.Thread(target=work) for _ in range(asked["workers"])]:
    thread.start()
time.sleep(3600)
"""


class Client:
    """Asks a Service until it is stopped, or until it has asked so often.

    Args:
        host: the Service, which is the Deployment's name, too: the pod runs that one's image.
        port: of the Service.
        path: where to.
        body: a request of the V2 protocol.
        workers: how many requests may be under way.
        total: how many to send.
    """

    def __init__(self, platform, host: str, port: int, path: str, body: str, workers: int = 1, total: int = 1_000_000):
        self.platform, self.name = platform, f"client-{host}"
        asked = {"host": host, "port": port, "path": path, "body": body, "workers": workers, "total": total}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "client",
                        "image": platform.image(host),
                        "imagePullPolicy": "Never",
                        "command": ["python3", "-c", ASK, json.dumps(asked)],
                        "securityContext": CONFINED,
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
            },
        }
        platform.kubectl("apply", "--filename", "-", input=json.dumps(pod))
        platform.until(lambda: self.counts().get("answered", 0) >= 5, "five answers for the client")

    def counts(self) -> dict:
        """How many were ``answered`` and ``failed``, the first output of the ``answers`` with its number, and the ``seconds`` so far."""
        done = self.platform.kubectl("exec", self.name, "--", "cat", "/tmp/counts", check=False)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else {}

    def stop(self):
        """Stop it; return the counts and its log of failures."""
        self.platform.kubectl("exec", self.name, "--", "touch", "/tmp/stop")
        time.sleep(1)
        counts, said = self.counts(), self.platform.kubectl("logs", self.name).stdout
        self.platform.kubectl("delete", "pod", self.name, "--wait=false")
        return counts, said
