// Package plain connects the examples that use amqp091-go as it is: to the broker
// that AMQP_URL names, or to one inside the process.
//
// What FromEnv returns may be called from any goroutine. All its connections lead
// to the same broker.
package plain

import (
	"context"
	"errors"
	"net"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
)

// FromEnv chooses the broker as reliable.FromEnv does, and returns the function
// that connects to it. Of a cluster it takes the first node that answers.
func FromEnv() (connect func() (*amqp.Connection, error)) {
	transport := reliable.FromEnv(broker.Embedded(""))
	config := amqp.Config{}
	if dialer := transport.Dialer; dialer != nil {
		config.Dial = func(network, addr string) (net.Conn, error) {
			return dialer.DialContext(context.Background(), network, addr)
		}
	}
	return func() (*amqp.Connection, error) {
		err := errors.New("AMQP_URL names no broker")
		for _, url := range transport.URLs {
			var conn *amqp.Connection
			if conn, err = amqp.DialConfig(url, config); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
}
