package dialect_test

import (
	"fmt"

	"github.com/warrenmq/warren/reliable/dialect"
)

// A statement with numbered question marks, as a database wants it.
func ExampleDialect_Bind() {
	const statement = "SELECT body FROM outbox WHERE id = ?1 AND attempts < ?2"
	fmt.Println(dialect.Postgres.Bind(statement))
	fmt.Println(dialect.SQLite.Bind(statement))
	// Output:
	// SELECT body FROM outbox WHERE id = $1 AND attempts < $2
	// SELECT body FROM outbox WHERE id = ?1 AND attempts < ?2
}
