import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DeliverCallback;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Checks a broker with RabbitMQ's official Java client.
 *
 * <p>Reads AMQP_URL, prints one line per check and exits 0 only if all pass. Every name carries one
 * random prefix and is deleted at the end.
 */
public final class Interop {
    private static final int PUBLISHED = 100;
    private static final int PREFETCH = 10;
    private static final int WAIT_MS = 20_000;

    private interface Check {
        void run(Channel channel) throws Exception;
    }

    private final String url;
    private final String exchange;
    private final String queue;
    private final String deadExchange;
    private final String deadQueue;
    private Connection connection;
    private int failed;

    private Interop(String url) {
        String prefix = "interop.java." + UUID.randomUUID().toString().substring(0, 8);
        // The client takes a lone slash at the end as the vhost with the empty name.
        this.url = url.replaceFirst("(?<=[^/])/$", "");
        exchange = prefix + ".x";
        queue = prefix + ".q";
        deadExchange = prefix + ".dlx";
        deadQueue = prefix + ".dead";
    }

    public static void main(String[] args) throws Exception {
        String url = System.getenv("AMQP_URL");
        if (url == null || url.isEmpty()) {
            System.err.println("java: set AMQP_URL, for example amqp://guest:guest@localhost:5672/");
            System.exit(2);
        }
        int failed = new Interop(url).runAll();
        if (failed > 0) {
            System.out.println(failed + " checks failed");
        }
        System.exit(failed > 0 ? 1 : 0);
    }

