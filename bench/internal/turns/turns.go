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
// it is empty, in the order of figures. It ends with the first that fails, whose name
// its error has.
func Run[R any](figures []Figure[R], only string, r R) error {
	fmt.Printf("%s/%s, %d CPUs, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, f := range figures {
		if only != "" && !slices.Contains(strings.Split(only, ","), f.Name) {
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
