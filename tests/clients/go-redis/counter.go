// Counts in Redis until its input is closed. What it prints: see ../README.md.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	var timeout time.Duration // 0: go-redis's own, 3 s for an answer and 5 s for a connection
	if len(os.Args) > 1 {
		seconds, err := strconv.Atoi(os.Args[1])
		check(err)
		timeout = time.Duration(seconds) * time.Second
	}

	ca, err := os.ReadFile(os.Getenv("CACHESIM_CA_FILE"))
	check(err)
	password, err := os.ReadFile(os.Getenv("CACHESIM_REDIS_PASSWORD_FILE"))
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:       strings.Split(os.Getenv("CACHESIM_REDIS_NODES"), ","),
		Username:    os.Getenv("CACHESIM_REDIS_USERNAME"),
		Password:    string(password),
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ReadTimeout: timeout,
		DialTimeout: timeout,
	})
	defer client.Close()

	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()

	ctx := context.Background()
	check(client.Ping(ctx).Err())
	fmt.Println("ready")
	n, failed, accepted := 0, false, time.Now()
	for running := true; running; {
		if err := client.Set(ctx, "counter", n+1, 0).Err(); err == nil {
			n++
			if gap := time.Since(accepted).Milliseconds(); failed || gap > 300 {
				fmt.Println("recovered", gap)
			}
			failed, accepted = false, time.Now()
		} else if !failed {
			fmt.Println("failed", err)
			failed = true
		}
		select {
		case <-stop:
			running = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if found, err := client.Get(ctx, "counter").Result(); found != strconv.Itoa(n) {
		fmt.Printf("lost %d, found %q, %v\n", n, found, err)
		os.Exit(1)
	}
	fmt.Println("done", n)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
