"""SageMaker's runtime, near and far, by boto3: `python sagemaker.py serve` and `python sagemaker.py ask URL`.

The far side has botocore sign the request that came, and answers 403 where the signature is another one, as the real
service does.
"""

import http.client
import sys
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import boto3
import botocore.auth
import botocore.exceptions
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

REGION = "eu-west-1"
KEY, SECRET = "AKIAOFTHETEST0000000", "the-test's-secret"


def signature_of(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    """What botocore writes into Authorization for the request as it came."""
    signed = handler.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = http.client.HTTPMessage()
    for name in signed:
        headers[name] = handler.headers[name]
    request = AWSRequest(handler.command, f"http://{handler.headers['Host']}{handler.path}", headers=headers, data=body)
    at = datetime.strptime(handler.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    auth = botocore.auth.SigV4Auth(Credentials(KEY, SECRET), "sagemaker", REGION)
    with patch.object(botocore.auth, "get_current_datetime", return_value=at):
        auth.add_auth(request)
    return str(request.headers["Authorization"])


class Runtime(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = signature_of(self, body) == self.headers["Authorization"]
        answer = b'{"predictions": [0.5]}' if good else b'{"message": "The signature does not match"}'
        self.send_response(200 if good else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is for what went wrong."""


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    print(f"listening on http://127.0.0.1:{server.server_port}")
    server.serve_forever()


def ask(url: str) -> None:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}),
    )
    try:
        got = client.invoke_endpoint(
            EndpointName="late-flights",
            ContentType="application/json",
            Accept="application/json",
            Body=b'{"delay": 12}',
        )
        print(got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read().decode())
    except botocore.exceptions.ClientError as error:
        print(error.response["ResponseMetadata"]["HTTPStatusCode"], error)


match sys.argv[1:]:
    case ["serve"]:
        serve()
    case ["ask", url]:
        ask(url)
