"""What a consumer is sent without and with a bound, with pika."""

import os

import pika

QUEUE = "lesson.prefetch"


def fill(connection, n):
    """Makes a new queue with n messages."""
    channel = connection.channel()
    channel.queue_delete(QUEUE)
    channel.queue_declare(QUEUE, exclusive=True)
    publish(channel, n)
    return channel


def publish(channel, n):
    for _ in range(n):
        channel.basic_publish("", QUEUE, b"")


def consume(connection, prefetch):
    """Starts a consumer and returns its channel and the list of what it gets."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)  # 0 means no bound
    got = []
    channel.basic_consume(QUEUE, lambda ch, method, properties, body: got.append(method.delivery_tag))
    return channel, got


def until(connection, condition):
    while not condition():
        connection.process_data_events(time_limit=0.1)


def waiting(channel):
    return channel.queue_declare(QUEUE, passive=True).method.message_count


def flood(connection, prefetch):
    publisher = fill(connection, 1000)
    channel, got = consume(connection, prefetch)
    want = prefetch or 1000
    until(connection, lambda: len(got) >= want)
    print(f"  prefetch {prefetch}: it holds {len(got)}, {waiting(publisher)} wait at the broker")
    if prefetch:
        channel.basic_ack(got[-1])  # there is room for one more
        until(connection, lambda: len(got) > want)
        print(f"  after an ack it got one more: {waiting(publisher)} wait")


def share(connection, prefetch):
    """The slow consumer is not done with its first message before all the others have been handled."""
    publisher = fill(connection, 0)
    _, slow = consume(connection, prefetch)
    channel, fast = consume(connection, prefetch)
    publish(publisher, 20)
    want = 19 if prefetch else 10  # the others were promised to the slow one long ago
    handled = 0
    while handled < want:
        until(connection, lambda: len(fast) > handled)
        channel.basic_ack(fast[handled])
        handled += 1
    until(connection, lambda: slow)
    left = waiting(publisher)
    print(f"  prefetch {prefetch}: the fast one handled {handled}, {left} wait at the broker, "
          f"{20 - handled - left} with the slow one")


def main():
    url = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    print("A consumer that acknowledges nothing; 1000 messages:")
    for prefetch in [0, 10]:
        flood(connection, prefetch)
    print("A slow and a fast consumer; 20 messages:")
    for prefetch in [0, 1]:
        share(connection, prefetch)
    connection.close()


if __name__ == "__main__":
    main()
