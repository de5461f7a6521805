package redisstore_test

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/deduptest"
	"github.com/warrenmq/warren/reliable/dedup/redisstore"
)

func connect(t testing.TB) *redis.Client {
	t.Helper()
	url := os.Getenv("WARREN_TEST_REDIS_URL")
	if url == "" {
		t.Skip("WARREN_TEST_REDIS_URL is not set: test/peers/redis-debian.sh start prints one")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

// prefix is one that no other test uses. What is left below it expires soon.
func prefix() string { return "test:" + rand.Text() + ":" }

func TestRedis(t *testing.T) {
	connect(t)
	var client *redis.Client
	var o redisstore.Options
	deduptest.Run(t, deduptest.Harness{
		Open: func(t testing.TB, now func() time.Time) dedup.Store {
			client, o = connect(t), redisstore.Options{Prefix: prefix(), Now: now}
			return redisstore.New(client, o)
		},
		Crash: func(t testing.TB) dedup.Store {
			client.Close()
			return redisstore.New(connect(t), o)
		},
	})
}

func life() dedup.Lifetimes { return dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour} }

// TestServerClock uses the time that the store takes by itself.
func TestServerClock(t *testing.T) {
	s := redisstore.New(connect(t), redisstore.Options{Prefix: prefix()})
	key := dedup.Key{Consumer: "c", ID: "m"}
	short := dedup.Lifetimes{Lease: 50 * time.Millisecond, Keep: time.Hour}
	c, err := s.Begin(t.Context(), key, dedup.Attempt{Number: 1}, short)
	if err != nil || c.Status != dedup.Acquired || c.Left > short.Lease {
		t.Fatalf("%+v, %v", c, err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		other, err := s.Begin(t.Context(), key, dedup.Attempt{Number: 1}, short)
		if err != nil {
			t.Fatal(err)
		}
		if other.Status == dedup.Acquired {
			break
		}
		if other.Status != dedup.InProgress || other.Left <= 0 || other.Left > short.Lease {
			t.Fatalf("%+v", other)
		}
		if time.Now().After(deadline) {
			t.Fatal("the lease never ends")
		}
		<-time.After(time.Millisecond)
	}
	if err := s.Renew(t.Context(), c); !errors.Is(err, dedup.ErrLost) {
		t.Errorf("the first lease: %v", err)
	}
}

// TestRecordsExpire: Redis itself forgets a record, and not before its time.
func TestRecordsExpire(t *testing.T) {
	client := connect(t)
	o := redisstore.Options{Prefix: prefix()}
	s := redisstore.New(client, o)
	c, err := s.Begin(t.Context(), dedup.Key{Consumer: "c", ID: "m"}, dedup.Attempt{Number: 1}, life())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return nil },
		func() error { return s.Renew(t.Context(), c) },
		func() error { return s.Complete(t.Context(), c) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		left, err := client.PTTL(t.Context(), o.Prefix+"1:c:m").Result()
		if err != nil || left < 59*time.Minute || left > 61*time.Minute {
			t.Errorf("the record expires after %v, %v, want an hour", left, err)
		}
	}
}

func TestCheckServer(t *testing.T) {
	client := connect(t)
	s := redisstore.New(client, redisstore.Options{Prefix: prefix()})
	const setting = "maxmemory-policy"
	before, err := client.ConfigGet(t.Context(), setting).Result()
	if err != nil {
		t.Fatal(err)
	}
	defer client.ConfigSet(t.Context(), setting, before[setting])
	for policy, fine := range map[string]bool{"noeviction": true, "allkeys-lru": false, "volatile-ttl": false} {
		if err := client.ConfigSet(t.Context(), setting, policy).Err(); err != nil {
			t.Fatal(err)
		}
		err := s.CheckServer(t.Context())
		if (err == nil) != fine || err != nil && !strings.Contains(err.Error(), policy) {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// TestServerIsGone: an error, and soon.
func TestServerIsGone(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer client.Close()
	s := redisstore.New(client, redisstore.Options{})
	if _, err := s.Begin(t.Context(), dedup.Key{Consumer: "c", ID: "m"}, dedup.Attempt{Number: 1}, life()); err == nil {
		t.Error("no error without a server")
	}
	if err := s.Complete(t.Context(), dedup.Claim{Token: "x"}); err == nil || errors.Is(err, dedup.ErrLost) {
		t.Errorf("without a server: %v, which is not to be taken for a lost lease", err)
	}
	if err := s.CheckServer(t.Context()); err == nil {
		t.Error("no error without a server")
	}
}
