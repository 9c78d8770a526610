// Shadowproxy in the place of the ReverseProxy under Go's own tests of it: test_parties_go.py puts this file beside them,
// and `newFrontend` where they start a server for it.
package httputil

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

var listening = regexp.MustCompile(`listening on (http://127\.0\.0\.1:\d+)`)

// What the tests use of an httptest.Server.
type frontend struct {
	URL     string
	Config  *http.Server
	client  *http.Client
	process *exec.Cmd
}

// `shadowproxy serve`, with live where `proxy` would send requests.
func newFrontend(proxy *ReverseProxy) *frontend {
	aimed := httptest.NewRequest("GET", "/", nil)
	proxy.Director(aimed)
	directory, err := os.MkdirTemp("", "frontend")
	if err != nil {
		panic(err)
	}
	config := filepath.Join(directory, "config.yaml") // JSON is YAML
	values, _ := json.Marshal(map[string]any{
		"listen":    "127.0.0.1:0",
		"admin":     nil,
		"forwarded": true,
		"live":      map[string]any{"url": "http://" + aimed.URL.Host, "host": "preserve"},
		"log":       map[string]any{"path": filepath.Join(directory, "log")},
	})
	if err := os.WriteFile(config, values, 0o600); err != nil {
		panic(err)
	}
	process := exec.Command(os.Getenv("PARTIES_PYTHON"), "-m", "shadowproxy", "serve", "-c", config)
	said, err := process.StderrPipe()
	if err != nil {
		panic(err)
	}
	if err := process.Start(); err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if found := listening.FindSubmatch(lines.Bytes()); found != nil {
			go func() {
				for lines.Scan() {
				}
			}()
			client := &http.Client{Transport: &http.Transport{}}
			return &frontend{string(found[1]), &http.Server{}, client, process}
		}
	}
	panic("shadowproxy did not listen")
}

func (f *frontend) Client() *http.Client {
	return f.client
}

// It must stop as on any other day: with status 0.
func (f *frontend) Close() {
	f.client.CloseIdleConnections()
	f.process.Process.Signal(syscall.SIGTERM)
	if err := f.process.Wait(); err != nil {
		panic(err)
	}
}
