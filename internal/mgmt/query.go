package mgmt

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// query is what the parameters of a list ask for: which page of it, in which
// order, and which members of each row.
type query struct {
	paged        bool
	page, size   int
	match        func(name string) bool // nil: every name
	sort         []string               // a dotted path; nil: by name
	reverse      bool
	columns      columns
	noStats      bool // disable_stats
	totalsAnyway bool // enable_queue_totals
}

const (
	defaultPageSize = 100
	maxPageSize     = 500 // RabbitMQ's
	// maxPatternBytes bounds a regular expression, and maxColumns how many columns
	// may be named.
	maxPatternBytes = 1024
	maxColumns      = 256
	// maxPathDepth bounds the dotted path of a column.
	maxPathDepth = 16
)

// parseQuery reads the parameters that lists and objects have in common. Unknown
// parameters are ignored, as are name and page_size without page. The error is a
// 400 in RabbitMQ's words.
func parseQuery(values url.Values) (query, error) {
	q := query{
		reverse: values.Get("sort_reverse") == "true", noStats: values.Get("disable_stats") == "true",
		totalsAnyway: values.Get("enable_queue_totals") == "true",
	}
	if s := values.Get("sort"); s != "" && strings.Count(s, ".") < maxPathDepth {
		q.sort = strings.Split(s, ".")
	}
	var err error
	if q.columns, err = parseColumns(values.Get("columns")); err != nil {
		return q, err
	}
	if !values.Has("page") {
		return q, nil
	}
	q.paged, q.size = true, defaultPageSize
	size := "undefined"
	page, err := strconv.ParseInt(values.Get("page"), 10, 32)
	if err != nil {
		return q, badRequest("Pagination parameters are invalid")
	}
	if values.Has("page_size") {
		n, err := strconv.ParseInt(values.Get("page_size"), 10, 32)
		if err != nil {
			return q, badRequest("Pagination parameters are invalid")
		}
		size, q.size = strconv.FormatInt(n, 10), int(n)
	}
	if q.page = int(page); q.page < 1 || q.size < 1 || q.size > maxPageSize {
		return q, &failure{http.StatusBadRequest, "invalid_pagination_parameters",
			fmt.Sprintf("Invalid pagination parameters: page number %d, page size %s", q.page, size)}
	}
	q.match, err = parseName(values.Get("name"), values.Get("use_regex") == "true")
	return q, err
}

// parseName makes a filter for names, without regard to case. A regular
// expression that is none matches nothing, as in RabbitMQ; the syntax is RE2's,
// which has no way to take more than linear time.
func parseName(name string, isRegexp bool) (func(string) bool, error) {
	switch {
	case name == "":
		return nil, nil
	case len(name) > maxPatternBytes:
		return nil, badRequest(fmt.Sprintf("the name to look for has %d bytes, at most %d are allowed", len(name), maxPatternBytes))
	case !isRegexp:
		name = strings.ToLower(name)
		return func(s string) bool { return strings.Contains(strings.ToLower(s), name) }, nil
	}
	re, err := regexp.Compile("(?i)" + name)
	if err != nil {
		return func(string) bool { return false }, nil
	}
	return re.MatchString, nil
}

// columns are the members that a client wants to have: a tree of their paths. A
// nil tree stands for everything.
type columns map[string]columns

func parseColumns(list string) (columns, error) {
	if list == "" {
		return nil, nil
	}
	if strings.Count(list, ",") >= maxColumns {
		return nil, badRequest(fmt.Sprintf("more than %d columns", maxColumns))
	}
	tree := columns{}
	for path := range strings.SplitSeq(list, ",") {
		if strings.Count(path, ".") >= maxPathDepth {
			return nil, badRequest(fmt.Sprintf("a column is nested deeper than %d", maxPathDepth))
		}
		at := tree
		for path != "" {
			var name string
			name, path, _ = strings.Cut(path, ".")
			below, there := at[name]
			if there && below == nil {
				break // all of it is wanted already
			}
			if path == "" {
				at[name] = nil
				break
			}
			if below == nil {
				below = columns{}
				at[name] = below
			}
			at = below
		}
	}
	return tree, nil
}

// of is what the columns leave of v. A list has its elements cut down; a table of
// arguments is kept whole or not at all, as in RabbitMQ.
func (c columns) of(v any) any {
	if c == nil {
		return v
	}
	switch v := v.(type) {
	case object:
		kept := make(object, 0, len(c))
		for _, m := range v {
			below, wanted := c[m.key]
			if !wanted {
				continue
			}
			part := below.of(m.value)
			if o, isObject := part.(object); below == nil || !isObject || len(o) > 0 {
				kept = kept.with(m.key, part)
			}
		}
		return kept
	case []object:
		kept := make([]object, len(v))
		for i := range v {
			kept[i], _ = c.of(v[i]).(object)
		}
		return kept
	}
	return v
}

// wants tells whether a top-level member is asked for.
func (c columns) wants(key string) bool {
	if c == nil {
		return true
	}
	_, ok := c[key]
	return ok
}
