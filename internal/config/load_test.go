package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/auth"
)

// load runs Load with the text as file "w.toml" ("" for no file).
func load(file string, env map[string]string, flags map[string][]string) (*Config, error) {
	src := Sources{
		Flags:  flags,
		Getenv: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
		Read: func(name string) ([]byte, error) {
			if name != "w.toml" {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			return []byte(file), nil
		},
	}
	if file != "" {
		src.File = "w.toml"
	}
	return Load(src)
}

func mustLoad(t *testing.T, file string, env map[string]string, flags map[string][]string) *Config {
	t.Helper()
	c, err := load(file, env, flags)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// logsIn tells whether the configured users accept a name and password.
func logsIn(t *testing.T, c *Config, name, password string, loopback bool) bool {
	t.Helper()
	_, f := authUsers(t, c).Authenticate("PLAIN", []byte("\x00"+name+"\x00"+password), loopback)
	return f == nil
}

// authUsers makes of the configuration what the broker makes of it.
func authUsers(t *testing.T, c *Config) *auth.Users {
	t.Helper()
	users := auth.NewUsers()
	b := c.Broker(nil, "")
	for _, u := range b.Users {
		if err := users.AddHash(u.Name, u.PasswordHash); err != nil {
			t.Fatal(err)
		}
		if err := users.LimitToVhosts(u.Name, u.VHosts...); err != nil {
			t.Fatal(err)
		}
	}
	users.LimitToLoopback(b.LoopbackUsers...)
	return users
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, "", nil, nil)
	want := Limits{
		FrameMaxBytes: 131072, ChannelMax: 2047, Heartbeat: time.Minute, MaxMessageBytes: 16777216,
		Memory: Size{Percent: 60}, BodyMemoryBytes: 16 << 20, IndexMemoryBytes: 64 << 20, DiskFreeBytes: 50_000_000, HandshakeTimeout: 10 * time.Second,
	}
	if c.Limits != want {
		t.Errorf("limits %+v, want %+v", c.Limits, want)
	}
	if fmt.Sprint(c.Listen, c.Vhosts, c.LoopbackUsers, c.Log) != "[:5672] [/] [guest] {INFO text}" {
		t.Errorf("got %v %v %v %v", c.Listen, c.Vhosts, c.LoopbackUsers, c.Log)
	}
	if !logsIn(t, c, "guest", "guest", true) || logsIn(t, c, "guest", "guest", false) {
		t.Error("guest must log in from loopback and only from there")
	}
}

func TestLaterSourcesWin(t *testing.T) {
	const file = `
listen = ["127.0.0.1:1"]
vhosts = ["file"]
[limits]
frame_max = 5000
channel_max = 10
heartbeat = "30s"
[log]
level = "debug"
`
	env := map[string]string{
		"WARREN_LISTEN": "127.0.0.1:2, 127.0.0.1:3", "WARREN_FRAME_MAX": "6000", "WARREN_CHANNEL_MAX": "11",
		"WARREN_VHOSTS": "env", "WARREN_HEARTBEAT": "",
	}
	flags := map[string][]string{"frame-max": {"7000"}, "vhost": {"flag", "file"}}
	c := mustLoad(t, file, env, flags)
	if !reflect.DeepEqual(c.Listen, []string{"127.0.0.1:2", "127.0.0.1:3"}) {
		t.Errorf("listen %v: the environment must replace the file's list", c.Listen)
	}
	if c.Limits.FrameMaxBytes != 7000 || c.Limits.ChannelMax != 11 || c.Limits.Heartbeat != 30*time.Second || c.Log.Level != slog.LevelDebug {
		t.Errorf("got %+v %v: want 7000 of the flag, 11 of the environment, 30s and debug of the file", c.Limits, c.Log.Level)
	}
	if !reflect.DeepEqual(c.Vhosts, []string{"/", "file", "env", "flag"}) {
		t.Errorf("vhosts %v: they must add up", c.Vhosts)
	}
}

func TestUsersAddUpAndReplaceGuest(t *testing.T) {
	hash, err := auth.HashPassword("by-hash")
	if err != nil {
		t.Fatal(err)
	}
	file := "vhosts = ['shop']\n[[users]]\nname = 'anna'\npassword = 'old'\n[[users]]\nname = 'otto'\npassword_hash = '" + hash + "'\nvhosts = ['shop']\n"
	c := mustLoad(t, file, map[string]string{"WARREN_USERS": "env:e1"}, map[string][]string{"user": {"anna:new:with:colons"}})
	for _, in := range []struct {
		name, password string
		want           bool
	}{
		{"anna", "new:with:colons", true}, {"anna", "old", false}, {"otto", "by-hash", true}, {"env", "e1", true}, {"guest", "guest", false},
	} {
		if got := logsIn(t, c, in.name, in.password, true); got != in.want {
			t.Errorf("%s with %s: logged in %v, want %v", in.name, in.password, got, in.want)
		}
	}
	users := authUsers(t, c)
	if users.CheckVhost("otto", "shop") != nil || users.CheckVhost("otto", "/") == nil || users.CheckVhost("anna", "/") != nil {
		t.Error("otto may open shop only, anna everything")
	}
}

func TestLoopbackUsersCanBeNobody(t *testing.T) {
	for name, c := range map[string]*Config{
		"file": mustLoad(t, "loopback_users = []", nil, nil),
		"flag": mustLoad(t, "", nil, map[string][]string{"loopback-user": {""}}),
	} {
		if !logsIn(t, c, "guest", "guest", false) {
			t.Errorf("%s: guest is still limited to loopback", name)
		}
	}
}

func TestErrorsAreOneClearLine(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        map[string]string
		flags      map[string][]string
		want       string
	}{
		{name: "syntax", file: "listen = [\n\nx", want: "w.toml:3: "},
		{name: "unknown key", file: "[limits]\nframe_mx = 1", want: "w.toml: unknown key limits.frame_mx, did you mean limits.frame_max?"},
		{name: "key outside its table", file: "frame_max = 1", want: "w.toml: unknown key frame_max, did you mean limits.frame_max?"},
		{name: "swapped letters", file: "lisetn = []", want: "w.toml: unknown key lisetn, did you mean listen?"},
		{name: "nothing near", file: "colour = 'red'", want: "w.toml: unknown key colour"},
		{name: "a flag's name in the file", file: "user = ['a:s3cret']", want: "w.toml: unknown key user, did you mean users?"},
		{name: "unknown key of a user", file: "[[users]]\nname='a'\npasword='s3cret'", want: "w.toml: users[0]: unknown key pasword, did you mean password?"},
		{name: "user without secret", file: "[[users]]\nname='a'", want: "w.toml: users[0]: user 'a' needs either password or password_hash"},
		{name: "user without name", file: "[[users]]\npassword='s3cret'", want: "w.toml: users[0]: a user needs a name"},
		{name: "user's bad hash", file: "[[users]]\nname='a'\npassword_hash='s3cret'", want: "w.toml: users[0]: user 'a': the password hash is not base64"},
		{name: "user's unknown vhost", file: "[[users]]\nname='a'\npassword='s3cret'\nvhosts=['x']", want: "user 'a' may open the vhost 'x', but there is no such vhost"},
		{name: "users as one table", file: "[users]\nname='a'", want: "w.toml: unknown key users.name"},
		{name: "no list", file: "listen = ':5672'", want: `w.toml: listen: want a list such as ["a", "b"]`},
		{name: "a list", file: "[limits]\nframe_max = [1]", want: "w.toml: limits.frame_max: want one value, not a list"},
		{name: "a float", file: "[limits]\nframe_max = 1.5", want: "w.toml: limits.frame_max: want a string, a whole number, true or false, not 1.5"},
		{name: "no address", file: "listen = []", want: "w.toml: listen: names no address"},
		{name: "missing file", env: map[string]string{"WARREN_CONFIG": "no.toml"}, want: "the configuration file cannot be read: open no.toml: file does not exist"},
		{name: "range in env", env: map[string]string{"WARREN_FRAME_MAX": "12"}, want: "WARREN_FRAME_MAX: 12 is out of range, it must be from 4096 to 16777216"},
		{name: "flag without port", flags: map[string][]string{"listen": {"localhost"}}, want: `--listen: "localhost" is not an address such as :5672 or 127.0.0.1:5672`},
		{name: "flag port", flags: map[string][]string{"listen": {":amqp"}}, want: `--listen: the port of ":amqp" must be a number from 0`},
		{name: "user flag", flags: map[string][]string{"user": {"s3cret"}}, want: "--user: want NAME:SECRET with both parts there"},
		{name: "half a second", flags: map[string][]string{"heartbeat": {"1500ms"}}, want: "--heartbeat: 1.5s is not a whole number of seconds"},
		{name: "size", flags: map[string][]string{"max-message-size": {"16M"}}, want: `--max-message-size: "16M" is not a size such as 16777216, 512MiB or 1.5GB`},
		{name: "large size", flags: map[string][]string{"max-message-size": {"1GiB"}}, want: "--max-message-size: 1GiB is out of range, it must be from 1 byte to 512MiB"},
		{name: "share", flags: map[string][]string{"memory-limit": {"0%"}}, want: `--memory-limit: "0%" is not a share from 1% to 100%`},
		{name: "level", flags: map[string][]string{"log-level": {"loud"}}, want: `--log-level: "loud" is not a log level, choose debug, info, warn or error`},
		{name: "format", flags: map[string][]string{"log-format": {"xml"}}, want: `--log-format: "xml" is not a log format, choose text or json`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(c.file, c.env, c.flags)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows a password: %s", err)
			}
		})
	}
}

