"""Publisher confirms, and a consumer that recognizes what it has handled, with pika."""

import os
import sqlite3

import pika
from pika.exceptions import UnroutableError

QUEUE = "lesson.payments.python"


def publish(channel, id, order):
    """Returns whether the broker has the message in a queue."""
    properties = pika.BasicProperties(delivery_mode=2, message_id=id)
    try:
        channel.basic_publish("", QUEUE, order.encode(), properties, mandatory=True)
    except UnroutableError:
        return False
    return True


def charge(database, id, order):
    """Charges once: the record that the message was handled commits with the charge."""
    with database:  # one transaction
        new = database.execute("INSERT OR IGNORE INTO handled (id) VALUES (?)", (id,)).rowcount
        if new:
            database.execute("INSERT INTO charges (order_id) VALUES (?)", (order,))


def main():
    url = os.getenv("AMQP_URL") or "amqp://guest:guest@localhost:5672/"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_delete(QUEUE)
    print("no queue yet, confirmed:", publish(channel, "p-0", "6"))
    channel.queue_declare(QUEUE, durable=True)
    for id, order in [("p-1", "7"), ("p-1", "7"), ("p-2", "8")]:  # p-1 again: its confirm was lost
        print(f"publish {id}, confirmed:", publish(channel, id, order))

    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE handled (id TEXT PRIMARY KEY)")
    database.execute("CREATE TABLE charges (order_id TEXT)")
    delivered = 0
    while True:
        method, properties, body = channel.basic_get(QUEUE)
        if not method:
            break
        delivered += 1
        charge(database, properties.message_id, body.decode())
        channel.basic_ack(method.delivery_tag)  # after the commit, never before
    charged = database.execute("SELECT count(*) FROM charges").fetchone()[0]
    print(f"delivered {delivered}, charged {charged}")
    channel.queue_delete(QUEUE)
    connection.close()


if __name__ == "__main__":
    main()
