package mgmt

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/wire"
)

// list is a list on its way to the client: things, and how to make rows of them.
type list[T any] struct {
	things []T
	name   func(T) string // what name= looks at
	before func(a, b T) int
	row    func(T) object
	paging bool // RabbitMQ has pages of this list
}

// send filters, sorts and cuts the list, and writes what is left, row by row. To
// sort by a column each row is made once for its key, and again when it is
// written.
func (l list[T]) send(q *request) error {
	if !l.paging {
		q.list.paged, q.list.match = false, nil
	}
	total := len(l.things)
	if q.list.match != nil {
		l.things = slices.DeleteFunc(l.things, func(t T) bool { return !q.list.match(l.name(t)) })
	}
	slices.SortStableFunc(l.things, l.before)
	if q.list.sort != nil {
		l.sortBy(q.list.sort)
	}
	if q.list.reverse {
		slices.Reverse(l.things)
	}
	if !q.list.paged {
		return l.write(q, nil, nil)
	}
	filtered := len(l.things)
	first := (q.list.page - 1) * q.list.size
	if first > 0 && first >= filtered {
		return &failure{http.StatusBadRequest, "page_out_of_range",
			fmt.Sprintf("Page out of range, page: %d page size: %d, len: %d", q.list.page, q.list.size, filtered)}
	}
	l.things = l.things[min(first, filtered):min(first+q.list.size, filtered)]
	head := fmt.Appendf(nil, `{"filtered_count":%d,"item_count":%d,"items":`, filtered, len(l.things))
	tail := fmt.Appendf(nil, `,"page":%d,"page_count":%d,"page_size":%d,"total_count":%d}`,
		q.list.page, (filtered+q.list.size-1)/q.list.size, q.list.size, total)
	return l.write(q, head, tail)
}

func (l list[T]) sortBy(path []string) {
	type keyed struct {
		key   any
		thing T
	}
	all := make([]keyed, len(l.things))
	for i, t := range l.things {
		all[i] = keyed{at(l.row(t), path), t}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return compare(a.key, b.key) })
	for i := range all {
		l.things[i] = all[i].thing
	}
}

// at is the value at a dotted path, 0 if there is none (RabbitMQ's rule).
func at(v any, path []string) any {
	for _, key := range path {
		var ok bool
		switch o := v.(type) {
		case object:
			v, ok = o.get(key)
		case wire.Table:
			v, ok = o.Get(key)
		}
		if !ok {
			return 0
		}
	}
	return v
}

// compare orders values as Erlang does: numbers, then true, false and null, then
// everything that has members, then strings.
func compare(a, b any) int {
	ra, na, sa := rank(a)
	rb, nb, sb := rank(b)
	return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(na, nb), strings.Compare(sa, sb))
}

func rank(v any) (kind int, number float64, text string) {
	switch v := v.(type) {
	case int:
		return 0, float64(v), ""
	case int32:
		return 0, float64(v), ""
	case int64:
		return 0, float64(v), ""
	case uint16:
		return 0, float64(v), ""
	case uint32:
		return 0, float64(v), ""
	case uint64:
		return 0, float64(v), ""
	case float64:
		return 0, v, ""
	case bool:
		if v {
			return 1, 0, "true"
		}
		return 1, 0, "false"
	case nil:
		return 1, 0, "null"
	case string:
		return 3, 0, v
	}
	return 2, 0, ""
}

// flushAtBytes is how much of an answer is gathered before it is written.
const flushAtBytes = 32 << 10

// write writes the rows between head and tail. Once something is written there is
// no way to report an error but to stop.
func (l list[T]) write(q *request, head, tail []byte) error {
	q.begin(http.StatusOK)
	b := append(head, '[')
	for i, t := range l.things {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, q.list.columns.of(l.row(t)))
		if len(b) >= flushAtBytes {
			if _, err := q.w.Write(b); err != nil {
				return nil // the client has gone
			}
			b = b[:0]
		}
	}
	b = append(append(b, ']'), tail...)
	q.w.Write(b) // likewise
	return nil
}
