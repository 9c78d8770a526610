"""SageMaker's and Bedrock's runtimes, near and far. The near side is boto3, which checks each checksum.

python event_frames.py serve TEXT               say TEXT, in the pieces and with the padding of the real service
python event_frames.py serve TEXT cut           the same, and close within the last frame
python event_frames.py ask URL TIMES CALL...    print a JSON value for each answer
"""

import base64
import json
import random
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore.config import Config

MODEL = "anthropic.claude-of-the-test"


def frame(payload: bytes, **headers: str) -> bytes:
    """One frame of the event stream encoding, with its two checksums."""
    packed = b""
    for name, value in headers.items():
        key = b":" + name.replace("_", "-").encode()
        packed += bytes([len(key)]) + key + b"\7" + len(value).to_bytes(2, "big") + value.encode()
    prelude = (16 + len(packed) + len(payload)).to_bytes(4, "big") + len(packed).to_bytes(4, "big")
    checked = prelude + zlib.crc32(prelude).to_bytes(4, "big") + packed + payload
    return checked + zlib.crc32(checked).to_bytes(4, "big")


def event(name: str, value: Any) -> bytes:
    """Bedrock pads each event by a random length, so that sizes do not tell the words."""
    padding = "abcdefghijklmnopqrstuvwxyz"[: random.randint(1, 26)]
    payload = json.dumps(value | {"p": padding}).encode()
    return frame(payload, event_type=name, content_type="application/json", message_type="event")


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of other sizes each time."""
    while text:
        size = random.randint(1, 9)
        yield text[:size]
        text = text[size:]


def milliseconds() -> int:
    return random.randint(100, 999)


def converse(text: str) -> dict[str, Any]:
    return {
        "metrics": {"latencyMs": milliseconds()},
        "output": {"message": {"content": [{"text": text}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 9, "outputTokens": len(text.split()), "totalTokens": 9 + len(text.split())},
    }


def converse_stream(text: str) -> Iterator[bytes]:
    yield event("messageStart", {"role": "assistant"})
    for piece in pieces(text):
        yield event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
    yield event("contentBlockStop", {"contentBlockIndex": 0})
    yield event("messageStop", {"stopReason": "end_turn"})
    whole = converse(text)
    yield event("metadata", {"metrics": whole["metrics"], "usage": whole["usage"]})


def message(text: str) -> dict[str, Any]:
    return {
        "id": f"msg_bdrk_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": len(text.split())},
    }


def chunks(text: str) -> Iterator[bytes]:
    whole = message(text)
    begun = whole | {"content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
    told: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    told.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for piece in pieces(text):
        delta = {"type": "text_delta", "text": piece}
        told.append({"type": "content_block_delta", "index": 0, "delta": delta})
    told.append({"type": "content_block_stop", "index": 0})
    usage = {"output_tokens": len(text.split())}
    told.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage})
    metrics = {"invocationLatency": milliseconds(), "firstByteLatency": milliseconds()}
    told.append({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics})
    for each in told:
        yield event("chunk", {"bytes": base64.b64encode(json.dumps(each).encode()).decode()})


def parts(text: str) -> Iterator[bytes]:
    """SageMaker's: the borders of its parts are nobody's lines. The answer is JSON lines."""
    lines = "".join(json.dumps({"token": {"text": f"{word} "}}) + "\n" for word in text.split())
    for piece in pieces(lines):
        yield frame(
            piece.encode(), event_type="PayloadPart", content_type="application/octet-stream", message_type="event"
        )


class Runtime(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    text = ""
    cut = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        last = self.path.rpartition("/")[2]
        match last:
            case "converse":
                self.whole(converse(self.text))
            case "invoke":
                self.whole(message(self.text))
            case "converse-stream":
                self.stream(converse_stream(self.text))
            case "invoke-with-response-stream":
                self.stream(chunks(self.text), **{"X-Amzn-Bedrock-Content-Type": "application/json"})
            case "invocations-response-stream":
                self.stream(parts(self.text), **{"X-Amzn-SageMaker-Content-Type": "application/jsonlines"})
            case _:
                self.send_error(404)

    def whole(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, frames: Iterator[bytes], **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for each in frames:
            sent = each[:-5] if self.cut and b"messageStop" in each else each
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            self.wfile.flush()
            time.sleep(0.001)
            if sent != each:
                break
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is for what went wrong."""


def serve(text: str, *more: str) -> None:
    Runtime.text = text
    Runtime.cut = "cut" in more
    server = ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    print(f"listening on http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def ask(url: str, times: str, *calls: str) -> None:
    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=url,
            region_name="eu-west-1",
            aws_access_key_id="AKIAOFTHETEST0000000",
            aws_secret_access_key="the-test's-secret",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )

    bedrock, sagemaker = client("bedrock-runtime"), client("sagemaker-runtime")
    asked: list[dict[str, Any]] = [{"role": "user", "content": [{"text": "Why is the flight late?"}]}]
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 32, "messages": asked}).encode()

    def call(name: str) -> Any:
        match name:
            case "converse":
                return bedrock.converse(modelId=MODEL, messages=asked)["output"]
            case "converse_stream":
                return list(bedrock.converse_stream(modelId=MODEL, messages=asked)["stream"])
            case "invoke_model":
                return json.loads(bedrock.invoke_model(modelId=MODEL, body=body)["body"].read())
            case "invoke_model_with_response_stream":
                found = bedrock.invoke_model_with_response_stream(modelId=MODEL, body=body)["body"]
                return [json.loads(each["chunk"]["bytes"]) for each in found]
            case "invoke_endpoint_with_response_stream":
                found = sagemaker.invoke_endpoint_with_response_stream(
                    EndpointName="late-flights", ContentType="application/json", Body=body
                )["Body"]
                return b"".join(each["PayloadPart"]["Bytes"] for each in found).decode()
            case _:
                raise ValueError(name)

    for name in calls:
        for _ in range(int(times)):
            print(json.dumps({"call": name, "answer": call(name)}), flush=True)


match sys.argv[1:]:
    case ["serve", *rest]:
        serve(*rest)
    case ["ask", *rest]:
        ask(*rest)
