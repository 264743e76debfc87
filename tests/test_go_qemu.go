// Drives kiln with a public client library of the machine protocol, github.com/digitalocean/go-qemu, whose types say
// what a client expects in the answers. Usage: go run test_go_qemu.go KILN
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

var limit = 60 * time.Second

func check(ok bool, what string, values ...interface{}) {
	if !ok {
		fmt.Println("FAILED:", what, fmt.Sprint(values...))
		os.Exit(1)
	}
}

func connect(path string) *qmp.SocketMonitor {
	deadline := time.Now().Add(limit)
	for {
		monitor, err := qmp.NewSocketMonitor("unix", path, limit)
		if err == nil {
			check(monitor.Connect() == nil, "the handshake")
			return monitor
		}
		check(time.Now().Before(deadline), "connecting", err)
		time.Sleep(20 * time.Millisecond)
	}
}

func waitFor(events <-chan qmp.Event, name string) qmp.Event {
	for {
		select {
		case e, open := <-events:
			check(open, "the connection ended before", name)
			if e.Event == name {
				return e
			}
		case <-time.After(limit):
			check(false, "no event", name)
		}
	}
}

func main() {
	if factor, err := strconv.Atoi(os.Getenv("KILN_TIME_FACTOR")); err == nil {
		limit *= time.Duration(factor)
	}
	directory, err := os.MkdirTemp("", "kiln-go-")
	check(err == nil, "a directory", err)
	defer os.RemoveAll(directory)
	socket := filepath.Join(directory, "qmp")
	kiln := exec.Command(os.Args[1], "-display", "none", "-serial", "none", "-m", "64M", "-smp", "2", "-name", "gopher",
		"-device", "edu", "-qmp", "unix:"+socket+",server=on,wait=off")
	kiln.Stderr = os.Stderr
	check(kiln.Start() == nil, "starting kiln")

	monitor := connect(socket)
	check(monitor.Version.QEMU.Major >= 1, "a version", monitor.Version)
	domain, err := qemu.NewDomain(monitor, "gopher")
	check(err == nil, "a domain", err)
	status, err := domain.Status()
	check(err == nil && status == qemu.StatusRunning, "status", status, err)
	functions, err := domain.PCIDevices()
	check(err == nil && len(functions) >= 4, "PCI functions", functions, err)
	found := false
	for _, f := range functions {
		found = found || (f.ID.Vendor == 0x1234 && f.ID.Device == 0x11e8 && len(f.Regions) == 1)
	}
	check(found, "the edu device", functions)
	_, err = domain.BlockDevices()
	check(err == nil, "block devices", err)
	commands, err := domain.Commands()
	check(err == nil && len(commands) > 30, "commands", commands, err)
	picture, err := domain.ScreenDump()
	check(err == nil, "screendump", err)
	bytes, err := io.ReadAll(picture)
	check(err == nil && len(bytes) > 1000 && string(bytes[:2]) == "P6", "a PPM picture", len(bytes), err)

	// The generated interface to the whole of QEMU's schema.
	all := raw.NewMonitor(monitor)
	fast, err := monitor.Run([]byte(`{"execute":"query-cpus-fast"}`))
	check(err == nil && strings.Count(string(fast), "cpu-index") == 2, "query-cpus-fast", string(fast), err)
	models, err := all.QueryCPUDefinitions()
	check(err == nil && len(models) > 10, "query-cpu-definitions", models, err)
	streams, err := all.QueryChardev()
	check(err == nil && len(streams) == 2, "query-chardev", streams, err)
	mice, err := all.QueryMice()
	check(err == nil && len(mice) == 1, "query-mice", mice, err)
	memory, err := all.QueryMemorySizeSummary()
	check(err == nil && memory.BaseMemory == 64<<20, "query-memory-size-summary", memory, err)
	uuid, err := all.QueryUUID()
	check(err == nil && len(uuid.UUID) == 36, "query-uuid", uuid, err)
	name, err := all.QueryName()
	check(err == nil && name.Name != nil && *name.Name == "gopher", "query-name", name, err)
	check(all.Stop() == nil, "stop")
	state, err := all.QueryStatus()
	check(err == nil && !state.Running && state.Status == raw.RunStatePaused, "query-status", state, err)
	check(all.Cont() == nil, "cont")
	text, err := all.HumanMonitorCommand("info registers", nil)
	check(err == nil && len(text) > 100, "human-monitor-command", text, err)
	_, err = all.HumanMonitorCommand("info registers", new(int64))
	check(err == nil, "human-monitor-command with a processor", err)
	machines, err := all.QueryMachines()
	check(err == nil && len(machines) == 1 && machines[0].CPUMax == 64, "query-machines", machines, err)
	_, err = monitor.Run([]byte(`{"execute":"no-such-command"}`))
	check(err != nil, "an error for no-such-command")
	check(domain.Close() == nil, "closing the domain")

	// A second connection, with events.
	monitor = connect(socket)
	stream, err := monitor.Events(context.Background())
	check(err == nil, "events", err)
	queue := make(chan qmp.Event, 100) // the library gives no answer before its events are taken
	go func() {
		for e := range stream {
			queue <- e
		}
		close(queue)
	}()
	all = raw.NewMonitor(monitor)
	check(all.Stop() == nil, "stop")
	waitFor(queue, "STOP")
	check(all.SystemReset() == nil, "system_reset")
	reset, _ := json.Marshal(waitFor(queue, "RESET").Data)
	check(string(reset) == `{"guest":false,"reason":"host-qmp-system-reset"}`, "the reset's reason", string(reset))
	check(all.Quit() == nil, "quit")
	waitFor(queue, "SHUTDOWN")
	check(kiln.Wait() == nil, "kiln's end")
	fmt.Println("go-qemu is served")
}
