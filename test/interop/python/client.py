"""Checks a broker with pika, the Python client.

Reads AMQP_URL, prints one line per check and exits 0 only if all pass. Every name carries one random
prefix and is deleted at the end.
"""

import datetime
import decimal
import os
import re
import sys
import uuid

import pika
from pika.exceptions import ChannelClosedByBroker

PUBLISHED = 100
PREFETCH = 10
WAIT_SECONDS = 20


class CheckFailed(Exception):
    pass


def equal(what, got, want):
    if got != want:
        raise CheckFailed(f"{what} is {got!r}, want {want!r}")


def expect_close(code, text, operation):
    try:
        operation()
    except ChannelClosedByBroker as closed:
        equal("close", (closed.reply_code, closed.reply_text), (code, text))
        return
    raise CheckFailed(f"the channel stayed open, want a close with {code}")


def code_and_text(error):
    """pika keeps what the server said only in the words of its own error."""
    found = re.search(r"\((\d+)\) ['\"](.*)['\"]", str(error.args[0]) if error.args else "")
    return f"{found[1]} {found[2]}" if found else repr(error)


class Suite:
    def __init__(self, url):
        prefix = "interop.pika." + uuid.uuid4().hex[:8]
        self.url = url
        self.exchange, self.queue = prefix + ".x", prefix + ".q"
        self.dead_exchange, self.dead_queue = prefix + ".dlx", prefix + ".dead"
        self.audit_exchange = prefix + ".audit"
        self.connection = None

    def connect(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(self.url))
        channel = self.connection.channel()
        equal("channel is open", channel.is_open, True)
        channel.close()
        for name in ("publisher_confirms", "basic_nack", "consumer_cancel_notify", "exchange_exchange_bindings"):
            equal("server supports " + name, getattr(self.connection, name + "_supported"), True)

    def declare(self, channel):
        channel.exchange_declare(self.exchange, "direct", durable=True)
        channel.exchange_declare(self.dead_exchange, "fanout", durable=True)
        channel.exchange_declare(self.audit_exchange, "topic", durable=True)
        channel.exchange_bind(self.audit_exchange, self.exchange, "unused")
        for _ in range(2):  # the second time it exists and is equivalent
            ok = channel.queue_declare(self.queue, durable=True, arguments={"x-dead-letter-exchange": self.dead_exchange})
            equal("declare-ok", (ok.method.queue, ok.method.message_count, ok.method.consumer_count), (self.queue, 0, 0))
        channel.queue_declare(self.dead_queue, durable=True)
        channel.queue_bind(self.queue, self.exchange, "work")
        channel.queue_bind(self.dead_queue, self.dead_exchange)

    def publish(self, channel, body, **properties):
        mandatory = properties.pop("mandatory", False)
        key = properties.pop("key", "work")
        channel.basic_publish(self.exchange, key, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory)

    def take(self, channel, queue=None):
        method, properties, body = channel.basic_get(queue or self.queue)
        if method is None:
            raise CheckFailed(f"{queue or self.queue} is empty")
        return method, properties, body

    def confirms(self, channel):
        channel.confirm_delivery()
        for i in range(PUBLISHED):  # each call waits for its confirm and raises on a nack or a return
            self.publish(channel, b"message %d" % i, mandatory=True)

    def prefetch(self, channel):
        channel.basic_qos(prefetch_count=PREFETCH)
        received, held = 0, []
        for method, _, body in channel.consume(self.queue, inactivity_timeout=WAIT_SECONDS):
            if method is None:
                raise CheckFailed(f"no delivery after {received}")
            equal("body", body, b"message %d" % received)
            received += 1
            held.append(method.delivery_tag)
            if len(held) < PREFETCH:
                continue
            ready = channel.queue_declare(self.queue, passive=True).method.message_count
            equal("ready while a full prefetch is held", ready, PUBLISHED - received)
            equal("deliveries beyond the prefetch", channel.get_waiting_message_count(), 0)
            for tag in held[:-2]:
                channel.basic_ack(tag)
            if received == PUBLISHED:
                channel.basic_ack(held[-1], multiple=True)
                break
            channel.basic_ack(held[-1], multiple=True)
            held = []
        equal("requeued by cancel", channel.cancel(), 0)

    def dead_letter(self, channel):
        self.publish(channel, b"bad", headers={"kept": "yes"})
        method, _, _ = self.take(channel)
        channel.basic_nack(method.delivery_tag, requeue=False)
        method, properties, body = self.wait_for(channel, self.dead_queue)
        equal("body", body, b"bad")
        equal("exchange and key", (method.exchange, method.routing_key), (self.dead_exchange, "work"))
        deaths = properties.headers["x-death"]
        equal("number of x-death entries", len(deaths), 1)
        died = deaths[0].pop("time", None)
        equal("type of x-death time", type(died), datetime.datetime)
        equal("x-death", deaths[0], {"reason": "rejected", "count": 1, "queue": self.queue,
                                     "exchange": self.exchange, "routing-keys": ["work"]})
        equal("x-first-death-reason", properties.headers["x-first-death-reason"], "rejected")
        equal("own header", properties.headers["kept"], "yes")

    def wait_for(self, channel, queue):
        for method, properties, body in channel.consume(queue, inactivity_timeout=WAIT_SECONDS):
            if method is None:
                break
            channel.basic_ack(method.delivery_tag)
            channel.cancel()
            return method, properties, body
        raise CheckFailed(f"nothing arrived in {queue}")

    def reject_and_requeue(self, channel):
        self.publish(channel, b"again")
        method, _, _ = self.take(channel)
        equal("redelivered at first", method.redelivered, False)
        channel.basic_reject(method.delivery_tag, requeue=True)
        method, _, _ = self.take(channel)
        equal("redelivered", method.redelivered, True)
        channel.basic_recover(requeue=True)
        method, _, _ = self.take(channel)
        equal("redelivered after recover", method.redelivered, True)
        channel.basic_ack(method.delivery_tag)

    def headers(self, channel):
        when = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)
        sent = {  # every type that pika can encode; it has none for floating point
            "true": True, "false": False, "int": 7, "negative": -320000, "long": 1 << 40, "decimal": decimal.Decimal("3.14"),
            "string": "grüße, 世界", "empty": "", "bytes": b"\x00\x01\xfe\xff", "time": when, "none": None,
            "array": [1, "two", True, {"deep": 3}], "table": {"inner": {"leaf": "x"}},
        }
        self.publish(channel, b"{}", headers=sent, content_type="application/json", content_encoding="identity", priority=3,
                     correlation_id="corr", reply_to="reply", expiration="600000", message_id="id-1", timestamp=1700000000,
                     type="order", app_id="interop")
        method, got, _ = self.take(channel)
        channel.basic_ack(method.delivery_tag)
        equal("header names", sorted(got.headers), sorted(sent))
        for name, value in sent.items():
            back = got.headers[name]
            if isinstance(back, datetime.datetime) and back.tzinfo is None:
                back = back.replace(tzinfo=datetime.timezone.utc)
            equal("header " + name, back, value)
            equal(f"header {name} has type {type(value).__name__}", isinstance(back, type(value)), True)
        equal("properties", (got.content_type, got.content_encoding, got.delivery_mode, got.priority, got.correlation_id, got.reply_to,
                             got.expiration, got.message_id, got.timestamp, got.type, got.app_id),
              ("application/json", "identity", 2, 3, "corr", "reply", "600000", "id-1", 1700000000, "order", "interop"))

    def missing_queue(self, channel):
        name = self.queue + ".missing"
        expect_close(404, f"NOT_FOUND - no queue '{name}' in vhost '/'", lambda: channel.queue_declare(name, passive=True))

    def inequivalent(self, channel):
        expect_close(406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{self.dead_queue}' in vhost '/': "
                          "received 'false' but current is 'true'", lambda: channel.queue_declare(self.dead_queue))
        expect_close(406, f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{self.exchange}' in vhost '/': "
                          "received 'topic' but current is 'direct'",
                     lambda: self.connection.channel().exchange_declare(self.exchange, "topic", durable=True))

    def missing_exchange(self, channel):
        channel.confirm_delivery()
        name = self.exchange + ".missing"
        expect_close(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", lambda: channel.basic_publish(name, "k", b""))

    def mandatory(self, channel):
        channel.confirm_delivery()
        try:
            self.publish(channel, b"lost", key="nowhere", mandatory=True)
        except pika.exceptions.UnroutableError as error:
            (returned,) = error.messages
            equal("return", (returned.method.reply_code, returned.method.reply_text, returned.method.routing_key, returned.body),
                  (312, "NO_ROUTE", "nowhere", b"lost"))
            return
        raise CheckFailed("the message was not returned")

    def get(self, channel):
        equal("get on an empty queue", channel.basic_get(self.queue), (None, None, None))
        self.publish(channel, b"one")
        self.publish(channel, b"two")
        for body, left in ((b"one", 1), (b"two", 0)):
            method, _, got = self.take(channel)
            equal("got", (got, method.message_count, method.exchange, method.routing_key), (body, left, self.exchange, "work"))
            channel.basic_ack(method.delivery_tag)

    def transactions(self, channel):
        def ready():
            other = self.connection.channel()
            count = other.queue_declare(self.queue, passive=True).method.message_count
            other.close()
            return count

        channel.tx_select()
        self.publish(channel, b"tx")
        equal("ready before commit", ready(), 0)
        channel.tx_commit()
        equal("ready after commit", ready(), 1)
        self.publish(channel, b"never")
        channel.tx_rollback()
        channel.tx_commit()
        equal("ready after rollback", ready(), 1)
        method, _, _ = self.take(channel)
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()

    def refused_connections(self, _):
        """A wrong password and a missing vhost: closes of a connection that was never open."""
        good = pika.URLParameters(self.url)
        for change, code, text in (
            ({"credentials": pika.PlainCredentials(good.credentials.username, "wrong")}, 403,
             "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."),
            ({"virtual_host": "interop-missing"}, 530, "NOT_ALLOWED - vhost interop-missing not found"),
        ):
            params = pika.URLParameters(self.url)
            for name, value in change.items():
                setattr(params, name, value)
            try:
                pika.BlockingConnection(params).close()
            except pika.exceptions.AMQPConnectionError as error:
                equal("refusal", code_and_text(error), f"{code} {text}")
            else:
                raise CheckFailed(f"connected, want a close with {code}")

    def big(self, channel):
        body = os.urandom(1 << 20)
        self.publish(channel, body)
        method, _, got = self.take(channel)
        channel.basic_ack(method.delivery_tag)
        if got != body:
            raise CheckFailed(f"the body changed on the way ({len(body)} bytes sent, {len(got)} received)")

    def server_cancel(self, channel):
        name = self.queue + ".doomed"
        channel.queue_declare(name, durable=True)
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        channel.basic_consume(name, lambda *_: None, consumer_tag="doomed")
        other = self.connection.channel()
        other.queue_delete(name)
        other.close()
        self.connection.process_data_events(time_limit=0 if cancelled else WAIT_SECONDS)
        equal("cancelled consumers", cancelled, ["doomed"])

    def clean_up(self, channel):
        left = [channel.queue_delete(queue).method.message_count for queue in (self.queue, self.dead_queue)]
        for exchange in (self.exchange, self.dead_exchange, self.audit_exchange):
            channel.exchange_delete(exchange)
        equal("messages left in the queues", left, [0, 0])
        expect_close(404, f"NOT_FOUND - no queue '{self.queue}' in vhost '/'",
                     lambda: channel.queue_declare(self.queue, passive=True))


def main():
    url = os.getenv("AMQP_URL")
    if not url:
        sys.exit("pika: set AMQP_URL, for example amqp://guest:guest@localhost:5672/")
    suite = Suite(url)
    failed = 0

    def report(name, check):
        nonlocal failed
        try:
            check()
        except Exception as error:  # a check that breaks in an unforeseen way has failed too
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}")
            return False
        print(f"ok   {name}")
        return True

    def on_channel(check):
        channel = suite.connection.channel()
        try:
            check(channel)
        finally:
            if channel.is_open:
                channel.close()

    if not report("connect", suite.connect) or not report("declare durable exchanges, queues, bindings", lambda: on_channel(suite.declare)):
        sys.exit(1)
    for name, check in (
        ("publish 100 with confirms", suite.confirms),
        ("consume with prefetch 10", suite.prefetch),
        ("nack without requeue is dead-lettered", suite.dead_letter),
        ("rejected and recovered messages come back redelivered", suite.reject_and_requeue),
        ("headers of every type round trip", suite.headers),
        ("passive declare of a missing queue closes with 404", suite.missing_queue),
        ("redeclare with other arguments closes with 406", suite.inequivalent),
        ("publish to a missing exchange closes with 404", suite.missing_exchange),
        ("mandatory message returns before its confirm", suite.mandatory),
        ("basic.get", suite.get),
        ("transactions", suite.transactions),
        ("1 MiB message", suite.big),
        ("wrong password is refused with 403, missing vhost with 530", suite.refused_connections),
        ("consumer is cancelled when its queue goes", suite.server_cancel),
        ("clean up", suite.clean_up),
    ):
        report(name, lambda: on_channel(check))
    suite.connection.close()
    if failed:
        sys.exit(f"{failed} checks failed")


if __name__ == "__main__":
    main()
