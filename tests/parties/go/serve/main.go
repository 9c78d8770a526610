// Answer every request with what was read of it: `serve`. What it says is told in far_side.py.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

var (
	lock    sync.Mutex
	handled int
	strays  int
)

func answer(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == "/report" {
		lock.Lock()
		defer lock.Unlock()
		fmt.Fprintf(w, "%d %d", handled, strays)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	lock.Lock()
	handled++
	if via := r.Header.Values("Via"); len(via) == 0 || !strings.HasSuffix(via[len(via)-1], "1.1 shadowproxy") {
		strays++
	}
	lock.Unlock()
	w.Header().Set("X-Read", fmt.Sprintf("%s %s %x", r.Method, r.RequestURI, sha256.Sum256(body)))
	fmt.Fprintf(w, "read %s", r.RequestURI)
}

func main() {
	listening, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening on http://" + listening.Addr().String())
	fmt.Fprintln(os.Stderr, http.Serve(listening, http.HandlerFunc(answer)))
	os.Exit(1)
}
