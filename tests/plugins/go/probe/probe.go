// An output plugin that does what its properties say and, at its exit, writes what it saw as JSON.
//
// It uses what every generation of fluent-bit-go has, and is built against each of them.
//
//	id       name of the instance, kept in its context
//	verdict  file for what it saw
//	expect   number of records after which the file `<verdict without .json>.done` appears
//	answers  return codes of the flushes, `2,1`; the last one stays
//	gate     a FIFO: each flush waits until somebody opens it for writing
//	verify   on: each record is `log: "<file> <number>"`, numbers count from 0 in each file
//	notify   on: asks Go for SIGTERM
package main

import "C"

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/fluent/fluent-bit-go/output"
)

// Set when it is linked, so that several builds fit into one process.
var name = "goprobe"

// Samples and faults that are kept.
const keptMax = 16

// Verdict is what an instance saw.
type Verdict struct {
	ID      string         `json:"id"`
	Flushes int            `json:"flushes"`
	Records int            `json:"records"`
	Tags    []string       `json:"tags"`
	Times   []string       `json:"times"`
	Bodies  []string       `json:"bodies"`
	Files   map[string]int `json:"files"`
	Faults  []string       `json:"faults"`
	Signals int64          `json:"signals"`
}

type instance struct {
	mutex   sync.Mutex
	verdict Verdict
	path    string
	gate    string
	expect  int
	answers []string
	verify  bool
	signals int64
}

//export FLBPluginRegister
func FLBPluginRegister(def unsafe.Pointer) int {
	return output.FLBPluginRegister(def, name, "says what it saw")
}

//export FLBPluginInit
func FLBPluginInit(plugin unsafe.Pointer) int {
	property := func(key string) string { return output.FLBPluginConfigKey(plugin, key) }
	it := &instance{path: property("verdict"), gate: property("gate"), verify: property("verify") == "on"}
	it.verdict.ID = property("Id")
	it.verdict.Files = map[string]int{}
	if it.path == "" {
		fmt.Fprintln(os.Stderr, "goprobe: `verdict` is missing")
		return output.FLB_ERROR
	}
	it.expect, _ = strconv.Atoi(property("expect"))
	it.answers = strings.Split(property("answers"), ",")
	if property("match") != "" || property("workers") != "" {
		it.fault("keys of the engine are visible")
	}
	if property("notify") == "on" {
		caught := make(chan os.Signal, 8)
		signal.Notify(caught, syscall.SIGTERM)
		go func() {
			for range caught {
				atomic.AddInt64(&it.signals, 1)
			}
		}()
	}
	output.FLBPluginSetContext(plugin, it)
	return output.FLB_OK
}

//export FLBPluginFlushCtx
func FLBPluginFlushCtx(ctx, data unsafe.Pointer, length C.int, tag *C.char) int {
	it := output.FLBPluginGetContext(ctx).(*instance)
	if it.gate != "" {
		if file, err := os.Open(it.gate); err == nil {
			file.Close()
		}
	}
	it.mutex.Lock()
	defer it.mutex.Unlock()
	answer := it.answer()
	it.verdict.Flushes++
	if answer != output.FLB_OK {
		return answer
	}
	it.verdict.Tags = keep(it.verdict.Tags, C.GoString(tag))
	decoder := output.NewDecoder(data, int(length))
	for {
		ret, ts, record := output.GetRecord(decoder)
		if ret != 0 {
			if ret != -1 {
				it.fault(fmt.Sprintf("GetRecord returned %d", ret))
			}
			break
		}
		it.take(ts, record)
	}
	if it.expect > 0 && it.verdict.Records >= it.expect {
		if err := os.WriteFile(strings.TrimSuffix(it.path, ".json")+".done", nil, 0o600); err != nil {
			it.fault(err.Error())
		}
	}
	return output.FLB_OK
}

// The answer to this flush, with the lock held.
func (it *instance) answer() int {
	at := it.verdict.Flushes
	if at >= len(it.answers) {
		at = len(it.answers) - 1
	}
	code, err := strconv.Atoi(it.answers[at])
	if err != nil {
		return output.FLB_OK
	}
	return code
}

// Takes a record, with the lock held.
func (it *instance) take(ts interface{}, record map[interface{}]interface{}) {
	it.verdict.Records++
	stamp, isTime := ts.(output.FLBTime)
	if !isTime {
		it.fault(fmt.Sprintf("a time is a %T", ts))
	}
	if it.verify {
		it.check(record)
		return
	}
	it.verdict.Times = keep(it.verdict.Times, stamp.UTC().Format(time.RFC3339Nano))
	it.verdict.Bodies = keep(it.verdict.Bodies, fmt.Sprintf("%s", record["message"]))
}

func (it *instance) check(record map[interface{}]interface{}) {
	line, _ := record["log"].([]byte)
	text := string(line)
	space := strings.IndexByte(text, ' ')
	if space < 0 {
		it.fault(fmt.Sprintf("not a line of the test: %q", text))
		return
	}
	file := text[:space]
	number, err := strconv.Atoi(text[space+1:])
	if next := it.verdict.Files[file]; err != nil || number != next {
		it.fault(fmt.Sprintf("%q came, %s %d was next", text, file, next))
	}
	it.verdict.Files[file] = number + 1
}

func (it *instance) fault(text string) {
	it.verdict.Faults = keep(it.verdict.Faults, text)
}

func keep(list []string, text string) []string {
	if len(list) < keptMax {
		return append(list, text)
	}
	return list
}

//export FLBPluginExitCtx
func FLBPluginExitCtx(ctx unsafe.Pointer) int {
	it := output.FLBPluginGetContext(ctx).(*instance)
	it.mutex.Lock()
	defer it.mutex.Unlock()
	it.verdict.Signals = atomic.LoadInt64(&it.signals)
	text, err := json.Marshal(it.verdict)
	if err == nil {
		err = os.WriteFile(it.path, text, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "goprobe:", err)
		return output.FLB_ERROR
	}
	return output.FLB_OK
}

//export FLBPluginUnregister
func FLBPluginUnregister(def unsafe.Pointer) {
	output.FLBPluginUnregister(def)
}

func main() {}
