package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
)

// certificate makes a self-signed certificate for localhost and its PEM files.
func certificate(t *testing.T) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err = tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

// tlsFront offers an embedded broker over TLS, which the broker itself does not
// speak: it passes decrypted bytes on. It returns the port.
func tlsFront(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	b, err := broker.Open(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			outside, err := l.Accept()
			if err != nil {
				return
			}
			inside, err := b.Dial("tcp", "")
			if err != nil {
				outside.Close()
				return
			}
			go func() { io.Copy(inside, outside); inside.Close() }()
			go func() { io.Copy(outside, inside); outside.Close() }()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestTLS(t *testing.T) {
	pair, certFile, keyFile := certificate(t)
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	open := tlsFront(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	mutual := tlsFront(t, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	const ok = "queue q: 0 messages, 0 consumers\n"
	for _, c := range []struct {
		name, host, port string
		flags            []string
		works            bool
		stderr           string // part of it
	}{
		{"unknown authority", "localhost", open, nil, false, "(name a file with --tls-ca to trust it)"},
		{"trusted", "localhost", open, []string{"--tls-ca", certFile}, true, ""},
		{"insecure", "localhost", open, []string{"--tls-insecure"}, true, ""},
		{"another name", "127.0.0.1", open, []string{"--tls-ca", certFile}, false, "127.0.0.1"},
		{"the name given", "127.0.0.1", open, []string{"--tls-ca", certFile, "--tls-server-name", "localhost"}, true, ""},
		{"with a client certificate", "localhost", mutual, []string{"--tls-ca", certFile, "--tls-cert", certFile, "--tls-key", keyFile}, true, ""},
		{"without one", "localhost", mutual, []string{"--tls-ca", certFile}, false, ""},
		{"no such file", "localhost", open, []string{"--tls-ca", certFile + "x"}, false, "--tls-ca: open"},
		{"no certificate in it", "localhost", open, []string{"--tls-ca", keyFile}, false, "has no certificate in PEM form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(urlEnv, "amqps://"+c.host+":"+c.port)
			got := run(t, "", append([]string{"declare", "queue", "q"}, c.flags...)...)
			if c.works {
				got.want(t, exitOK, ok, "")
				return
			}
			if got.code != exitFailed || !strings.Contains(got.stderr, c.stderr) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestBenchTLS loads a broker over TLS: a load of one's own, and a row of the suite.
func TestBenchTLS(t *testing.T) {
	pair, certFile, _ := certificate(t)
	port := tlsFront(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	url := "amqps://localhost:" + port
	status, out, errOut := streams(t, "bench", "--url", url, "--tls-ca", certFile, "--quiet", "-C", "300", "-c", "20", "-s", "100", "-A", "10", "-q", "50")
	if status != exitOK || !strings.Contains(out, "confirmed    300, ") || !strings.Contains(out, "received     300, ") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
	status, out, errOut = streams(t, "bench", "--suite", "--url", url, "--tls-insecure", "--only", "batched-1KB", "--rounds", "1", "-z", "100ms", "--out", t.TempDir())
	if status != exitOK || !strings.Contains(out, "| batched: 1 KB transient, auto-ack |") || strings.Contains(out, "failed") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
	for want, flags := range map[string][]string{
		"name a file with --tls-ca to trust it": {"--url", url},
		"is amqp://":                            {"--url", "amqp://localhost:" + port, "--tls-ca", certFile},
	} {
		if status, out, errOut := streams(t, append([]string{"bench", "-C", "1"}, flags...)...); status == exitOK || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%v: status %d, stdout %q, stderr %q, want something with %q", flags, status, out, errOut, want)
		}
	}
}
