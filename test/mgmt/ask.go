package mgmt

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Answer is what a broker answers to one request, reduced (Reduce).
type Answer struct {
	Request string `json:"request"`
	Status  int    `json:"status"`
	Body    any    `json:"body"` // nil if there is none
}

// Ask sends the requests of a text to the API at base and returns the answers in
// their order.
func Ask(base, requests string) ([]Answer, error) {
	var answers []Answer
	who := ""
	for line := range strings.Lines(requests) {
		line = strings.TrimSpace(line)
		switch user, isUser := strings.CutPrefix(line, "as "); {
		case line == "" || strings.HasPrefix(line, "#"):
		case isUser:
			who = user
		default:
			a, err := askOne(base, who, line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", line, err)
			}
			answers = append(answers, a)
		}
	}
	return answers, nil
}

func askOne(base, who, line string) (Answer, error) {
	a := Answer{Request: line}
	if who != "guest:guest" {
		a.Request += " as " + who
	}
	method, rest, _ := strings.Cut(line, " ")
	rest, err := fill(base, rest)
	if err != nil {
		return a, err
	}
	path, body, _ := strings.Cut(rest, " ")
	a.Status, a.Body, err = send(method, base+path, who, body)
	if shared(path) {
		a.Body = Shape(a.Body)
	} else {
		a.Body = Reduce(a.Body)
	}
	return a, err
}

var placeholder = regexp.MustCompile(`\{connection ([a-z ]+)\}`)

// fill puts in what is not known before.
func fill(base, text string) (string, error) {
	text = strings.ReplaceAll(text, "{vhost}", url.PathEscape(VHost))
	m := placeholder.FindStringSubmatchIndex(text)
	if m == nil {
		return text, nil
	}
	want := text[m[2]:m[3]]
	req, err := http.NewRequest(http.MethodGet, base+"/api/vhosts/"+url.PathEscape(VHost)+"/connections", nil)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth("guest", "guest")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var list []struct {
		Name     string `json:"name"`
		Provided string `json:"user_provided_name"`
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		return "", err
	}
	for _, c := range list {
		if c.Provided == want {
			return text[:m[0]] + url.PathEscape(c.Name) + text[m[1]:], nil
		}
	}
	return "", fmt.Errorf("no connection calls itself %q", want)
}

// shared tells whether an answer is about more than the scene, so that its values
// depend on what else is on the broker.
func shared(path string) bool {
	return path == "/api/overview" || path == "/api/definitions" || path == "/api/users"
}

func send(method, target, who, body string) (status int, answer any, err error) {
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if name, password, ok := strings.Cut(who, ":"); ok {
		req.SetBasicAuth(name, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || len(text) == 0 {
		return res.StatusCode, nil, err
	}
	if kind := res.Header.Get("Content-Type"); kind != "application/json" {
		return 0, nil, fmt.Errorf("the answer is %q: %.100s", kind, text)
	}
	var parsed any
	if err := json.Unmarshal(text, &parsed); err != nil {
		return 0, nil, fmt.Errorf("%w in %.200s", err, text)
	}
	return res.StatusCode, parsed, nil
}
