"""A real server on 127.0.0.1 with OpenAI's chat API that plays a script: right answers, and twelve ways to fail."""

import contextlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What each failure makes of a right answer of 0s and 1s, as (status, headers, body or the text of an answer, finish).
FAILURES = (
    "prose",
    "fenced",
    "wrong length",
    "floats",
    "words",
    "numbered",
    "empty",
    "truncated",
    "rate limit",
    "server error",
    "hang",
    "invalid bytes",
)
# Those that a patient reader understands, and those that a second try mends.
READABLE, MENDED = ("prose", "fenced", "floats", "words", "numbered"), ("rate limit", "server error", "hang")


class ScriptedServer:
    """Serves while it is open.

    Attributes:
        url: of the API.
        script: what happens to each question: a name of FAILURES, "right", or (status, headers, body); the last one
            goes on.
        requests: what was asked: path, headers, body.
    """

    def __init__(self, *script, answer=None, model="scripted"):
        self.script, self.requests, self.model = list(script) or ["right"], [], model
        self.answer = answer or truth_in_text
        self.busy = self.most_busy = 0
        self.lock, self.closed = threading.Lock(), threading.Event()

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.serve(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self):
                outer.serve(self, None)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()

    def serve(self, handler, body):
        with self.lock:
            self.requests.append((handler.path, dict(handler.headers), body))
            step = "models"
            if body is not None:
                step = self.script[0] if len(self.script) == 1 else self.script.pop(0)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.play(handler, step, body)
        finally:
            with self.lock:
                self.busy -= 1

    def play(self, handler, step, body):
        if step == "models":
            return send(handler, 200, {}, json.dumps({"data": [{"id": self.model}]}).encode())
        if isinstance(step, tuple):
            return send(handler, *step)
        if step == "hang":
            # Until the test is over, so that it is the client who gives up.
            self.closed.wait(30)
        if step == "rate limit":
            return send(handler, 429, {"Retry-After": "3"}, b'{"error": {"message": "slow down"}}')
        if step == "server error":
            return send(handler, 500, {}, b"oops")
        if step == "invalid bytes":
            return send(handler, 200, {}, b'{"choices": [{"message": {"content": "\xff\xfe')
        text, finish = spoiled(step, self.answer(body)), "length" if step == "truncated" else "stop"
        return send(handler, 200, {}, json.dumps(self.reply(body, text, finish)).encode())

    def reply(self, body, text, finish):
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [with_chances(one) for one in re.findall(r"\d+|\D+", text)]}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return {"model": self.model, "choices": [choice], "usage": usage}


def send(handler, status, headers, body):
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def with_chances(token):
    """A token that is 90 % sure of itself, and of the other digit the rest."""
    top = [{"token": token, "logprob": -0.105}]
    if token in ("0", "1"):
        top.append({"token": "10"[int(token)], "logprob": -2.303})
    return {"token": token, "logprob": -0.105, "top_logprobs": top}


def truth_in_text(body):
    """The right answer: 1 for every text of the prompt that has the word that the description names."""
    system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
    word = re.search(r'the word "(\w+)"', system)[1]
    lines = re.findall(r"^Text \d+:(.*)$", user, re.MULTILINE)
    return json.dumps([int(word in line.lower().split()) for line in lines])


def spoiled(step, answer):
    """A right answer as one of the failures gives it."""
    if step in ("right", "hang", "empty"):
        return "" if step == "empty" else answer
    numbers = json.loads(answer)
    return {
        "prose": f"Let me look at the texts. I think it is {answer}, as asked.",
        "fenced": f"```json\n{answer}\n```",
        "wrong length": json.dumps([*numbers, 1]),
        "floats": json.dumps([float(one) for one in numbers]),
        "words": json.dumps([bool(one) for one in numbers]),
        "numbered": "\n".join(f"{place}: {'yes' if one else 'no'}" for place, one in enumerate(numbers, 1)),
        "truncated": answer[:-3],
    }[step]
