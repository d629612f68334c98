// SPDX-License-Identifier: MIT

// Command goframe is GoFrame's gtcp as a contestant.
//
//	goframe echo HEADER                                    an echo server; prints its port
//	goframe ping PORT HEADER PAYLOAD WARM_UP SECONDS       prints p50, p99 in microseconds, and how many in all
//	goframe blast PORT HEADER PAYLOAD THREADS              sends until it is killed
//
// The packages are those of content.hpp. It ends by itself after two minutes.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/gogf/gf/v2/net/gtcp"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "goframe:", err)
		os.Exit(1)
	}
}

func number(i int) float64 {
	if i >= len(os.Args) {
		must(fmt.Errorf("too few arguments"))
	}
	value, err := strconv.ParseFloat(os.Args[i], 64)
	must(err)
	return value
}

func fill(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte((i*7 + i>>8) % 251)
	}
	return data
}

func stamp(data []byte, count, sender uint64) {
	binary.NativeEndian.PutUint64(data, count)
	binary.NativeEndian.PutUint64(data[8:], sender)
	binary.NativeEndian.PutUint64(data[len(data)-8:], ^count)
}

func connect(port int) *gtcp.Conn {
	conn, err := gtcp.NewConn(fmt.Sprintf("127.0.0.1:%d", port))
	must(err)
	return conn
}

func echo() {
	option := gtcp.PkgOption{HeaderSize: int(number(2)), MaxDataSize: 1<<(8*min(3, int(number(2)))) - 1}
	server := gtcp.NewServer("127.0.0.1"+gtcp.FreePortAddress, func(conn *gtcp.Conn) {
		defer conn.Close()
		for {
			data, err := conn.RecvPkg(option)
			if err != nil || conn.SendPkg(data, option) != nil {
				return
			}
		}
	})
	ended := make(chan error)
	go func() { ended <- server.Run() }()
	for server.GetListenedPort() == -1 {
		select {
		case err := <-ended:
			must(err)
		case <-time.After(time.Millisecond):
		}
	}
	fmt.Println(server.GetListenedPort())
	must(<-ended)
}

func ping() {
	conn := connect(int(number(2)))
	option := gtcp.PkgOption{HeaderSize: int(number(3))}
	data := fill(int(number(4)))
	begin := time.Now()
	from := begin.Add(time.Duration(number(5) * 1e9))
	until := from.Add(time.Duration(number(6) * 1e9))
	samples := make([]float64, 0, 1<<19)
	count := uint64(0)
	for last := begin; last.Before(until); count++ {
		stamp(data, count, 0)
		reply, err := conn.SendRecvPkg(data, option)
		must(err)
		if !bytes.Equal(reply, data) {
			must(fmt.Errorf("something else came back than was sent"))
		}
		now := time.Now()
		if last.After(from) {
			samples = append(samples, float64(now.Sub(last).Nanoseconds())/1000)
		}
		last = now
	}
	if len(samples) == 0 {
		must(fmt.Errorf("nothing came back"))
	}
	slices.Sort(samples)
	fmt.Println(samples[len(samples)/2], samples[len(samples)*99/100], count)
}

func blast() {
	conn := connect(int(number(2)))
	option := gtcp.PkgOption{HeaderSize: int(number(3))}
	for sender := range uint64(number(5)) {
		go func() {
			data := fill(int(number(4)))
			for count := uint64(0); ; count++ {
				stamp(data, count, sender)
				must(conn.SendPkg(data, option))
			}
		}()
	}
	select {}
}

func main() {
	time.AfterFunc(2*time.Minute, func() { os.Exit(3) })
	commands := map[string]func(){"echo": echo, "ping": ping, "blast": blast}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		must(fmt.Errorf("which command?"))
	}
	commands[os.Args[1]]()
}
