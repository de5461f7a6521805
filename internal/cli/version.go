package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// developmentVersion is the version of a build that no module version names.
const developmentVersion = "0.1.0-dev"

// Version is the version of this program: the module's if it was built as one
// (go install …@v1.2.3), else the development version.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" || info.Main.Path != modulePath {
		return developmentVersion
	}
	// A build from a checkout is stamped v0.0.0-<time>-<commit>, which is older
	// than every release and tells less than our own number.
	if len(info.Main.Version) > 7 && info.Main.Version[:7] == "v0.0.0-" {
		return developmentVersion
	}
	return info.Main.Version[1:]
}

const modulePath = "github.com/warrenmq/warren"

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "WarrenMQ %s %s %s/%s\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
