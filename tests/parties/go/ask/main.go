// Ask what standard input says, with Go's client as it comes: `ask URL`. Input and output are said in asking.py.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

func main() {
	client := &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	plan := bufio.NewScanner(os.Stdin)
	for plan.Scan() {
		asked := strings.Fields(plan.Text())
		if err := ask(client, asked[0], os.Args[1]+asked[1], asked[2], asked[3]); err != nil {
			fmt.Println("!", strings.NewReplacer("\r", " ", "\n", " ").Replace(err.Error()))
		}
	}
}

func ask(client *http.Client, method, url, framing, length string) error {
	size, err := strconv.Atoi(length)
	if err != nil {
		return err
	}
	var content io.Reader
	if framing != "none" {
		content = strings.NewReader(`"` + strings.Repeat("x", size-2) + `"`)
	}
	if framing == "chunked" {
		content = io.MultiReader(content) // net/http knows no length of this one
	}
	request, err := http.NewRequest(method, url, content)
	if err != nil {
		return err
	}
	if framing != "none" {
		request.Header.Set("Content-Type", "application/json")
	}
	got, err := client.Do(request)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		return err
	}
	fmt.Println("=", got.StatusCode)
	names := make([]string, 0, len(got.Header))
	for name := range got.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, value := range got.Header[name] {
			fmt.Printf("%s: %s\n", name, value)
		}
	}
	fmt.Println(".", base64.StdEncoding.EncodeToString(body))
	return nil
}
