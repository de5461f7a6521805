# frozen_string_literal: true

# Checks a broker with Bunny, the Ruby client.
#
# Reads AMQP_URL, prints one line per check and exits 0 only if all pass. Every name carries one
# random prefix and is deleted at the end.

require 'bunny'
require 'securerandom'
require 'timeout'

PUBLISHED = 100
PREFETCH = 10
WAIT_SECONDS = 20

class CheckFailed < StandardError; end

def equal(what, got, want)
  raise CheckFailed, "#{what} is #{got.inspect}, want #{want.inspect}" unless got == want
end

class Suite
  def initialize(url)
    prefix = "interop.bunny.#{SecureRandom.hex(4)}"
    # Bunny takes a lone slash as the vhost with the empty name; most other clients take it as "/".
    @url = url.sub(%r{(?<=[^/])/\z}, '')
    @exchange = "#{prefix}.x"
    @queue = "#{prefix}.q"
    @dead_exchange = "#{prefix}.dlx"
    @dead_queue = "#{prefix}.dead"
    @failed = 0
  end

  CHECKS = [
    ['publish 100 with confirms', :confirms],
    ['consume with prefetch 10', :prefetch],
    ['nack without requeue is dead-lettered', :dead_letter],
    ['rejected message comes back redelivered', :requeue],
    ['headers of every type round trip', :headers],
    ['passive declare of a missing queue closes with 404', :missing_queue],
    ['redeclare with other arguments closes with 406', :inequivalent],
    ['mandatory message returns before its confirm', :mandatory],
    ['basic.get', :get],
    ['transactions', :transactions],
    ['1 MiB message', :big],
    ['consumer is cancelled when its queue goes', :server_cancel],
    ['clean up', :clean_up]
  ].freeze

  def run
    return 1 unless report('connect') { connect }
    return 1 unless report('declare durable exchanges, queues, bindings') { on_channel(:declare) }

    CHECKS.each { |name, check| report(name) { on_channel(check) } }
    @connection.close
    @failed
  end

  private

  def report(name)
    Timeout.timeout(2 * WAIT_SECONDS) { yield }
    puts "ok   #{name}"
    true
  rescue StandardError => e
    @failed += 1
    puts "FAIL #{name}: #{e.class}: #{e.message}"
    false
  end

  def on_channel(check)
    channel = @connection.create_channel
    send(check, channel)
  ensure
    channel.close if channel&.open?
  end

  def connect
    @connection = Bunny.new(@url, automatically_recover: false, logger: Logger.new(File::NULL))
    @connection.start
    capabilities = @connection.server_properties['capabilities']
    %w[publisher_confirms basic.nack consumer_cancel_notify exchange_exchange_bindings].each do |name|
      equal("server capability #{name}", capabilities[name], true)
    end
  end

  # The checks use Bunny's low-level calls: its objects hide answers that are worth checking.
  def declare(channel)
    channel.exchange_declare(@exchange, 'direct', durable: true)
    channel.exchange_declare(@dead_exchange, 'fanout', durable: true)
    2.times do # the second time it exists and is equivalent
      ok = channel.queue_declare(@queue, durable: true, arguments: { 'x-dead-letter-exchange' => @dead_exchange })
      equal('declare-ok', [ok.queue, ok.message_count, ok.consumer_count], [@queue, 0, 0])
    end
    channel.queue_declare(@dead_queue, durable: true)
    channel.queue_bind(@queue, @exchange, routing_key: 'work')
    channel.queue_bind(@dead_queue, @dead_exchange)
  end

  def publish(channel, body, **options)
    channel.basic_publish(body, @exchange, options.delete(:key) || 'work', { persistent: true }.merge(options))
  end

  def take(channel)
    delivery, properties, body = channel.basic_get(@queue, manual_ack: true)
    raise CheckFailed, "#{@queue} is empty" unless delivery

    [delivery, properties, body]
  end

  def confirms(channel)
    channel.confirm_select
    PUBLISHED.times { |i| publish(channel, "message #{i}") }
    equal('all confirmed', channel.wait_for_confirms, true)
    equal('nacked', channel.nacked_set.size, 0)
    equal('left unconfirmed', channel.unconfirmed_set.size, 0)
  end

  def prefetch(channel)
    channel.basic_qos(PREFETCH)
    arrived = ::Queue.new
    channel.basic_consume(@queue, 'worker', false) { |delivery, _, body| arrived << [delivery.delivery_tag.to_i, body] }
    (PUBLISHED / PREFETCH).times do |round|
      tags = PREFETCH.times.map do |i|
        tag, body = arrived.pop
        equal('body', body, "message #{(round * PREFETCH) + i}")
        tag
      end
      # While a full prefetch is held the queue must still count the rest as ready.
      equal('ready', channel.queue_declare(@queue, passive: true).message_count, PUBLISHED - ((round + 1) * PREFETCH))
      equal('deliveries beyond the prefetch', arrived.size, 0)
      channel.basic_ack(tags.first, false)
      channel.basic_ack(tags.last, true)
    end
  end

  def dead_letter(channel)
    publish(channel, 'bad', headers: { 'kept' => 'yes' })
    delivery, = take(channel)
    arrived = ::Queue.new
    channel.basic_consume(@dead_queue, 'undertaker', true) { |info, properties, body| arrived << [info, properties, body] }
    channel.basic_nack(delivery.delivery_tag.to_i, false, false)
    info, properties, body = arrived.pop
    equal('body, exchange and key', [body, info.exchange, info.routing_key], ['bad', @dead_exchange, 'work'])
    deaths = properties.headers['x-death']
    equal('number of x-death entries', deaths.size, 1)
    equal('class of x-death time', deaths[0].delete('time').class, Time)
    equal('x-death', deaths[0], { 'reason' => 'rejected', 'count' => 1, 'queue' => @queue, 'exchange' => @exchange, 'routing-keys' => ['work'] })
    equal('x-first-death-reason', properties.headers['x-first-death-reason'], 'rejected')
    equal('own header', properties.headers['kept'], 'yes')
  end

  def requeue(channel)
    publish(channel, 'again')
    delivery, = take(channel)
    equal('redelivered at first', delivery.redelivered, false)
    channel.basic_reject(delivery.delivery_tag.to_i, true)
    delivery, = take(channel)
    equal('redelivered', delivery.redelivered, true)
    channel.basic_ack(delivery.delivery_tag.to_i, false)
  end

  def headers(channel)
    sent = {
      'true' => true, 'false' => false, 'int' => 7, 'negative' => -320_000, 'long' => 1 << 40, 'float' => 2.25,
      'string' => 'grüße, 世界', 'empty' => '', 'time' => Time.at(1_700_000_000), 'none' => nil,
      'array' => [1, 'two', true, { 'deep' => 3 }], 'table' => { 'inner' => { 'leaf' => 'x' } }
    }
    plain = {
      content_type: 'application/json', content_encoding: 'identity', priority: 3, correlation_id: 'corr', reply_to: 'reply',
      expiration: '600000', message_id: 'id-1', type: 'order', app_id: 'interop'
    }
    publish(channel, '{}', headers: sent, timestamp: 1_700_000_000, **plain)
    delivery, properties, = take(channel)
    channel.basic_ack(delivery.delivery_tag.to_i, false)
    equal('header names', properties[:headers].keys.sort, sent.keys.sort)
    sent.each do |name, value|
      got = properties[:headers][name]
      got = got.dup.force_encoding(Encoding::UTF_8) if got.is_a?(String) # Bunny gives the bytes as they came
      equal("header #{name}", got, value)
    end
    plain.each { |name, value| equal(name.to_s, properties[name], value) }
    equal('timestamp', properties[:timestamp], Time.at(1_700_000_000))
    equal('delivery mode', properties[:delivery_mode], 2)
  end

  def expect_close(error_class, code, text)
    yield
    raise CheckFailed, "the channel stayed open, want a close with #{code}"
  rescue Bunny::ChannelLevelException => e
    equal('close', [e.class, e.channel_close.reply_code, e.channel_close.reply_text], [error_class, code, text])
  end

  def missing_queue(channel)
    name = "#{@queue}.missing"
    expect_close(Bunny::NotFound, 404, "NOT_FOUND - no queue '#{name}' in vhost '/'") { channel.queue_declare(name, passive: true) }
  end

  def inequivalent(channel)
    expect_close(Bunny::PreconditionFailed, 406,
                 "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '#{@dead_queue}' in vhost '/': " \
                 "received 'false' but current is 'true'") { channel.queue_declare(@dead_queue, durable: false) }
  end

  def mandatory(channel)
    channel.confirm_select
    returns = ::Queue.new
    exchange = Bunny::Exchange.new(channel, :direct, @exchange, durable: true, passive: true)
    exchange.on_return { |info, _, body| returns << [info.reply_code, info.reply_text, info.routing_key, body] }
    exchange.publish('lost', routing_key: 'nowhere', mandatory: true)
    equal('all confirmed', channel.wait_for_confirms, true)
    # Bunny hands a return to the handler on the thread that later reads the confirm: it is here already.
    equal('returns at the time of the confirm', returns.size, 1)
    equal('return', returns.pop, [312, 'NO_ROUTE', 'nowhere', 'lost'])
  end

  def get(channel)
    equal('get on an empty queue', channel.basic_get(@queue, manual_ack: true), [nil, nil, nil])
    publish(channel, 'one')
    publish(channel, 'two')
    [['one', 1], ['two', 0]].each do |want, left|
      delivery, _, body = take(channel)
      equal('got', [body, delivery.message_count, delivery.routing_key], [want, left, 'work'])
      channel.basic_ack(delivery.delivery_tag.to_i, false)
    end
  end

  def transactions(channel)
    other = @connection.create_channel
    ready = -> { other.queue_declare(@queue, passive: true).message_count }
    channel.tx_select
    publish(channel, 'tx')
    equal('ready before commit', ready.call, 0)
    channel.tx_commit
    equal('ready after commit', ready.call, 1)
    publish(channel, 'never')
    channel.tx_rollback
    channel.tx_commit
    equal('ready after rollback', ready.call, 1)
    delivery, = take(channel)
    channel.basic_ack(delivery.delivery_tag.to_i, false)
    channel.tx_commit
    other.close
  end

  def big(channel)
    body = SecureRandom.bytes(1 << 20)
    publish(channel, body)
    delivery, _, got = take(channel)
    channel.basic_ack(delivery.delivery_tag.to_i, false)
    return if got.b == body.b

    raise CheckFailed, "the body changed on the way (#{body.bytesize} bytes sent, #{got.bytesize} received)"
  end

  def server_cancel(channel)
    name = "#{@queue}.doomed"
    channel.queue_declare(name, durable: true)
    cancelled = ::Queue.new
    queue = Bunny::Queue.new(channel, name, passive: true)
    consumer = Bunny::Consumer.new(channel, queue, 'doomed')
    consumer.on_cancellation { |cancel| cancelled << cancel.consumer_tag }
    channel.basic_consume_with(consumer)
    other = @connection.create_channel
    other.queue_delete(name)
    other.close
    equal('cancelled consumer', cancelled.pop, 'doomed')
  end

  def clean_up(channel)
    left = [@queue, @dead_queue].map { |name| channel.queue_delete(name).message_count }
    [@exchange, @dead_exchange].each { |name| channel.exchange_delete(name) }
    equal('messages left in the queues', left, [0, 0])
    expect_close(Bunny::NotFound, 404, "NOT_FOUND - no queue '#{@queue}' in vhost '/'") { channel.queue_declare(@queue, passive: true) }
  end
end

abort 'bunny: set AMQP_URL, for example amqp://guest:guest@localhost:5672/' unless ENV['AMQP_URL']
$stdout.sync = true
failed = Suite.new(ENV['AMQP_URL']).run
abort "#{failed} checks failed" if failed.positive?
