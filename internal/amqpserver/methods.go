package amqpserver

import (
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// handleMethod carries out a method on an open channel and sends the answer. An
// error without a method is the one being handled.
func (c *conn) handleMethod(ch *channel, m wire.Method) *wire.Error {
	if known, err := c.handleChannelMethod(ch, m); known {
		return err
	}
	if known, err := c.handleTopologyMethod(ch, m); known {
		return err
	}
	return c.handleBasicMethod(ch, m)
}

// answer sends a reply, unless the method went wrong or wants none.
func (c *conn) answer(ch *channel, err *wire.Error, noWait bool, m wire.Method) *wire.Error {
	if err == nil && !noWait {
		c.eng.Out.Send(ch.id, m)
	}
	return err
}

// handleChannelMethod handles classes channel, confirm, tx and access.
func (c *conn) handleChannelMethod(ch *channel, m wire.Method) (known bool, err *wire.Error) {
	switch m := m.(type) {
	case *wire.ChannelOpen:
		return true, wire.ConnectionError(wire.ChannelErrorCode, "second 'channel.open' seen")
	case *wire.ChannelClose:
		c.closeChannel(ch)
		c.channels.remove(ch.id)
		c.eng.Out.Send(ch.id, &wire.ChannelCloseOk{})
		return true, nil
	case *wire.ChannelFlow:
		if !m.Active {
			return true, wire.ConnectionError(wire.NotImplemented, "active=false")
		}
		return true, c.answer(ch, nil, false, &wire.ChannelFlowOk{Active: true})
	case *wire.ConfirmSelect:
		return true, c.answer(ch, ch.eng.SelectConfirm(), m.NoWait, &wire.ConfirmSelectOk{})
	case *wire.TxSelect:
		return true, c.answer(ch, ch.eng.SelectTx(), false, &wire.TxSelectOk{})
	case *wire.TxCommit:
		return true, ch.eng.CommitTx(func() { c.answer(ch, nil, false, &wire.TxCommitOk{}) })
	case *wire.TxRollback:
		return true, c.answer(ch, ch.eng.RollbackTx(), false, &wire.TxRollbackOk{})
	case *wire.AccessRequest:
		return true, c.answer(ch, nil, false, &wire.AccessRequestOk{Ticket: 1})
	}
	return false, nil
}

// handleTopologyMethod handles classes exchange and queue.
func (c *conn) handleTopologyMethod(ch *channel, m wire.Method) (known bool, err *wire.Error) {
	switch m := m.(type) {
	case *wire.ExchangeDeclare:
		return true, c.answer(ch, ch.eng.DeclareExchange(m), m.NoWait, &wire.ExchangeDeclareOk{})
	case *wire.ExchangeDelete:
		return true, c.answer(ch, ch.eng.DeleteExchange(m), m.NoWait, &wire.ExchangeDeleteOk{})
	case *wire.ExchangeBind:
		return true, c.answer(ch, ch.eng.BindExchange(m), m.NoWait, &wire.ExchangeBindOk{})
	case *wire.ExchangeUnbind:
		return true, c.answer(ch, ch.eng.UnbindExchange(m), m.NoWait, &wire.ExchangeUnbindOk{})
	case *wire.QueueDeclare:
		d, err := ch.eng.DeclareQueue(m)
		return true, c.answer(ch, err, m.NoWait, &wire.QueueDeclareOk{
			Queue: d.Name, MessageCount: d.Messages, ConsumerCount: d.Consumers})
	case *wire.QueueBind:
		return true, c.answer(ch, ch.eng.BindQueue(m), m.NoWait, &wire.QueueBindOk{})
	case *wire.QueueUnbind:
		return true, c.answer(ch, ch.eng.UnbindQueue(m), false, &wire.QueueUnbindOk{})
	case *wire.QueuePurge:
		n, err := ch.eng.Purge(m.Queue)
		return true, c.answer(ch, err, m.NoWait, &wire.QueuePurgeOk{MessageCount: n})
	case *wire.QueueDelete:
		return true, ch.eng.DeleteQueue(m, func(ready uint32) {
			c.answer(ch, nil, m.NoWait, &wire.QueueDeleteOk{MessageCount: ready})
		})
	}
	return false, nil
}

// handleBasicMethod handles class basic, and refuses what no client may send.
func (c *conn) handleBasicMethod(ch *channel, m wire.Method) *wire.Error {
	switch m := m.(type) {
	case *wire.BasicQos:
		if m.PrefetchSize != 0 {
			return wire.ConnectionError(wire.NotImplemented, "prefetch_size!=0 (%d)", m.PrefetchSize)
		}
		ch.eng.Qos(m.PrefetchCount, m.Global)
		return c.answer(ch, nil, false, &wire.BasicQosOk{})
	case *wire.BasicConsume:
		return c.consume(ch, m)
	case *wire.BasicCancel:
		ch.eng.Cancel(m.ConsumerTag)
		return c.answer(ch, nil, m.NoWait, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	case *wire.BasicCancelOk:
		return nil // the answer to our basic.cancel, from clients that send one
	case *wire.BasicGet:
		ok, err := ch.eng.Get(m.Queue, m.NoAck)
		return c.answer(ch, err, ok, &wire.BasicGetEmpty{})
	case *wire.BasicReject:
		return ch.eng.Reject(m.DeliveryTag, m.Requeue)
	case *wire.BasicNack:
		return ch.eng.Nack(m.DeliveryTag, m.Multiple, m.Requeue)
	case *wire.BasicRecoverAsync:
		return c.recover(ch, m.Requeue, true)
	case *wire.BasicRecover:
		return c.recover(ch, m.Requeue, false)
	}
	return wire.Unimplemented()
}

func (c *conn) recover(ch *channel, requeue, async bool) *wire.Error {
	if !requeue {
		return wire.ConnectionError(wire.NotImplemented, "requeue=false")
	}
	// The answer comes before what is delivered again.
	c.answer(ch, nil, async, &wire.BasicRecoverOk{})
	ch.eng.Recover()
	return nil
}

func (c *conn) consume(ch *channel, m *wire.BasicConsume) *wire.Error {
	r := engine.Consume{
		Queue: m.Queue, Tag: m.ConsumerTag, NoAck: m.NoAck, Exclusive: m.Exclusive, Args: m.Arguments,
	}
	if !m.NoWait {
		r.OnOk = func(tag string) { c.eng.Out.Send(ch.id, &wire.BasicConsumeOk{ConsumerTag: tag}) }
	}
	return ch.eng.Consume(r)
}
