"""The steps of the lesson this project grew from, with the Python client pika.

Reads AMQP_URL; declares a durable queue, publishes one JSON message, takes it with basic_get without
automatic acknowledgement, checks it and acknowledges it. Exits 0 only if each step did what it says.
"""

import json
import os
import sys
import time
import uuid

import pika


def step(name, ok, detail=""):
    print(("ok   " if ok else "FAIL ") + name + (f": {detail}" if detail and not ok else ""))
    if not ok:
        sys.exit(1)


def main():
    url = os.getenv("AMQP_URL")
    if not url:
        sys.exit("seed: set AMQP_URL, for example amqp://guest:guest@localhost:5672/")
    queue = "interop.seed." + uuid.uuid4().hex[:8]
    order = {"id": "m1", "payload": "hello"}

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    step("connect", channel.is_open)

    declared = channel.queue_declare(queue=queue, durable=True)
    step("declare a durable queue", declared.method.queue == queue and declared.method.message_count == 0, declared)
    try:
        channel.basic_publish(exchange="", routing_key=queue, body=json.dumps(order).encode())
        step("publish through the default exchange", True)

        method, properties, body = channel.basic_get(queue=queue, auto_ack=False)
        step("basic_get finds it", method is not None and json.loads(body) == order, body)
        step("not redelivered, nothing behind it", not method.redelivered and method.message_count == 0, method)

        channel.basic_ack(method.delivery_tag)
        method, _, _ = channel.basic_get(queue=queue, auto_ack=False)
        step("after the ack the queue is empty", method is None, method)

        # What was published but not acknowledged must outlive the connection that took it.
        channel.basic_publish(exchange="", routing_key=queue, body=b"unfinished")
        method, _, _ = channel.basic_get(queue=queue, auto_ack=False)
        step("take a message and leave without acknowledging", method is not None)
        connection.close()
        connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = connection.channel()
        # The broker gives it back when it notices that the connection is gone, which may be a moment later.
        deadline = time.monotonic() + 10
        method, _, body = channel.basic_get(queue=queue, auto_ack=False)
        while method is None and time.monotonic() < deadline:
            connection.sleep(0.02)
            method, _, body = channel.basic_get(queue=queue, auto_ack=False)
        step("it is back, marked redelivered", method is not None and method.redelivered and body == b"unfinished", method)
        channel.basic_ack(method.delivery_tag)
    finally:
        connection.channel().queue_delete(queue)
        connection.close()
    step("clean up", True)


if __name__ == "__main__":
    main()
