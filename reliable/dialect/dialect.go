// Package dialect knows in what the SQL databases that the toolkit's tables can be in differ.
//
// It stands on database/sql alone. Which driver is used is the program's choice; errors are recognised by what
// the usual ones have in common. Its functions are pure and may be called from any goroutine.
package dialect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Dialect is a kind of database.
type Dialect uint8

const (
	// Postgres is PostgreSQL, 11 or newer.
	Postgres Dialect = iota + 1
	// SQLite is SQLite, 3.35 or newer. One process writes at a time: open it with a busy timeout and with
	// BEGIN IMMEDIATE (with modernc.org/sqlite: "_pragma=busy_timeout(5000)&_txlock=immediate").
	SQLite
)

func (d Dialect) String() string {
	switch d {
	case Postgres:
		return "Postgres"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}

// Check says what is wrong with a dialect or the name of a table that a program has chosen. The name goes into
// statements as it is.
func Check(d Dialect, table string) error {
	if d != Postgres && d != SQLite {
		return fmt.Errorf("%v is not a database: choose dialect.Postgres or dialect.SQLite", d)
	}
	if len(table) > maxTableBytes || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`).MatchString(table) {
		return fmt.Errorf("%q is not a name for a table: use letters, digits and underscores, at most %d, with a schema in front if need be", table, maxTableBytes)
	}
	return nil
}

// maxTableBytes leaves room for the suffixes of indexes; Postgres cuts names at 63 bytes.
const maxTableBytes = 48

// Bind turns the parameters of a statement, written ?1 ?2, into those of the database. The statement has no
// other question marks.
func (d Dialect) Bind(statement string) string {
	if d == Postgres {
		return strings.ReplaceAll(statement, "?", "$")
	}
	return statement
}

// ServerMicros is an expression for the server's time in microseconds since 1970, or nothing if there is no server.
func (d Dialect) ServerMicros() string {
	if d == Postgres {
		return "CAST(extract(epoch from clock_timestamp()) * 1000000 AS bigint)"
	}
	return "NULL"
}

// Text makes text of any bytes, because neither database takes all of them in a column of text. Different bytes
// make different texts, and what is text already stays as it is.
func Text(s string) string {
	if strings.HasPrefix(s, `\x`) || strings.ContainsRune(s, 0) || strings.ToValidUTF8(s, "") != s {
		return fmt.Sprintf(`\x%x`, s)
	}
	return s
}

// Busy reports whether a statement failed because another transaction was in its way, so that the same may
// work a little later: a lock was not given in time, or the transaction would not have been serializable.
func (d Dialect) Busy(err error) bool {
	if d == Postgres {
		var state interface{ SQLState() string } // pgx and lib/pq
		if !errors.As(err, &state) {
			return false
		}
		switch state.SQLState() {
		case "55P03", "40001", "40P01": // lock_not_available, serialization_failure, deadlock_detected
			return true
		}
		return false
	}
	var code interface{ Code() int } // modernc.org/sqlite
	if errors.As(err, &code) {
		const busy, locked = 5, 6
		return code.Code()&0xff == busy || code.Code()&0xff == locked
	}
	return err != nil && strings.Contains(err.Error(), "database is locked") // mattn/go-sqlite3
}

// Bytes is the opposite of [Text].
func Bytes(text string) (string, error) {
	digits, escaped := strings.CutPrefix(text, `\x`)
	if !escaped {
		return text, nil
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return "", fmt.Errorf("%.40q is not what was written: %w", text, err)
	}
	return string(b), nil
}
