"""The `cloudevents` SDK of PyPI as the other side: makes events of what it is told, and reads events that it is handed.

Takes commands on standard input, one JSON object a line, and answers each with one:
  {"make": "binary" | "structured" | "batch", "attributes": {...}, "data": {...}} -> {"headers": {...}, "body": "..."}
  {"read": {"headers": {...}, "body": "..."}}                                     -> {"attributes": {...}, "data": {...}}
"""

import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent


def make(mode, attributes, data):
    event = CloudEvent(attributes=attributes, data=data)
    if mode == "binary":
        message = to_binary_event(event)
    else:
        message = to_structured_event(event)
    headers, body = dict(message.headers), message.body.decode()
    if mode == "batch":
        # The SDK writes single events; a batch is the list of them (JSON format, section 4).
        headers, body = {"content-type": "application/cloudevents-batch+json"}, f"[{body}]"
    return {"headers": headers, "body": body}


def read(headers, body):
    event = from_http_event(HTTPMessage(headers=headers, body=body.encode()))
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    return {"attributes": attributes, "data": event.get_data()}


for line in sys.stdin:
    command = json.loads(line)
    if "make" in command:
        told = make(command["make"], command["attributes"], command["data"])
    else:
        told = read(command["read"]["headers"], command["read"]["body"])
    print(json.dumps(told), flush=True)
