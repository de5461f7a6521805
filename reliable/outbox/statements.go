package outbox

import (
	"fmt"
	"strings"

	"github.com/warrenmq/warren/reliable/dialect"
)

// Schema returns the statements that make the outbox's tables and indexes, for those who keep their migrations
// elsewhere. They do nothing where all is there. Times are microseconds since 1970.
//
// A message that is to be published at once has due_at 0, so that order by due_at and seq is the order of Add
// for all of those. A message that failed has attempts above 0 and a due_at of its own.
func Schema(d dialect.Dialect, table string) ([]string, error) {
	if err := dialect.Check(d, table); err != nil {
		return nil, err
	}
	seq, bytes := "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytea"
	if d == dialect.SQLite {
		seq, bytes = "integer PRIMARY KEY AUTOINCREMENT", "blob"
	}
	index := table[strings.IndexByte(table, '.')+1:]
	list := []string{
		`CREATE TABLE IF NOT EXISTS ` + table + ` (
	seq         ` + seq + `,
	id          text    NOT NULL,
	key         text    NOT NULL,
	lane        integer NOT NULL,
	exchange    text    NOT NULL,
	routing_key text    NOT NULL,
	properties  text    NOT NULL,
	headers     text    NOT NULL,
	body        ` + bytes + ` NOT NULL,
	deliver_at  bigint  NOT NULL,
	added_at    bigint  NOT NULL,
	due_at      bigint  NOT NULL,
	attempts    integer NOT NULL DEFAULT 0,
	last_error  text    NOT NULL DEFAULT ''
)`,
		`CREATE INDEX IF NOT EXISTS ` + index + `_due ON ` + table + ` (lane, due_at, seq)`,
		`CREATE INDEX IF NOT EXISTS ` + index + `_failed ON ` + table + ` (key, seq) WHERE attempts > 0`,
		`CREATE TABLE IF NOT EXISTS ` + table + `_lanes (
	lane  integer PRIMARY KEY,
	owner text   NOT NULL DEFAULT '',
	until bigint NOT NULL DEFAULT 0
)`,
	}
	for lane := range lanes {
		list = append(list, fmt.Sprintf(`INSERT INTO %s_lanes (lane) VALUES (%d) ON CONFLICT (lane) DO NOTHING`, table, lane))
	}
	return list, nil
}

// statements are those of an outbox. Parameter 1 is the time, NULL for the server's.
type statements struct {
	add       string // 2 id, 3 key, 4 lane, 5 exchange, 6 routing key, 7 properties, 8 headers, 9 body, 10 due
	lock      string // 2 the lane to begin with
	own       string // 2 owner, 3 until
	disown    string // 2 owner
	take      string // 2 limit, 3 lane
	takeLater string // the same, of what has a due_at
	failed    string // 2 seq, 3 pause, 4 error
	remove    string // without the list of seqs
	backlog   string
}

func newStatements(d dialect.Dialect, table string) statements {
	inLane := "o.lane = ?3 AND "
	if d == dialect.SQLite {
		inLane = "?3 = 0 AND " // one relay has all lanes
	}
	// What can be published: due, and not behind a failure with the same key.
	const ready = `o.due_at <= {now} AND (o.key = '' OR NOT EXISTS
	(SELECT 1 FROM {table} AS f WHERE f.attempts > 0 AND f.key = o.key AND f.seq < o.seq))`
	const take = `
SELECT o.seq, o.id, o.key, o.exchange, o.routing_key, o.properties, o.headers, o.body, o.deliver_at, o.added_at, o.attempts
FROM {table} AS o WHERE `
	const order = ` ORDER BY o.due_at, o.seq LIMIT ?2`
	fill := func(text string) string {
		text = strings.ReplaceAll(text, "{ready}", ready)
		return d.Bind(strings.NewReplacer("{table}", table, "{lanes}", fmt.Sprint(lanes),
			"{now}", "COALESCE(CAST(?1 AS bigint), "+d.ServerMicros()+")").Replace(text))
	}
	return statements{
		add: fill(`
INSERT INTO {table} (id, key, lane, exchange, routing_key, properties, headers, body, deliver_at, added_at, due_at)
VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, CAST(?10 AS bigint), {now}, CAST(?10 AS bigint))`),
		lock: fill(`
SELECT l.lane FROM {table}_lanes AS l WHERE EXISTS (SELECT 1 FROM {table} AS o WHERE o.lane = l.lane AND {ready})
ORDER BY (l.lane - CAST(?2 AS integer) + {lanes}) % {lanes} LIMIT 1 FOR UPDATE OF l SKIP LOCKED`),
		own:       fill(`UPDATE {table}_lanes SET owner = ?2, until = ?3 WHERE lane = 0 AND (owner = ?2 OR until <= ?1)`),
		disown:    fill(`UPDATE {table}_lanes SET until = 0 WHERE lane = 0 AND owner = ?2`),
		take:      fill(take + inLane + "{ready}" + order),
		takeLater: fill(take + inLane + "o.due_at > 0 AND {ready}" + order),
		failed: fill(`
UPDATE {table} SET attempts = attempts + 1, due_at = {now} + CAST(?3 AS bigint), last_error = ?4 WHERE seq = ?2`),
		remove: fill(`DELETE FROM {table} WHERE seq IN `),
		backlog: fill(`
SELECT count(*), {now} - min(CASE WHEN deliver_at > added_at THEN deliver_at ELSE added_at END) FROM {table}`),
	}
}
