package mgmtclient

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask makes a client for a server that answers so.
func ask(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return client(t, s.URL)
}

func client(t *testing.T, url string) *Client {
	t.Helper()
	c, err := New(Config{URL: url, User: "anna", Password: "s3cret", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestListsAreReadPageByPage(t *testing.T) {
	const total = 2*pageItems + 1
	var asked []string
	c := ask(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, r.Method+" "+r.URL.EscapedPath()+" "+user+":"+password)
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		size, _ := strconv.Atoi(r.URL.Query().Get("page_size"))
		fmt.Fprintf(w, `{"page_count":%d,"items":[`, (total+size-1)/size)
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			if i > (page-1)*size {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, `{"name":"q%d","arguments":[],"messages_dlx":3}`, i)
		}
		fmt.Fprint(w, "]}")
	})
	queues, err := c.Queues(t.Context(), "a/b")
	if err != nil || len(queues) != total || queues[total-1].Name != fmt.Sprint("q", total-1) || queues[0].Dying != 3 {
		t.Fatalf("%d queues, %v", len(queues), err)
	}
	if len(asked) != 3 || asked[0] != "GET /api/queues/a%2Fb anna:s3cret" {
		t.Errorf("%q", asked)
	}
}

func TestAListWithoutPages(t *testing.T) {
	c := ask(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `[{"name":"a"},{"name":"b"}]`) })
	if list, err := c.Channels(t.Context()); err != nil || len(list) != 2 || list[1].Name != "b" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAShorterLastPage(t *testing.T) {
	c := ask(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "1" {
			fmt.Fprint(w, `{"page_count":2,"items":[{"name":"a"}]}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"page_out_of_range","reason":"Page out of range"}`)
	})
	if list, err := c.Queues(t.Context(), ""); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"login": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"not_authorized","reason":"Login failed"}`)
		}, `refuses the login of user "anna": wrong user or password`},
		"not an API": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }, "is no management API: what it answers to /api/overview is not JSON"},
		"other site": {http.NotFound, "is no management API: it has no /api"},
		"missing": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"Object Not Found","reason":"Not Found"}`)
		}, "has no /api/overview"},
		"broken": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"error":"internal","reason":"out of order"}`)
		}, "answers 500: out of order"},
		"other types": {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"product_name":[1]}`) }, "cannot be read"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"product_name":"`)
			chunk := strings.Repeat("x", 1<<20)
			for range maxAnswerBytes>>20 + 1 {
				if _, err := fmt.Fprint(w, chunk); err != nil {
					return
				}
			}
		}, "is longer than 64 MiB"},
		"cut": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "ended the connection without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask(t, c.answer).Overview(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = client(t, "http://"+l.Addr().String()).Whoami(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connection refused. On RabbitMQ the management plugin has to be on") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(t, "http://127.0.0.1:1").Whoami(ctx); err == nil || err.Error() != "interrupted" {
		t.Error(err)
	}
}

func TestASilentServer(t *testing.T) {
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-done }))
	defer s.Close()
	defer close(done)
	c, err := New(Config{URL: s.URL, Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Overview(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Error(err)
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"http://host:15672":               "http://host:15672",
		"http://u:p@host:15672/":          "http://host:15672",
		"https://host/rabbit/api/":        "https://host/rabbit",
		"http://host:15672/?columns=name": "http://host:15672",
	} {
		if c, err := New(Config{URL: url}); err != nil || c.Address() != want {
			t.Errorf("%s: %v, %v", url, c, err)
		}
	}
	for _, url := range []string{"", "host:15672", "amqp://host", "http://", "http://u:s%zzcret@host"} {
		if _, err := New(Config{URL: url}); err == nil || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestTags(t *testing.T) {
	for text, want := range map[string]bool{`["monitoring"]`: true, `"policymaker,administrator"`: true, `["management"]`: false, `[]`: false, `""`: false} {
		c := ask(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"name":"x","tags":%s}`, text) })
		if who, err := c.Whoami(t.Context()); err != nil || who.Monitors() != want {
			t.Errorf("%s: %+v, %v", text, who, err)
		}
	}
}

func TestArgumentsAndPolicies(t *testing.T) {
	q := Queue{Arguments: Table{"x-max-length": 10.0, "x-overflow": "drop-head"}, Policy: Table{"max-length": 5.0, "overflow": "reject-publish", "dead-letter-exchange": "dlx"}}
	for name, want := range map[string]any{"x-max-length": 5.0, "x-overflow": "drop-head", "x-dead-letter-exchange": "dlx", "x-message-ttl": nil} {
		if got := q.Argument(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
