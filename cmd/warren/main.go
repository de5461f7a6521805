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
	// A reader that went away (warren consume q | head) is an error of the write
	// and not the end of the process, so that commands can leave a broker tidy.
	// It must not end the context either: sockets raise the signal too.
	signal.Ignore(syscall.SIGPIPE)
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup asks for it to stay ignored
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	// After the first signal the command finishes what it is doing; a second one
	// ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