func TestMissingFileCanBeTested(t *testing.T) {
	_, err := Load(Sources{File: "no.toml", Read: func(string) ([]byte, error) { return nil, fs.ErrNotExist }})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want it to wrap fs.ErrNotExist", err)
	}
}

func TestPrintIsReadAgain(t *testing.T) {
	c := mustLoad(t, "[log]\nlevel='warn'\n[[users]]\nname='a\"b\\\\c'\npassword='s3cret'\nvhosts=['/']",
		map[string]string{"WARREN_VHOSTS": "v\x01é"}, map[string][]string{"memory-limit": {"512MiB"}, "heartbeat": {"0"}, "vhost": {"w"}})
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	hash := c.Users[0].Hash
	if strings.Contains(text, "s3cret") || strings.Contains(text, hash) || !strings.Contains(text, `password_hash = "***"`) {
		t.Errorf("a secret is printed, or not marked:\n%s", text)
	}
	for _, want := range []string{"# w.toml: log.level\n", "# --memory-limit\n", "# WARREN_VHOSTS, --vhost\n", "# default\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no value has the remark %q:\n%s", want, text)
		}
	}
	if _, err := load(text, nil, nil); err == nil {
		t.Error("*** was accepted as a password hash")
	}
	again := mustLoad(t, strings.ReplaceAll(text, hidden, hash), nil, nil)
	c.origin, again.origin, c.seenData, again.seenData, c.seenMemory, again.seenMemory = nil, nil, "", "", "", ""
	if !reflect.DeepEqual(c, again) {
		t.Errorf("read again: %+v\nwas: %+v\n%s", again, c, text)
	}
}

