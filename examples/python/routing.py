"""Which queues get a message: exchanges, bindings and routing keys, with pika."""

import os

import pika
from pika.exceptions import UnroutableError

QUEUES = ["lesson.alarm", "lesson.archive", "lesson.mail"]
BINDINGS = [
    ("lesson.direct", "error", "lesson.alarm"),
    ("lesson.direct", "error", "lesson.archive"),
    ("lesson.direct", "info", "lesson.archive"),
    ("lesson.topic", "*.*.failed", "lesson.alarm"),  # * is one word
    ("lesson.topic", "order.#", "lesson.archive"),  # # is any number of words, also none
    ("lesson.topic", "order.eu.*", "lesson.mail"),
    ("lesson.fanout", "", "lesson.alarm"),
    ("lesson.fanout", "", "lesson.archive"),
    ("lesson.fanout", "", "lesson.mail"),
]
MESSAGES = [
    ("lesson.direct", "error"), ("lesson.direct", "info"), ("lesson.direct", "debug"),
    ("lesson.topic", "order.eu.paid"), ("lesson.topic", "order.us.failed"), ("lesson.topic", "order"),
    ("lesson.topic", "user.eu.created"), ("lesson.fanout", "whatever"), ("", "lesson.mail"),
]


def main():
    url = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in QUEUES:
        channel.queue_declare(queue, exclusive=True)
    for kind in ["direct", "topic", "fanout"]:
        channel.exchange_declare("lesson." + kind, kind, auto_delete=True)
    for exchange, key, queue in BINDINGS:
        channel.queue_bind(queue, exchange, key)

    channel.confirm_delivery()  # from now on basic_publish waits for the confirm
    for exchange, key in MESSAGES:
        try:
            channel.basic_publish(exchange, key, b"hello", mandatory=True)
        except UnroutableError as error:
            method = error.messages[0].method
            got = f"no queue: returned with {method.reply_code} {method.reply_text}"
        else:
            got = ", ".join(q[len("lesson."):] for q in QUEUES if channel.basic_get(q, auto_ack=True)[0])
        print(f"{exchange:13}  {key:15}  -> {got}")
    connection.close()


if __name__ == "__main__":
    main()