    private int runAll() throws Exception {
        if (!report("connect", this::connect) || !report("declare durable exchanges, queues, bindings", () -> onChannel(this::declare))) {
            return failed;
        }
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("publish 100 with confirms", this::confirms);
        checks.put("consume with prefetch 10", this::prefetch);
        checks.put("nack without requeue is dead-lettered", this::deadLetter);
        checks.put("rejected message comes back redelivered", this::requeue);
        checks.put("headers of every type round trip", this::headers);
        checks.put("passive declare of a missing queue closes with 404", this::missingQueue);
        checks.put("redeclare with other arguments closes with 406", this::inequivalent);
        checks.put("mandatory message returns before its confirm", this::mandatory);
        checks.put("basic.get", this::get);
        checks.put("transactions", this::transactions);
        checks.put("1 MiB message", this::big);
        checks.put("wrong password is refused with 403, missing vhost with 530", this::refusedConnections);
        checks.put("consumer is cancelled when its queue goes", this::serverCancel);
        checks.put("clean up", this::cleanUp);
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            report(check.getKey(), () -> onChannel(check.getValue()));
        }
        connection.close(WAIT_MS);
        return failed;
    }

    private interface Step {
        void run() throws Exception;
    }

    private boolean report(String name, Step step) {
        try {
            step.run();
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("FAIL " + name + ": " + error);
            return false;
        }
        System.out.println("ok   " + name);
        return true;
    }

    private void onChannel(Check check) throws Exception {
        Channel channel = connection.createChannel();
        try {
            check.run(channel);
        } finally {
            if (channel.isOpen()) {
                channel.close();
            }
        }
    }

    private static void equal(String what, Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new AssertionError(what + " is " + got + ", want " + want);
        }
    }

    private static void expectClose(int code, String text, Step operation) throws Exception {
        try {
            operation.run();
        } catch (IOException | AlreadyClosedException error) {
            Throwable cause = error instanceof AlreadyClosedException ? error : error.getCause();
            if (cause instanceof ShutdownSignalException
                    && ((ShutdownSignalException) cause).getReason() instanceof AMQP.Channel.Close) {
                AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) cause).getReason();
                equal("close", close.getReplyCode() + " " + close.getReplyText(), code + " " + text);
                return;
            }
            throw error;
        }
        throw new AssertionError("the channel stayed open, want a close with " + code);
    }

    private static <T> T next(String what, BlockingQueue<T> arrived) throws InterruptedException {
        T item = arrived.poll(WAIT_MS, TimeUnit.MILLISECONDS);
        if (item == null) {
            throw new AssertionError("no " + what + " within " + WAIT_MS + " ms");
        }
        return item;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private void connect() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setAutomaticRecoveryEnabled(false);
        factory.setConnectionTimeout(WAIT_MS);
        factory.setChannelRpcTimeout(WAIT_MS);
        connection = factory.newConnection();
        Map<?, ?> capabilities = (Map<?, ?>) connection.getServerProperties().get("capabilities");
        for (String name : List.of("publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings")) {
            equal("server capability " + name, capabilities.get(name), true);
        }
    }

    private void declare(Channel channel) throws Exception {
        channel.exchangeDeclare(exchange, "direct", true);
        channel.exchangeDeclare(deadExchange, "fanout", true);
        for (int i = 0; i < 2; i++) { // the second time it exists and is equivalent
            AMQP.Queue.DeclareOk ok = channel.queueDeclare(queue, true, false, false, Map.of("x-dead-letter-exchange", deadExchange));
            equal("declare-ok", List.of(ok.getQueue(), ok.getMessageCount(), ok.getConsumerCount()), List.of(queue, 0, 0));
        }
        channel.queueDeclare(deadQueue, true, false, false, null);
        channel.queueBind(queue, exchange, "work");
        channel.queueBind(deadQueue, deadExchange, "");
    }

    private void publish(Channel channel, String body) throws IOException {
        channel.basicPublish(exchange, "work", new AMQP.BasicProperties.Builder().deliveryMode(2).build(), bytes(body));
    }

    private GetResponse take(Channel channel) throws IOException {
        GetResponse got = channel.basicGet(queue, false);
        if (got == null) {
            throw new AssertionError(queue + " is empty");
        }
        return got;
    }

    private void confirms(Channel channel) throws Exception {
        AtomicInteger nacked = new AtomicInteger();
        channel.addConfirmListener((tag, multiple) -> { }, (tag, multiple) -> nacked.incrementAndGet());
        channel.confirmSelect();
        for (int i = 0; i < PUBLISHED; i++) {
            publish(channel, "message " + i);
        }
        equal("all confirmed", channel.waitForConfirms(WAIT_MS), true);
        equal("nacked", nacked.get(), 0);
        equal("next publish number", channel.getNextPublishSeqNo(), (long) PUBLISHED + 1);
    }

    private void prefetch(Channel channel) throws Exception {
        BlockingQueue<Delivery> arrived = new LinkedBlockingQueue<>();
        channel.basicQos(PREFETCH);
        DeliverCallback deliver = (tag, delivery) -> arrived.add(delivery);
        channel.basicConsume(queue, false, deliver, tag -> { });
        for (int received = 0; received < PUBLISHED; ) {
            List<Long> held = new ArrayList<>();
            while (held.size() < PREFETCH) {
                Delivery delivery = next("delivery", arrived);
                equal("body", text(delivery.getBody()), "message " + received++);
                held.add(delivery.getEnvelope().getDeliveryTag());
            }
            // While a full prefetch is held the queue must still count the rest as ready.
            equal("ready", channel.messageCount(queue), (long) PUBLISHED - received);
            equal("deliveries beyond the prefetch", arrived.size(), 0);
            channel.basicAck(held.get(0), false);
            channel.basicAck(held.get(PREFETCH - 1), true);
        }
    }

    private void deadLetter(Channel channel) throws Exception {
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(Map.of("kept", "yes")).build();
        channel.basicPublish(exchange, "work", properties, bytes("bad"));
        channel.basicNack(take(channel).getEnvelope().getDeliveryTag(), false, false);
        BlockingQueue<Delivery> arrived = new LinkedBlockingQueue<>();
        DeliverCallback deliver = (tag, delivery) -> arrived.add(delivery);
        channel.basicConsume(deadQueue, true, deliver, tag -> { });
        Delivery dead = next("dead letter", arrived);
        equal("body", text(dead.getBody()), "bad");
        equal("exchange", dead.getEnvelope().getExchange(), deadExchange);
        equal("routing key", dead.getEnvelope().getRoutingKey(), "work");
        Map<String, Object> headers = dead.getProperties().getHeaders();
        List<?> deaths = (List<?>) headers.get("x-death");
        equal("number of x-death entries", deaths.size(), 1);
        Map<?, ?> death = (Map<?, ?>) deaths.get(0);
        equal("x-death time is a timestamp", death.get("time") instanceof Date, true);
        equal("x-death count", death.get("count"), 1L);
        equal("x-death reason", death.get("reason").toString(), "rejected");
        equal("x-death queue", death.get("queue").toString(), queue);
        equal("x-death exchange", death.get("exchange").toString(), exchange);
        equal("x-death routing-keys", death.get("routing-keys").toString(), "[work]");
        equal("x-first-death-reason", headers.get("x-first-death-reason").toString(), "rejected");
        equal("own header", headers.get("kept").toString(), "yes");
    }

    private void requeue(Channel channel) throws Exception {
        publish(channel, "again");
        GetResponse got = take(channel);
        equal("redelivered at first", got.getEnvelope().isRedeliver(), false);
        channel.basicReject(got.getEnvelope().getDeliveryTag(), true);
        got = take(channel);
        equal("redelivered", got.getEnvelope().isRedeliver(), true);
        channel.basicRecover(true);
        got = take(channel);
        equal("redelivered after recover", got.getEnvelope().isRedeliver(), true);
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
    }

    private void headers(Channel channel) throws Exception {
        Map<String, Object> sent = new LinkedHashMap<>();
        sent.put("true", true);
        sent.put("false", false);
        sent.put("byte", (byte) -8);
        sent.put("short", (short) -1600);
        sent.put("int", -320000);
        sent.put("long", 1L << 40);
        sent.put("float", 1.5f);
        sent.put("double", 2.25);
        sent.put("decimal", new BigDecimal("3.14"));
        sent.put("string", "grüße, 世界");
        sent.put("empty", "");
        sent.put("bytes", new byte[] {0, 1, -2, -1});
        sent.put("time", new Date(1_700_000_000_000L));
        sent.put("null", null);
        sent.put("array", Arrays.asList(1, "two", true, Map.of("deep", 3L)));
        sent.put("table", Map.of("inner", Map.of("leaf", "x")));
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(sent).contentType("application/json")
                .contentEncoding("identity").deliveryMode(2).priority(3).correlationId("corr").replyTo("reply").expiration("600000")
                .messageId("id-1").timestamp(new Date(1_700_000_000_000L)).type("order").appId("interop").build();
        channel.basicPublish(exchange, "work", properties, bytes("{}"));
        GetResponse got = take(channel);
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        AMQP.BasicProperties back = got.getProps();
        equal("headers", plain(back.getHeaders()).toString(), plain(sent).toString());
        for (Map.Entry<String, Object> header : sent.entrySet()) {
            Object value = back.getHeaders().get(header.getKey());
            if (header.getValue() != null && !(value instanceof LongString) && !(value instanceof Map) && !(value instanceof List)) {
                equal("class of header " + header.getKey(), value.getClass(), header.getValue().getClass());
            }
        }
        equal("properties", back.builder().headers(null).build().toString(), properties.builder().headers(null).build().toString());
    }

    /** Strings arrive as LongString and maps in any order: brings both sides to one form for comparing. */
    private static Object plain(Object value) {
        if (value instanceof Map) {
            Map<String, Object> sorted = new java.util.TreeMap<>();
            ((Map<?, ?>) value).forEach((k, v) -> sorted.put(k.toString(), plain(v)));
            return sorted;
        }
        if (value instanceof List) {
            List<Object> list = new ArrayList<>();
            ((List<?>) value).forEach(item -> list.add(plain(item)));
            return list;
        }
        if (value instanceof byte[]) {
            return Arrays.toString((byte[]) value);
        }
        return value == null ? "null" : value.toString();
    }

    private void missingQueue(Channel channel) throws Exception {
        String name = queue + ".missing";
        expectClose(404, "NOT_FOUND - no queue '" + name + "' in vhost '/'", () -> channel.queueDeclarePassive(name));
    }

    private void inequivalent(Channel channel) throws Exception {
        expectClose(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + deadQueue
                + "' in vhost '/': received 'false' but current is 'true'",
                () -> channel.queueDeclare(deadQueue, false, false, false, null));
        expectClose(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '" + exchange
                + "' in vhost '/': received 'topic' but current is 'direct'",
                () -> connection.createChannel().exchangeDeclare(exchange, "topic", true));
    }

    private void mandatory(Channel channel) throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        channel.addReturnListener(r -> events.add(
                r.getReplyCode() + " " + r.getReplyText() + " " + r.getRoutingKey() + " " + text(r.getBody())));
        channel.addConfirmListener((tag, multiple) -> events.add("ack " + tag), (tag, multiple) -> events.add("nack " + tag));
        channel.confirmSelect();
        channel.basicPublish(exchange, "nowhere", true, null, bytes("lost"));
        equal("first event", next("return", events), "312 NO_ROUTE nowhere lost");
        equal("second event", next("confirm", events), "ack 1");
    }

    private void get(Channel channel) throws Exception {
        equal("get on an empty queue", channel.basicGet(queue, false), null);
        publish(channel, "one");
        publish(channel, "two");
        for (int left = 1; left >= 0; left--) {
            GetResponse got = take(channel);
            equal("body", text(got.getBody()), left == 1 ? "one" : "two");
            equal("messages left", got.getMessageCount(), left);
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        }
    }

    private void transactions(Channel channel) throws Exception {
        Channel other = connection.createChannel();
        channel.txSelect();
        publish(channel, "tx");
        equal("ready before commit", other.messageCount(queue), 0L);
        channel.txCommit();
        equal("ready after commit", other.messageCount(queue), 1L);
        publish(channel, "never");
        channel.txRollback();
        channel.txCommit();
        equal("ready after rollback", other.messageCount(queue), 1L);
        channel.basicAck(take(channel).getEnvelope().getDeliveryTag(), false);
        channel.txCommit();
        other.close();
    }

    /** A wrong password and a missing vhost: closes of a connection that was never open. */
    private void refusedConnections(Channel channel) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setPassword("wrong");
        try {
            factory.newConnection().close();
            throw new AssertionError("connected with a wrong password");
        } catch (AuthenticationFailureException error) {
            equal("refusal", error.getMessage(),
                    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.");
        }
        factory.setUri(url);
        factory.setVirtualHost("interop-missing");
        try {
            factory.newConnection().close();
            throw new AssertionError("connected to a missing vhost");
        } catch (IOException error) {
            AMQP.Connection.Close close = (AMQP.Connection.Close) ((ShutdownSignalException) error.getCause()).getReason();
            equal("refusal", close.getReplyCode() + " " + close.getReplyText(), "530 NOT_ALLOWED - vhost interop-missing not found");
        }
    }

    private void big(Channel channel) throws Exception {
        byte[] body = new byte[1 << 20];
        new Random().nextBytes(body);
        channel.basicPublish(exchange, "work", null, body);
        GetResponse got = take(channel);
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        if (!Arrays.equals(got.getBody(), body)) {
            throw new AssertionError("the body changed on the way, received bytes: " + got.getBody().length);
        }
    }

    private void serverCancel(Channel channel) throws Exception {
        String name = queue + ".doomed";
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        channel.queueDeclare(name, true, false, false, null);
        CancelCallback cancel = cancelled::add;
        channel.basicConsume(name, true, "doomed", (tag, delivery) -> { }, cancel);
        Channel other = connection.createChannel();
        other.queueDelete(name);
        other.close();
        equal("cancelled consumer", next("basic.cancel", cancelled), "doomed");
    }

    private void cleanUp(Channel channel) throws Exception {
        int left = channel.queueDelete(queue).getMessageCount() + channel.queueDelete(deadQueue).getMessageCount();
        channel.exchangeDelete(exchange);
        channel.exchangeDelete(deadExchange);
        equal("messages left in the queues", left, 0);
        expectClose(404, "NOT_FOUND - no queue '" + queue + "' in vhost '/'", () -> channel.queueDeclarePassive(queue));
    }
}
