"""What becomes of messages whose consumer dies or refuses them, with pika."""

import os
import time

import pika

URL = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
QUEUE, DEAD = "lesson.acks", "lesson.acks.dead"
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def consume_and_die(auto_ack):
    """A consumer that gets three messages, finishes one, and dies."""
    connection = connect()
    channel = connection.channel()
    got = []
    for method, _, _ in channel.consume(QUEUE, auto_ack=auto_ack):
        got.append(method.delivery_tag)
        if len(got) == 3:
            break
    if not auto_ack:
        channel.basic_ack(got[0])  # now, and only now, the broker forgets it
    connection.close()  # the crash: two messages are in its memory


def take(channel, queue):
    """Waits for a message: the broker gives it back when it notices that its consumer is gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue)
        if method:
            return method, properties, body.decode()
        channel.connection.sleep(0.01)
    raise TimeoutError("no message in " + queue)


def main():
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(DEAD, durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD})
    channel.queue_purge(QUEUE)
    channel.queue_purge(DEAD)
    channel.confirm_delivery()

    for auto_ack in [True, False]:
        for body in ["m1", "m2", "m3"]:
            channel.basic_publish("", QUEUE, body.encode(), PERSISTENT, mandatory=True)
        consume_and_die(auto_ack)
        print(f"auto_ack={str(auto_ack).lower()}: the consumer got 3, finished 1 and died. Left:")
        if auto_ack:
            left = channel.queue_declare(QUEUE, passive=True).method.message_count
            print(f"  {left} messages")
            continue
        for _ in range(2):
            method, _, body = take(channel, QUEUE)
            print(f"  {body} redelivered={str(method.redelivered).lower()}")
            channel.basic_ack(method.delivery_tag)

    channel.basic_publish("", QUEUE, b"m4", PERSISTENT, mandatory=True)
    for requeue in [True, False]:
        method, _, body = take(channel, QUEUE)
        print(f"nack {body} requeue={str(requeue).lower()} (redelivered={str(method.redelivered).lower()})")
        channel.basic_nack(method.delivery_tag, requeue=requeue)
    method, properties, body = take(channel, DEAD)
    headers = properties.headers
    print(f"{body} is in {DEAD}, because it was {headers['x-first-death-reason']} in {headers['x-first-death-queue']}")
    channel.basic_ack(method.delivery_tag)

    channel.queue_delete(QUEUE)
    channel.queue_delete(DEAD)
    connection.close()


if __name__ == "__main__":
    main()
