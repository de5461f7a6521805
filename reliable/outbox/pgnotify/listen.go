// Package pgnotify wakes the relay of an outbox in Postgres when a transaction that has added messages commits.
//
// database/sql has no way to listen, so this package takes a connection of its own with pgx. What it promises is
// little, and enough: a notification that is lost costs the time until the relay's next poll.
//
// [Listen] runs in the caller's goroutine and calls wake from it.
package pgnotify

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// minPause and maxPause bound the time between two tries to connect.
const (
	minPause = 100 * time.Millisecond
	maxPause = 30 * time.Second
	// aliveEvery is how often the connection is looked at while nothing comes. Without it a connection whose
	// other end has vanished would be listened to for ever.
	aliveEvery = time.Minute
)

// Listen connects to the database at url and calls wake for each notification on a channel, which for an outbox
// is outbox.Channel of its table, and after each connect, because something may have come before. If the
// connection is lost it logs that and connects again, with growing pauses. It returns nil when ctx ends, and an
// error only if url is not one. A nil logger is slog.Default().
func Listen(ctx context.Context, url, channel string, wake func(), logger *slog.Logger) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	if logger == nil {
		logger = slog.Default()
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		connected, err := listen(ctx, config, channel, wake)
		if ctx.Err() != nil {
			return nil
		}
		if connected {
			pause = minPause
		}
		logger.Warn("outbox: not listening for notifications; the relay polls", "channel", channel, "again in", pause, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// listen serves one connection, and says whether there was one.
func listen(ctx context.Context, config *pgx.ConnConfig, channel string, wake func()) (connected bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(closing) // the server notices, whatever it answers
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return false, err
	}
	wake()
	for {
		waiting, cancel := context.WithTimeout(ctx, aliveEvery)
		_, err := conn.WaitForNotification(waiting)
		quiet := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			wake()
		case quiet && !conn.IsClosed():
			if err := conn.Ping(ctx); err != nil {
				return true, err
			}
		default:
			return true, err
		}
	}
}
