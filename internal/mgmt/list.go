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
	// column, if it is set, gives the value of some columns without the rest of
	// the row.
	column func(t T, name string) (value any, ok bool)
	paging bool // RabbitMQ has pages of this list
}

// send filters, sorts and cuts the list, and writes what is left, row by row. To
// sort by a column each row is made once for its key, unless the list knows the
// column, and again when it is written.
func (l list[T]) send(q *request) error {
	if !l.paging {
		q.list.paged, q.list.match = false, nil
	}
	total := len(l.things)
	if q.list.match != nil {
		l.things = slices.DeleteFunc(l.things, func(t T) bool { return !q.list.match(l.name(t)) })
	}
	filtered := len(l.things)
	if !q.list.paged {
		l.order(q, filtered)
		return l.write(q, nil, nil)
	}
	first := (q.list.page - 1) * q.list.size
	if first > 0 && first >= filtered {
		return &failure{http.StatusBadRequest, "page_out_of_range",
			fmt.Sprintf("Page out of range, page: %d page size: %d, len: %d", q.list.page, q.list.size, filtered)}
	}
	l.order(q, min(first+q.list.size, filtered))
	l.things = l.things[min(first, filtered):min(first+q.list.size, filtered)]
	head := fmt.Appendf(nil, `{"filtered_count":%d,"item_count":%d,"items":`, filtered, len(l.things))
	tail := fmt.Appendf(nil, `,"page":%d,"page_count":%d,"page_size":%d,"total_count":%d}`,
		q.list.page, (filtered+q.list.size-1)/q.list.size, q.list.size, total)
	return l.write(q, head, tail)
}

// keyed is a thing with what it is sorted by.
type keyed[T any] struct {
	key   any
	thing T
}

// order sorts so much of the list that its first n are right.
func (l list[T]) order(q *request, n int) {
	sign := 1
	if q.list.reverse {
		sign = -1
	}
	if q.list.sort == nil {
		sortFirst(l.things, n, func(a, b T) int { return sign * l.before(a, b) })
		return
	}
	all := make([]keyed[T], len(l.things))
	for i, t := range l.things {
		all[i] = keyed[T]{l.key(t, q.list.sort), t}
	}
	sortFirst(all, n, func(a, b keyed[T]) int {
		return sign * cmp.Or(compare(a.key, b.key), l.before(a.thing, b.thing))
	})
	for i := range all {
		l.things[i] = all[i].thing
	}
}

func (l list[T]) key(t T, path []string) any {
	if l.column != nil && len(path) == 1 {
		if v, ok := l.column(t, path[0]); ok {
			return v
		}
	}
	return at(l.row(t), path)
}

// fewRows is how many rows are worth being picked out of a list instead of sorting
// all of it.
const fewRows = 2048

// sortFirst puts the n first elements of a total order in front, sorted. The rest
// has no order then.
func sortFirst[T any](list []T, n int, before func(a, b T) int) {
	if n > fewRows || n > len(list)/2 {
		slices.SortFunc(list, before)
		return
	}
	front := list[:n]
	slices.SortFunc(front, before)
	for i := n; i < len(list) && n > 0; i++ {
		if before(list[i], front[n-1]) >= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(front, list[i], before)
		list[i], front[n-1] = front[n-1], list[i]
		last := front[n-1]
		copy(front[at+1:], front[at:n-1])
		front[at] = last
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
