package cli

import (
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// api is a management API beside the broker's AMQP address.
type api struct {
	url string
}

func (a *api) addFlags(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&a.url, "api", "", "management API of the broker, such as http://localhost:15672: "+usage+"; user and password are those of --url unless it names others")
}

// client is nil without --api. The virtual host is that of the AMQP URL, which is
// not connected to.
func (a *api) client(cmd *cobra.Command, to *target) (*mgmtclient.Client, amqp.URI, error) {
	_, uri, err := to.address(cmd)
	if err != nil {
		return nil, uri, err
	}
	if a.url == "" {
		if cmd.Flags().Changed("api") {
			return nil, uri, usagef(cmd, "--api is empty") // a variable forgotten in a script must not look elsewhere
		}
		return nil, uri, nil
	}
	tlsConfig, err := to.tlsConfig(cmd, strings.HasPrefix(a.url, "https://"), "https:// URL with --api")
	if err != nil {
		return nil, uri, err
	}
	c, err := mgmtclient.New(mgmtclient.Config{URL: a.url, User: uri.Username, Password: uri.Password, Timeout: to.timeout, TLS: tlsConfig})
	if err != nil {
		return nil, uri, usagef(cmd, "--api is %s", err)
	}
	return c, uri, nil
}
