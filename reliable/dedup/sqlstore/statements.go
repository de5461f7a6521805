package sqlstore

import (
	"strings"

	"github.com/warrenmq/warren/reliable/dialect"
)

// Schema returns the statements that make the table and its index, for those who keep their migrations
// elsewhere. They do nothing if both are there. Times are microseconds since 1970.
func Schema(d dialect.Dialect, table string) ([]string, error) {
	if err := dialect.Check(d, table); err != nil {
		return nil, err
	}
	withoutRowID := ""
	if d == dialect.SQLite {
		withoutRowID = " WITHOUT ROWID"
	}
	index := table[strings.IndexByte(table, '.')+1:] + "_keep"
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + table + ` (
	consumer    text    NOT NULL,
	id          text    NOT NULL,
	generation  integer NOT NULL,
	attempt     integer NOT NULL,
	done        boolean NOT NULL,
	token       text    NOT NULL,
	lease_until bigint  NOT NULL,
	keep_until  bigint  NOT NULL,
	PRIMARY KEY (consumer, id)
)` + withoutRowID,
		`CREATE INDEX IF NOT EXISTS ` + index + ` ON ` + table + ` (keep_until)`,
	}, nil
}

// statements are those of a store. They say what dedup.Record says. Parameter 1 is the time, NULL for the
// server's; 2 and 3 are the key.
type statements struct {
	lease, record string // 4, 5 attempt, 6 token, 7 lease, 8 keep
	look          string
	renew         string // 4 token, 5 keep, 6 lease
	complete      string // 4 token, 5 keep
	release       string // 4 token, 5 keep, 6, 7 next attempt
	purge         string // 2 rows
}

func newStatements(d dialect.Dialect, table string) statements {
	forUpdate := ""
	if d == dialect.Postgres {
		// With the rows locked, none of them can be one that was just taken again.
		forUpdate = " FOR UPDATE SKIP LOCKED"
	}
	fill := func(text string) string {
		return d.Bind(strings.NewReplacer("{table}", table, "{for update}", forUpdate,
			"{now}", "COALESCE(CAST(?1 AS bigint), "+d.ServerMicros()+")").Replace(text))
	}
	// The row's time to be kept without the length of that time is now, the same for all of the statement.
	const take = `
INSERT INTO {table} AS r (consumer, id, generation, attempt, done, token, lease_until, keep_until)
SELECT CAST(?2 AS text), CAST(?3 AS text), CAST(?4 AS integer), CAST(?5 AS integer), {done}, CAST(?6 AS text),
	{lease until}, n.now + CAST(?8 AS bigint)
FROM (SELECT {now} AS now) AS n WHERE true
ON CONFLICT (consumer, id) DO UPDATE SET generation = excluded.generation, attempt = excluded.attempt, done = excluded.done,
	token = excluded.token, lease_until = excluded.lease_until, keep_until = excluded.keep_until
WHERE r.keep_until <= excluded.keep_until - CAST(?8 AS bigint)
	OR (NOT r.done AND r.lease_until <= excluded.keep_until - CAST(?8 AS bigint)
		AND (r.generation, r.attempt) <= (excluded.generation, excluded.attempt))`
	const change = `
UPDATE {table} SET {set}, keep_until = {now} + CAST(?5 AS bigint)
WHERE consumer = ?2 AND id = ?3 AND token = ?4 AND keep_until > {now} AND `
	held := "lease_until <> 0" // done rows have none
	return statements{
		lease:  fill(strings.NewReplacer("{done}", "false", "{lease until}", "n.now + CAST(?7 AS bigint)").Replace(take)),
		record: fill(strings.NewReplacer("{done}", "true", "{lease until}", "0 * CAST(?7 AS bigint)").Replace(take)),
		look: fill(`SELECT {now}, generation, attempt, done, token, lease_until, keep_until FROM {table}
WHERE consumer = ?2 AND id = ?3`),
		renew:    fill(strings.ReplaceAll(change, "{set}", "lease_until = {now} + CAST(?6 AS bigint)") + held),
		complete: fill(strings.ReplaceAll(change, "{set}", "done = true, lease_until = 0") + "(done OR lease_until <> 0)"),
		release: fill(strings.ReplaceAll(change, "{set}", "generation = CAST(?6 AS integer), attempt = CAST(?7 AS integer), lease_until = 0") +
			"NOT done AND (lease_until <> 0 OR generation = CAST(?6 AS integer) AND attempt = CAST(?7 AS integer))"),
		purge: fill(`
DELETE FROM {table} WHERE keep_until <= {now} AND (consumer, id) IN
	(SELECT consumer, id FROM {table} WHERE keep_until <= {now} ORDER BY keep_until LIMIT ?2{for update})`),
	}
}
