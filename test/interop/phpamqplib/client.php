<?php
// Checks a broker with php-amqplib, the PHP client.
//
// Reads AMQP_URL, prints one line per check and exits 0 only if all pass. Every name carries one
// random prefix and is deleted at the end.

declare(strict_types=1);

require getenv('PHP_AMQPLIB_AUTOLOAD') ?: 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPDecimal;
use PhpAmqpLib\Wire\AMQPTable;

const PUBLISHED = 100;
const PREFETCH = 10;
const WAIT_SECONDS = 20;

function equal(string $what, $got, $want): void
{
    if ($got !== $want) {
        throw new RuntimeException(sprintf('%s is %s, want %s', $what, json_encode($got), json_encode($want)));
    }
}

function expectClose(int $code, string $text, callable $operation): void
{
    try {
        $operation();
    } catch (AMQPProtocolChannelException $closed) {
        equal('close', [$closed->amqp_reply_code, $closed->amqp_reply_text], [$code, $text]);
        return;
    }
    throw new RuntimeException("the channel stayed open, want a close with $code");
}

final class Suite
{
    private AMQPStreamConnection $connection;
    private string $exchange;
    private string $queue;
    private string $deadExchange;
    private string $deadQueue;

    public function __construct(private string $url)
    {
        $prefix = 'interop.php.' . bin2hex(random_bytes(4));
        [$this->exchange, $this->queue] = ["$prefix.x", "$prefix.q"];
        [$this->deadExchange, $this->deadQueue] = ["$prefix.dlx", "$prefix.dead"];
    }

    public function run(): int
    {
        if (!$this->report('connect', fn () => $this->connect())
            || !$this->report('declare durable exchanges, queues, bindings', fn () => $this->onChannel('declare'))) {
            return 1;
        }
        $failed = 0;
        foreach ([
            'publish 100 with confirms' => 'confirms',
            'consume with prefetch 10' => 'prefetch',
            'nack without requeue is dead-lettered' => 'deadLetter',
            'rejected message comes back redelivered' => 'requeue',
            'headers of every type round trip' => 'headers',
            'passive declare of a missing queue closes with 404' => 'missingQueue',
            'redeclare with other arguments closes with 406' => 'inequivalent',
            'mandatory message returns before its confirm' => 'mandatory',
            'basic.get' => 'get',
            'transactions' => 'transactions',
            '1 MiB message' => 'big',
            'consumer is cancelled when its queue goes' => 'serverCancel',
            'clean up' => 'cleanUp',
        ] as $name => $check) {
            $failed += $this->report($name, fn () => $this->onChannel($check)) ? 0 : 1;
        }
        $this->connection->close();
        return $failed;
    }

    private function report(string $name, callable $check): bool
    {
        try {
            $check();
        } catch (Throwable $error) {
            printf("FAIL %s: %s: %s\n", $name, get_class($error), $error->getMessage());
            return false;
        }
        echo "ok   $name\n";
        return true;
    }

    private function onChannel(string $check): void
    {
        $channel = $this->connection->channel();
        try {
            $this->$check($channel);
        } finally {
            if ($channel->is_open()) {
                $channel->close();
            }
        }
    }

