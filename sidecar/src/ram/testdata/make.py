"""Makes signed.json: requests as Alibaba Cloud's own SDK sends them, caught on a local port.

    python3 -m venv venv && venv/bin/pip install alibabacloud-tea-openapi==0.4.6
    venv/bin/python make.py > signed.json

The access key is made up. The dates and nonces are those of the run.
"""

import http.server
import json
import sys
import threading

from alibabacloud_tea_openapi import models
from alibabacloud_tea_openapi.client import Client
from darabonba.runtime import RuntimeOptions

ACCESS_KEY = ("LTAI5tFixtureAccessKey01", "fixture-secret-0123456789abcd")
caught = []


class Catcher(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        caught.append({"method": self.command, "target": self.path, "headers": headers, "body": body.decode()})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


def call(client, method, path, query=None, body=None):
    params = models.Params(
        action="Test", version="2024-01-01", protocol="HTTP", pathname=path, method=method, auth_type="AK",
        style="ROA", req_body_type="json", body_type="json",
    )
    client.call_api(params, models.OpenApiRequest(query=query, body=body), RuntimeOptions())


def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Catcher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key_id, secret = ACCESS_KEY
    config = models.Config(access_key_id=key_id, access_key_secret=secret, endpoint=f"127.0.0.1:{server.server_port}")
    client = Client(config)
    call(client, "GET", "/v1/models")
    call(client, "GET", "/v1/admin/status", query={"b": "two words", "a": "*~+/=&%é", "A": "1", "empty": ""})
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "你好, world"}]}
    call(client, "POST", "/v1/chat/completions", body=chat)
    call(client, "DELETE", "/v1/files/a%20b~c", query={"x.y": "z"})
    server.shutdown()
    json.dump({"access_key": {"id": key_id, "secret": secret}, "requests": caught}, sys.stdout, indent=1)
    print()


main()
