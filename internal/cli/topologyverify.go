package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/mgmtclient"
	"github.com/warrenmq/warren/internal/topoplan"
)

func topologyVerifyCommand() *cobra.Command {
	var queues workQueues
	var to target
	var from api
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify QUEUE...",
		Short: "Compare a broker with the topology of work queues",
		Long: `Verify says what a broker lacks of what plan prints, or has otherwise. It changes
nothing. Over AMQP it sees exchanges and queues with their properties, but no
bindings (and it needs the permission to configure); with --api it sees all, and
does not connect over AMQP: the virtual host is that of --url.

Exit status: 0 all that could be seen is as planned, 1 something is not, 2 it could
not be compared.`,
		Example: `  warren topology verify orders
  warren topology verify orders invoices --api http://localhost:15672
  warren topology verify orders --api http://localhost:15672 --json | jq '.findings[] | select(.state != "same")'`,
		Args: queueNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			v, err := verify(cmd, &queues, &to, &from, names)
			if err != nil {
				return notSeen(err)
			}
			return v.print(cmd, asJSON)
		},
	}
	queues.addFlags(cmd)
	from.addFlags(cmd, "to compare bindings as well")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object, for programs")
	to.addFlags(cmd)
	return cmd
}

// verification is what verify found.
type verification struct {
	Server   topoplan.Server    `json:"server"`
	VHost    string             `json:"vhost"`
	Type     string             `json:"type"`
	Complete bool               `json:"complete"` // false: bindings could not be seen
	Findings []topoplan.Finding `json:"findings"`
}

func verify(cmd *cobra.Command, queues *workQueues, to *target, from *api, names []string) (v verification, err error) {
	c, uri, err := from.client(cmd, to)
	if err != nil {
		return v, err
	}
	v.VHost = uri.Vhost
	if c != nil {
		defer c.Close()
		v.Complete = true
		err = v.throughAPI(cmd, c, queues, names)
		return v, err
	}
	err = to.withClient(cmd, func(c *client) error {
		v.Server = topoplan.ServerOf(c.conn.Properties)
		plan, err := queues.planFor(cmd, v.Server, names)
		if err != nil {
			return err
		}
		v.Type = plan.Type.String()
		v.Findings, err = topoplan.Survey(c.conn, &plan.Topology)
		return err
	})
	return v, err
}

func (v *verification) throughAPI(cmd *cobra.Command, c *mgmtclient.Client, queues *workQueues, names []string) error {
	ctx := cmd.Context()
	overview, err := c.Overview(ctx)
	if err != nil {
		return err
	}
	v.Server = topoplan.Server{Product: overview.Product, Version: overview.Version}
	plan, err := queues.planFor(cmd, v.Server, names)
	if err != nil {
		return err
	}
	v.Type = plan.Type.String()
	live, err := listLive(ctx, c, v.VHost)
	if err != nil {
		return err
	}
	v.Findings = topoplan.Compare(&plan.Topology, live)
	return nil
}

func listLive(ctx context.Context, c *mgmtclient.Client, vhost string) (*topoplan.Live, error) {
	var live topoplan.Live
	var err error
	if live.Exchanges, err = c.Exchanges(ctx, vhost); err != nil {
		return nil, err
	}
	if live.Queues, err = c.Queues(ctx, vhost); err != nil {
		return nil, err
	}
	live.Bindings, err = c.Bindings(ctx, vhost)
	return &live, err
}

func (v *verification) print(cmd *cobra.Command, asJSON bool) error {
	differs, unseen := 0, 0
	var b strings.Builder
	for _, f := range v.Findings {
		switch {
		case f.Differs():
			differs++
			fmt.Fprintf(&b, "%s %s: %s", f.Kind, f.Name, f.State)
			if f.Note != "" {
				fmt.Fprintf(&b, ": %s", oneLine(f.Note))
			}
			b.WriteByte('\n')
		case f.State == topoplan.Unseen:
			unseen++
		}
	}
	if differs == 0 {
		fmt.Fprintf(&b, "%s: as planned, %d things compared\n", v.Server, len(v.Findings)-unseen)
	} else {
		fmt.Fprintf(&b, "%s: %d of %d things are not as planned\n", v.Server, differs, len(v.Findings)-unseen)
	}
	if unseen > 0 {
		fmt.Fprintf(&b, "%d bindings were not compared: AMQP does not show them, --api does\n", unseen)
	}
	var err error
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), v)
	} else {
		_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
	}
	if err == nil && differs > 0 {
		return errReported
	}
	return err
}

// writeJSON writes one indented JSON value.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