    private function connect(): void
    {
        $url = parse_url($this->url);
        $vhost = rawurldecode(substr($url['path'] ?? '/', 1));
        $this->connection = new AMQPStreamConnection(
            $url['host'],
            (string) ($url['port'] ?? 5672),
            rawurldecode($url['user'] ?? 'guest'),
            rawurldecode($url['pass'] ?? 'guest'),
            $vhost === '' ? '/' : $vhost,
            connection_timeout: WAIT_SECONDS,
            read_write_timeout: WAIT_SECONDS,
            channel_rpc_timeout: WAIT_SECONDS
        );
        $capabilities = $this->connection->getServerProperties()['capabilities'][1];
        foreach (['publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'exchange_exchange_bindings'] as $name) {
            equal("server capability $name", (bool) ($capabilities[$name][1] ?? false), true);
        }
    }

    private function declare(AMQPChannel $channel): void
    {
        $channel->exchange_declare($this->exchange, 'direct', false, true, false);
        $channel->exchange_declare($this->deadExchange, 'fanout', false, true, false);
        $arguments = new AMQPTable(['x-dead-letter-exchange' => $this->deadExchange]);
        for ($i = 0; $i < 2; $i++) { // the second time it exists and is equivalent
            $ok = $channel->queue_declare($this->queue, false, true, false, false, false, $arguments);
            equal('declare-ok', $ok, [$this->queue, 0, 0]);
        }
        $channel->queue_declare($this->deadQueue, false, true, false, false);
        $channel->queue_bind($this->queue, $this->exchange, 'work');
        $channel->queue_bind($this->deadQueue, $this->deadExchange);
    }

    private function publish(AMQPChannel $channel, string $body, array $properties = [], string $key = 'work', bool $mandatory = false): void
    {
        $channel->basic_publish(new AMQPMessage($body, $properties + ['delivery_mode' => 2]), $this->exchange, $key, $mandatory);
    }

    private function take(AMQPChannel $channel): AMQPMessage
    {
        $message = $channel->basic_get($this->queue);
        if ($message === null) {
            throw new RuntimeException("{$this->queue} is empty");
        }
        return $message;
    }

    private function confirms(AMQPChannel $channel): void
    {
        $acked = $nacked = 0;
        $channel->set_ack_handler(function () use (&$acked) { $acked++; });
        $channel->set_nack_handler(function () use (&$nacked) { $nacked++; });
        $channel->confirm_select();
        for ($i = 0; $i < PUBLISHED; $i++) {
            $this->publish($channel, "message $i");
        }
        $channel->wait_for_pending_acks(WAIT_SECONDS);
        equal('acked and nacked', [$acked, $nacked], [PUBLISHED, 0]);
    }

    private function prefetch(AMQPChannel $channel): void
    {
        $held = [];
        $received = 0;
        $channel->basic_qos(0, PREFETCH, false);
        $channel->basic_consume($this->queue, '', false, false, false, false, function (AMQPMessage $m) use (&$held, &$received) {
            equal('body', $m->getBody(), "message $received");
            $received++;
            $held[] = $m;
        });
        while ($received < PUBLISHED) {
            while (count($held) < PREFETCH) {
                $channel->wait(null, false, WAIT_SECONDS);
            }
            // While a full prefetch is held the queue must still count the rest as ready.
            [, $ready] = $channel->queue_declare($this->queue, true);
            equal('ready', $ready, PUBLISHED - $received);
            equal('held', count($held), PREFETCH);
            $held[0]->ack();
            $held[PREFETCH - 1]->ack(true);
            $held = [];
        }
    }

    private function deadLetter(AMQPChannel $channel): void
    {
        $this->publish($channel, 'bad', ['application_headers' => new AMQPTable(['kept' => 'yes'])]);
        $dead = null;
        $this->take($channel)->nack();
        $channel->basic_consume($this->deadQueue, '', false, true, false, false, function (AMQPMessage $m) use (&$dead) { $dead = $m; });
        while ($dead === null) {
            $channel->wait(null, false, WAIT_SECONDS);
        }
        equal('body, exchange and key', [$dead->getBody(), $dead->getExchange(), $dead->getRoutingKey()], ['bad', $this->deadExchange, 'work']);
        $headers = $dead->get('application_headers')->getNativeData();
        equal('number of x-death entries', count($headers['x-death']), 1);
        $death = $headers['x-death'][0];
        equal('class of x-death time', get_class($death['time']), DateTime::class);
        unset($death['time']);
        ksort($death);
        equal('x-death', $death, ['count' => 1, 'exchange' => $this->exchange, 'queue' => $this->queue, 'reason' => 'rejected', 'routing-keys' => ['work']]);
        equal('x-first-death-reason', $headers['x-first-death-reason'], 'rejected');
        equal('own header', $headers['kept'], 'yes');
    }

    private function requeue(AMQPChannel $channel): void
    {
        $this->publish($channel, 'again');
        $message = $this->take($channel);
        equal('redelivered at first', $message->isRedelivered(), false);
        $message->reject(true);
        $message = $this->take($channel);
        equal('redelivered', $message->isRedelivered(), true);
        $message->ack();
    }

    private function headers(AMQPChannel $channel): void
    {
        $sent = [ // every type the library can send; it has none for floating point
            'true' => true, 'false' => false, 'int' => 7, 'negative' => -320000, 'long' => 1 << 40,
            'string' => 'grüße, 世界', 'empty' => '', 'none' => null, 'array' => [1, 'two', true, ['deep' => 3]],
            'table' => ['inner' => ['leaf' => 'x']],
        ];
        $table = new AMQPTable($sent);
        $table->set('time', 1700000000, AMQPTable::T_TIMESTAMP);
        $table->set('decimal', new AMQPDecimal(314, 2));
        $table->set('bytes', "\x00\x01\xfe\xff", AMQPTable::T_BYTES);
        $plain = [
            'content_type' => 'application/json', 'content_encoding' => 'identity', 'priority' => 3, 'correlation_id' => 'corr', 'reply_to' => 'reply',
            'expiration' => '600000', 'message_id' => 'id-1', 'timestamp' => 1700000000, 'type' => 'order', 'app_id' => 'interop',
        ];
        $this->publish($channel, '{}', $plain + ['application_headers' => $table]);
        $message = $this->take($channel);
        $message->ack();
        $got = $message->get('application_headers')->getNativeData();
        foreach ($sent as $name => $value) {
            equal("header $name", $got[$name], $value);
        }
        equal('header time', $got['time']->getTimestamp(), 1700000000);
        equal('header decimal', [$got['decimal']->getN(), $got['decimal']->getE()], [314, 2]);
        equal('header bytes', bin2hex($got['bytes']), '0001feff');
        equal('number of headers', count($got), count($sent) + 3);
        foreach ($plain as $name => $value) {
            equal($name, (string) $message->get($name), (string) $value); // the library gives numbers back as strings
        }
    }

    private function missingQueue(AMQPChannel $channel): void
    {
        $name = "{$this->queue}.missing";
        expectClose(404, "NOT_FOUND - no queue '$name' in vhost '/'", fn () => $channel->queue_declare($name, true));
    }

    private function inequivalent(AMQPChannel $channel): void
    {
        expectClose(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{$this->deadQueue}' in vhost '/': received 'false' but current is 'true'",
            fn () => $channel->queue_declare($this->deadQueue, false, false, false, false)
        );
    }

    private function mandatory(AMQPChannel $channel): void
    {
        $events = [];
        $channel->set_return_listener(function (int $code, string $text, string $exchange, string $key, AMQPMessage $m) use (&$events) {
            $events[] = [$code, $text, $key, $m->getBody()];
        });
        $channel->set_ack_handler(function () use (&$events) { $events[] = 'ack'; });
        $channel->confirm_select();
        $this->publish($channel, 'lost', [], 'nowhere', true);
        $channel->wait_for_pending_acks_returns(WAIT_SECONDS);
        equal('events', $events, [[312, 'NO_ROUTE', 'nowhere', 'lost'], 'ack']);
    }

    private function get(AMQPChannel $channel): void
    {
        equal('get on an empty queue', $channel->basic_get($this->queue), null);
        $this->publish($channel, 'one');
        $this->publish($channel, 'two');
        foreach (['one' => 1, 'two' => 0] as $body => $left) {
            $message = $this->take($channel);
            equal('got', [$message->getBody(), (int) $message->getMessageCount(), $message->getRoutingKey()], [$body, $left, 'work']);
            $message->ack();
        }
    }

    private function transactions(AMQPChannel $channel): void
    {
        $other = $this->connection->channel();
        $ready = fn () => $other->queue_declare($this->queue, true)[1];
        $channel->tx_select();
        $this->publish($channel, 'tx');
        equal('ready before commit', $ready(), 0);
        $channel->tx_commit();
        equal('ready after commit', $ready(), 1);
        $this->publish($channel, 'never');
        $channel->tx_rollback();
        $channel->tx_commit();
        equal('ready after rollback', $ready(), 1);
        $this->take($channel)->ack();
        $channel->tx_commit();
        $other->close();
    }

    private function big(AMQPChannel $channel): void
    {
        $body = random_bytes(1 << 20);
        $this->publish($channel, $body);
        $message = $this->take($channel);
        $message->ack();
        if ($message->getBody() !== $body) {
            throw new RuntimeException('the body changed on the way, received bytes: ' . strlen($message->getBody()));
        }
    }

    private function serverCancel(AMQPChannel $channel): void
    {
        $name = "{$this->queue}.doomed";
        $channel->queue_declare($name, false, true, false, false);
        $channel->basic_consume($name, 'doomed', false, true, false, false, fn () => null);
        $other = $this->connection->channel();
        $other->queue_delete($name);
        $other->close();
        try {
            $channel->wait(null, false, WAIT_SECONDS);
        } catch (AMQPBasicCancelException $cancelled) {
            equal('cancelled consumer', $cancelled->getConsumerTag(), 'doomed');
            return;
        }
        throw new RuntimeException('no basic.cancel from the server');
    }

    private function cleanUp(AMQPChannel $channel): void
    {
        $left = [(int) $channel->queue_delete($this->queue), (int) $channel->queue_delete($this->deadQueue)];
        $channel->exchange_delete($this->exchange);
        $channel->exchange_delete($this->deadExchange);
        equal('messages left in the queues', $left, [0, 0]);
        expectClose(404, "NOT_FOUND - no queue '{$this->queue}' in vhost '/'", fn () => $channel->queue_declare($this->queue, true));
    }
}

$url = getenv('AMQP_URL');
if (!$url) {
    fwrite(STDERR, "php-amqplib: set AMQP_URL, for example amqp://guest:guest@localhost:5672/\n");
    exit(2);
}
$failed = (new Suite($url))->run();
if ($failed > 0) {
    echo "$failed checks failed\n";
}
exit($failed > 0 ? 1 : 0);
