// Package config makes the broker's effective configuration out of four sources,
// each stronger than the one before: defaults, a TOML file, environment variables
// (WARREN_*), command-line flags.
//
// Every setting is one row of one table (settings.go) and is parsed and checked
// by the same code wherever it comes from; an error is one line that names the
// place (file and key, variable or flag). The strongest source wins, except that
// users and vhosts add up over all sources. The vhost / always exists; the user
// guest exists only as long as no user is configured.
//
// The package reads no flags and no environment of its own accord: the caller
// hands both over, so that two configurations can exist in one process. It is
// used from one goroutine.
package config
