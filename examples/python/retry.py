"""Delayed retries made by hand of TTL and dead-letter exchanges, with pika.

  lesson.work  -- attempt 1 failed -->  lesson.wait.1 (250 ms)  -- expired -->  lesson.work
               -- attempt 2 failed -->  lesson.wait.2 (500 ms)  -- expired -->  lesson.work
               -- attempt 3 failed -->  lesson.dead
"""

import os
import time

import pika

WORK, DEAD = "lesson.work", "lesson.dead"
DELAYS = [250, 500]  # milliseconds before attempts 2 and 3: exponential backoff, one queue for each delay


def wait_queue(attempt):
    return f"lesson.wait.{attempt}"


def declare(channel):
    channel.queue_declare(WORK, durable=True)
    channel.queue_declare(DEAD, durable=True)
    for attempt, delay in enumerate(DELAYS, start=1):
        channel.queue_declare(wait_queue(attempt), durable=True, arguments={
            "x-message-ttl": delay,
            "x-dead-letter-exchange": "",  # the default exchange: the key is the queue's name
            "x-dead-letter-routing-key": WORK,
        })
    for queue in [WORK, DEAD] + [wait_queue(i + 1) for i in range(len(DELAYS))]:
        channel.queue_purge(queue)


def handle(city, attempt):
    if city == "Lima" and attempt < 3:
        raise RuntimeError("the truck is late")  # this passes
    if city == "Atlantis":
        raise RuntimeError("no road to Atlantis")  # this does not


def consume(channel, method, properties, body):
    attempt = (properties.headers or {}).get("attempt", 1)
    try:
        handle(body.decode(), attempt)
        outcome, target = "shipped", None
    except RuntimeError as error:
        outcome = f"{error}"
        target = wait_queue(attempt) if attempt <= len(DELAYS) else DEAD
    if target:
        # First the copy, confirmed; then the ack. A crash in between makes two, never none.
        channel.basic_publish("", target, body, pika.BasicProperties(
            delivery_mode=2, message_id=properties.message_id,
            headers={"attempt": attempt + 1, "error": outcome}), mandatory=True)
    channel.basic_ack(method.delivery_tag)
    return properties.message_id, f"attempt {attempt}: {outcome}"


def main():
    url = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    declare(channel)
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=1)
    orders = {"m1": "Kyoto", "m2": "Lima", "m3": "Atlantis"}
    log = {id: [] for id in orders}
    for id, city in orders.items():
        channel.basic_publish("", WORK, city.encode(), pika.BasicProperties(delivery_mode=2, message_id=id), mandatory=True)

    deadline = time.monotonic() + 30
    while sum(map(len, log.values())) < 7 and time.monotonic() < deadline:
        method, properties, body = channel.basic_get(WORK)
        if method:
            id, line = consume(channel, method, properties, body)
            log[id].append(line)
        else:
            connection.sleep(0.01)
    for id, lines in log.items():
        print(f"{id}: {'; '.join(lines)}")
    method, properties, body = channel.basic_get(DEAD)
    print(f"dead letter {properties.message_id}: {properties.headers['error']}")
    channel.basic_ack(method.delivery_tag)
    for queue in [WORK, DEAD] + [wait_queue(i + 1) for i in range(len(DELAYS))]:
        channel.queue_delete(queue)
    connection.close()


if __name__ == "__main__":
    main()
