package cli

import (
	"encoding/json"
	"io"

	"github.com/warrenmq/warren/internal/store"
)

// The names of these fields are a promise (docs/durability.md): fields may be
// added, none is renamed, removed or given another meaning. Lists are never null.

// checkReport is what 'check --json' prints.
type checkReport struct {
	Directory       string `json:"directory"`
	Damaged         bool   `json:"damaged"`
	ShutDownInOrder bool   `json:"shut_down_in_order"`
	// NextLSN is the number of the next record: all that can be read are below it.
	NextLSN uint64 `json:"next_lsn"`
	// UnconfirmedBytes were being written and never confirmed; a start leaves them
	// behind, and that is no damage.
	UnconfirmedBytes int64            `json:"unconfirmed_bytes"`
	Checkpoint       *checkCheckpoint `json:"checkpoint"` // null if there is none
	Files            []checkFile      `json:"files"`
	Exchanges        int              `json:"exchanges"`
	Bindings         int              `json:"bindings"`
	Queues           []checkQueue     `json:"queues"`
	// LostRecords were confirmed and cannot be read: messages, acknowledgements or
	// definitions. LostMessages are those that a queue still names.
	LostRecords  int64         `json:"lost_records"`
	LostMessages int           `json:"lost_messages"`
	Damage       []checkDamage `json:"damage"`
	Blobs        checkBlobs    `json:"blobs"`
}

type checkCheckpoint struct {
	File    string `json:"file"`
	FromLSN uint64 `json:"from_lsn"`
}

type checkFile struct {
	File      string `json:"file"`
	Bytes     int64  `json:"bytes"`
	UsedBytes int64  `json:"used_bytes"`
	Records   int64  `json:"records"`
	FirstLSN  uint64 `json:"first_lsn"`
	NextLSN   uint64 `json:"next_lsn"` // of the next file; the same as first_lsn if it holds none
}

type checkQueue struct {
	VHost       string `json:"vhost"`
	Name        string `json:"name"`
	ID          uint64 `json:"id"`
	Messages    int    `json:"messages"` // that can be read
	Redelivered int    `json:"redelivered"`
	BodyBytes   int64  `json:"body_bytes"`
	// DefinitionLost: vhost and name are made up.
	DefinitionLost bool         `json:"definition_lost"`
	Lost           []checkPlace `json:"lost"` // messages that cannot be read
}

// checkBlobs are the files that have a large body each.
type checkBlobs struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// Unneeded are those that no message has any more; a start removes them.
	Unneeded int `json:"unneeded"`
}

type checkPlace struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

type checkDamage struct {
	checkPlace
	Reason string `json:"reason"`
	// Lost are the records from first_lsn up to, without, next_lsn.
	LostRecords int64  `json:"lost_records"`
	FirstLSN    uint64 `json:"first_lsn"`
	NextLSN     uint64 `json:"next_lsn"`
}

func newCheckReport(dir string, in *store.Inspection) *checkReport {
	r := &checkReport{
		Directory: dir, Damaged: in.Damaged(), ShutDownInOrder: in.Log.Clean, NextLSN: uint64(in.Log.NextLSN),
		UnconfirmedBytes: in.Log.TornBytes, Exchanges: len(in.Exchanges), Bindings: len(in.Bindings),
		LostRecords: in.Log.Lost(), Files: []checkFile{}, Queues: []checkQueue{}, Damage: []checkDamage{},
		Blobs: checkBlobs{in.Blobs, in.BlobBytes, in.LeftBlobs},
	}
	if in.Checkpoint != "" {
		r.Checkpoint = &checkCheckpoint{File: in.Checkpoint, FromLSN: uint64(in.Log.Mark.From)}
	}
	for _, f := range in.Log.Files {
		r.Files = append(r.Files, checkFile{File: f.Name, Bytes: f.Bytes, UsedBytes: f.UsedBytes, Records: f.Records,
			FirstLSN: uint64(f.First), NextLSN: uint64(f.End)})
	}
	for _, q := range in.Queues {
		c := checkQueue{VHost: q.VHost, Name: q.Name, ID: q.ID, Messages: q.Messages, Redelivered: q.Redelivered,
			BodyBytes: q.BodyBytes, DefinitionLost: q.Orphan, Lost: []checkPlace{}}
		for _, u := range q.Unreadable {
			c.Lost = append(c.Lost, checkPlace{u.File, u.Offset})
		}
		r.LostMessages += len(c.Lost)
		r.Queues = append(r.Queues, c)
	}
	for _, s := range in.Bad {
		r.Damage = append(r.Damage, checkDamage{checkPlace: checkPlace{s.File, s.Offset}, Reason: s.Why,
			LostRecords: int64(s.End - s.First), FirstLSN: uint64(s.First), NextLSN: uint64(s.End)})
	}
	return r
}

func printInspectionJSON(w io.Writer, dir string, in *store.Inspection) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // names are for programs and people, not for a page
	return e.Encode(newCheckReport(dir, in))
}