func TestBrokerConfig(t *testing.T) {
	c := mustLoad(t, "", nil, map[string][]string{"heartbeat": {"0"}, "memory-limit": {"512MiB"}, "loopback-user": {""}, "vhost": {"v"}, "max-connections": {"7"}})
	b := c.Broker(nil, "1.2.3")
	if b.Heartbeat >= 0 || b.LoopbackUsers == nil || len(b.LoopbackUsers) != 0 {
		t.Errorf("heartbeat %v and loopback users %#v would become the broker's defaults", b.Heartbeat, b.LoopbackUsers)
	}
	if b.MemoryLimitBytes != 512<<20 || b.MaxConnections != 7 || b.Version != "1.2.3" || fmt.Sprint(b.VHosts) != "[/ v]" {
		t.Errorf("got %+v", b)
	}
	share := mustLoad(t, "", nil, nil).Broker(nil, "").MemoryLimitBytes
	if total := UsableMemoryBytes(); share < total/2 || share > total*7/10 {
		t.Errorf("60%% of %d is %d?", total, share)
	}
	b.Dir = filepath.Join(t.TempDir(), "d") // the default would be in this folder
	broker, err := broker.Open(b)
	if err != nil {
		t.Fatalf("the broker refuses what has been checked: %v", err)
	}
	if err := broker.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDefaultsInHelp(t *testing.T) {
	got := map[string]string{}
	for _, s := range Settings() {
		got[s.Flag] = s.Default()
	}
	if got["listen"] != ":5672" || got["frame-max"] != "131072" || got["memory-limit"] != "60%" || got["heartbeat"] != "1m0s" || got["user"] != "" {
		t.Errorf("got %v", got)
	}
}

// TestDataOrMemory: within one kind of source the two exclude each other, and a
// stronger source overrules a weaker one.
func TestDataOrMemory(t *testing.T) {
	type m = map[string]string
	type f = map[string][]string
	for _, x := range []struct {
		name, file string
		env        m
		flags      f
		data       string
		err        string
	}{
		{name: "default", data: "./warren-data"},
		{name: "file", file: "data = 'a'", data: "a"},
		{name: "variable over file", file: "data = 'a'", env: m{"WARREN_DATA": "b"}, data: "b"},
		{name: "flag over variable", env: m{"WARREN_DATA": "b"}, flags: f{"data": {"c"}}, data: "c"},
		{name: "memory in the file", file: "memory = true"},
		{name: "memory by variable", env: m{"WARREN_MEMORY": "1"}},
		{name: "memory over a variable's data", env: m{"WARREN_DATA": "b"}, flags: f{"memory": {"true"}}},
		{name: "data over a variable's memory", env: m{"WARREN_MEMORY": "true"}, flags: f{"data": {"c"}}, data: "c"},
		{name: "no memory", file: "data = 'a'\nmemory = true\n", err: "w.toml: data and w.toml: memory exclude each other"},
		{name: "both flags", flags: f{"data": {"c"}, "memory": {"true"}}, err: "--data and --memory exclude each other"},
		{name: "both variables", env: m{"WARREN_DATA": "b", "WARREN_MEMORY": "true"}, err: "WARREN_DATA and WARREN_MEMORY exclude each other"},
		{name: "memory off", env: m{"WARREN_MEMORY": "true"}, flags: f{"data": {"c"}, "memory": {"false"}}, data: "c"},
		{name: "no directory", flags: f{"data": {""}}, err: "--data: names no directory"},
		{name: "neither", flags: f{"memory": {"maybe"}}, err: `--memory: "maybe" is neither true nor false`},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := load(x.file, x.env, x.flags)
			if x.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), x.err) {
					t.Errorf("got %v, want %s", err, x.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b := c.Broker(nil, ""); b.Dir != x.data || c.Memory != (x.data == "") {
				t.Errorf("data %q, memory %v, want %q", b.Dir, c.Memory, x.data)
			}
			var out bytes.Buffer
			if err := c.Print(&out); err != nil {
				t.Fatal(err)
			}
			if c.Users = nil; strings.Contains(out.String(), "\ndata = ") != (x.data != "") || !strings.Contains(out.String(), "\nmemory = ") {
				t.Errorf("printed:\n%s", out.String())
			}
		})
	}
}

func TestDiskSettings(t *testing.T) {
	c := mustLoad(t, "[limits]\nbody_memory = '64MiB'", nil, map[string][]string{"disk-free-limit": {"0"}})
	if b := c.Broker(nil, ""); b.BodyMemoryBytes != 64<<20 || b.MinFreeDiskBytes >= 0 {
		t.Errorf("got %d and %d; 0 would be the broker's default", b.BodyMemoryBytes, b.MinFreeDiskBytes)
	}
	if b := Defaults().Broker(nil, ""); b.BodyMemoryBytes != 16<<20 || b.MinFreeDiskBytes != 50_000_000 {
		t.Errorf("defaults %d and %d", b.BodyMemoryBytes, b.MinFreeDiskBytes)
	}
}

func TestEverySettingHasItsOwnNames(t *testing.T) {
	seen := map[string]string{}
	for _, s := range Settings() {
		for _, name := range []string{"key " + s.Key, "flag " + s.Flag, "env " + s.Env} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s belongs to %s and %s", name, other, s.Key)
			}
			seen[name] = s.Key
		}
		if s.Usage == "" || (s.Arg == "") != s.Bool {
			t.Errorf("%s has no usage", s.Key)
		}
	}
}
