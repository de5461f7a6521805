// Package turns runs the named figures of a measuring command one after another. It is
// called by the command's main goroutine, which the figures run on as well: nothing else
// is measured while one is.
package turns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Figure is one measurement. It gets what the command's figures share and prints its
// own rows.
type Figure[R any] struct {
	Name    string
	Measure func(R) error
}

// Run measures those of figures that only lists, separated by commas, or all of them if
// it is empty, in the order of figures. With a name that is none of theirs nothing is
// measured, and the error says which there are. Otherwise it ends with the first figure
// that fails, whose name its error has.
func Run[R any](figures []Figure[R], only string, r R) error {
	var names, wanted []string
	for _, f := range figures {
		names = append(names, f.Name)
	}
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no figure %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	fmt.Printf("%s/%s, %d CPUs, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, f := range figures {
		if only != "" && !slices.Contains(wanted, f.Name) {
			continue
		}
		if err := f.Measure(r); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// InFolder calls f with a new folder in dir, or in the system's folder for temporary
// files if dir is empty, and removes the folder with all that is in it when f is done.
func InFolder(dir, prefix string, f func(folder string) error) (err error) {
	folder, err := os.MkdirTemp(dir, prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	return f(folder)
}
