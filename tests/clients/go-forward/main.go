// Sends events with fluent-logger and waits for the ack of each, over several connections at once.
//
//	go-forward NETWORK ADDRESS PORT CONNECTIONS EVENTS
//
// NETWORK is tcp or unix; ADDRESS a host or a path. Prints the number of events that were acknowledged.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/fluent/fluent-logger-golang/fluent"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("five arguments are needed, not %d", len(args))
	}
	var numbers [3]int
	for index, text := range args[2:] {
		number, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		numbers[index] = number
	}
	config := fluent.Config{
		FluentNetwork:      args[0],
		FluentHost:         args[1],
		FluentSocketPath:   args[1],
		FluentPort:         numbers[0],
		RequestAck:         true,
		SubSecondPrecision: true,
		ReadTimeout:        time.Minute,
		MaxRetry:           1,
	}
	connections, each := numbers[1], numbers[2]/numbers[1]
	failures := make(chan error, connections)
	var group sync.WaitGroup
	for connection := range connections {
		group.Add(1)
		go func() {
			defer group.Done()
			failures <- send(config, connection*each, each)
		}()
	}
	group.Wait()
	for range connections {
		if err := <-failures; err != nil {
			return err
		}
	}
	fmt.Println(connections * each)
	return nil
}

func send(config fluent.Config, first, count int) error {
	logger, err := fluent.New(config)
	if err != nil {
		return err
	}
	defer logger.Close()
	for number := first; number < first+count; number++ {
		event := map[string]any{"n": number, "text": "an event of some length"}
		if err := logger.Post("go.app", event); err != nil {
			return fmt.Errorf("event %d: %w", number, err)
		}
	}
	return nil
}
