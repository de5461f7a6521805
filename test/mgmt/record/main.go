// Command record builds the scene of package test/mgmt on a real RabbitMQ, asks it
// everything that stands in requests.txt, and writes the reduced answers to a file.
// It makes the virtual host "scene" anew and deletes it in the end. It runs on one
// goroutine, once, by hand:
//
//	go run ./test/mgmt/record --out test/mgmt/testdata/recorded/4.3.json
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/warrenmq/warren/test/mgmt"
)

// settling is how long RabbitMQ takes until its statistics show what has happened:
// it collects them every five seconds.
const settling = 12 * time.Second

func main() {
	url := flag.String("url", "amqp://guest:guest@127.0.0.1:5673/", "AMQP `URL` of the broker")
	api := flag.String("api", "http://127.0.0.1:15673", "`URL` of its management API")
	requests := flag.String("requests", "test/mgmt/requests.txt", "`FILE` with what to ask")
	out := flag.String("out", "", "`FILE` to write")
	flag.Parse()
	if err := record(*url, *api, *requests, *out); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(url, api, requests, out string) error {
	text, err := os.ReadFile(requests)
	if err != nil {
		return err
	}
	if err := vhost(http.MethodDelete, api); err != nil {
		return err
	}
	if err := vhost(http.MethodPut, api); err != nil {
		return err
	}
	if err := awaitFresh(api); err != nil {
		return err
	}
	scene, err := mgmt.Build(url, nil)
	if err != nil {
		return err
	}
	defer scene.Close()
	<-time.After(settling)
	answers, err := mgmt.Ask(api, string(text))
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(answers, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return vhost(http.MethodDelete, api)
}

// awaitFresh waits until the figures of an earlier scene are forgotten.
func awaitFresh(api string) error {
	for deadline := time.Now().Add(10 * settling); ; {
		<-time.After(settling)
		req, err := http.NewRequest(http.MethodGet, api+"/api/vhosts/"+mgmt.VHost, nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth("guest", "guest")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		var row map[string]any
		err = json.NewDecoder(res.Body).Decode(&row)
		res.Body.Close()
		if err != nil {
			return err
		}
		if _, old := row["message_stats"]; !old {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the figures of an earlier scene do not go: delete the virtual host scene and try again later")
		}
	}
}

// vhost makes the scene's virtual host, or deletes it, whether it is there or not.
func vhost(method, api string) error {
	req, err := http.NewRequest(method, api+"/api/vhosts/"+mgmt.VHost, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth("guest", "guest")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
