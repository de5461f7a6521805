// Command warren is the WarrenMQ broker and its command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/warrenmq/warren/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the command finishes what it is doing; a second one
	// ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
