"""The lesson's smallest program: a durable queue, one message in, one message out, acknowledged."""

import json
import os

import pika


def main():
    url = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue="demo.q", durable=True)
    channel.confirm_delivery()

    body = json.dumps({"id": "m1", "payload": "hello"}, separators=(",", ":")).encode()
    channel.basic_publish(exchange="", routing_key="demo.q", body=body, mandatory=True, properties=pika.BasicProperties(
        message_id="m1", content_type="application/json", delivery_mode=2))

    method, properties, body = channel.basic_get(queue="demo.q", auto_ack=False)
    print("got:", body.decode())
    channel.basic_ack(method.delivery_tag)
    connection.close()


if __name__ == "__main__":
    main()
