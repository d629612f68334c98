// SPDX-License-Identifier: MIT

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"github.com/gogf/gf/v2/net/gtcp"
)

// Msg is what the pair of the examples exchanges.
type Msg struct {
	Act  string
	Data string
}

// listen runs a server on a free port of 127.0.0.1 and returns the port. GoFrame has no call that listens without
// serving, so the port has to be asked for until it is there.
func listen(server *gtcp.Server) (port int, failed <-chan error) {
	ended := make(chan error, 1)
	go func() { ended <- server.Run() }()
	for server.GetListenedPort() == -1 {
		select {
		case err := <-ended:
			ended <- err
			return -1, ended
		case <-time.After(time.Millisecond):
		}
	}
	return server.GetListenedPort(), ended
}

func echoBytes(conn *gtcp.Conn) {
	defer conn.Close()
	for {
		data, err := conn.Recv(-1)
		if err != nil || len(data) == 0 {
			return
		}
		if conn.Send(data) != nil {
			return
		}
	}
}

func echoLines(conn *gtcp.Conn) {
	defer conn.Close()
	for {
		line, err := conn.RecvLine()
		if err != nil {
			return
		}
		if conn.Send(append(line, '\n')) != nil {
			return
		}
	}
}

func echoPackages(option gtcp.PkgOption) func(*gtcp.Conn) {
	return func(conn *gtcp.Conn) {
		defer conn.Close()
		for {
			data, err := conn.RecvPkg(option)
			if err != nil {
				return
			}
			if conn.SendPkg(data, option) != nil {
				return
			}
		}
	}
}

// echoMessages reads each message and writes it anew, so that what comes back are encoding/json's bytes.
func echoMessages(conn *gtcp.Conn) {
	defer conn.Close()
	for {
		data, err := conn.RecvPkg()
		if err != nil {
			return
		}
		var msg Msg
		reply := []byte("invalid message")
		if json.Unmarshal(data, &msg) == nil {
			reply, _ = json.Marshal(msg)
		}
		if conn.SendPkg(reply) != nil {
			return
		}
	}
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	crt := flags.String("crt", "", "a certificate: serves TLS too")
	key := flags.String("key", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	const address = "127.0.0.1" + gtcp.FreePortAddress
	failed := make(chan error)
	run := func(name string, server *gtcp.Server) error {
		port, ended := listen(server)
		if port == -1 {
			return <-ended
		}
		go func() { failed <- <-ended }()
		fmt.Println(name, port)
		return nil
	}
	start := func(name string, handler func(*gtcp.Conn)) error {
		return run(name, gtcp.NewServer(address, handler))
	}
	if err := start("bytes", echoBytes); err != nil {
		return err
	}
	if err := start("lines", echoLines); err != nil {
		return err
	}
	for header := 1; header <= 4; header++ {
		option := gtcp.PkgOption{HeaderSize: header}
		if err := start(fmt.Sprint("packages", header), echoPackages(option)); err != nil {
			return err
		}
	}
	if err := start("messages", echoMessages); err != nil {
		return err
	}
	if *crt != "" {
		server, err := gtcp.NewServerKeyCrt(address, *crt, *key, echoPackages(gtcp.PkgOption{HeaderSize: 4}))
		if err != nil {
			return err
		}
		if err := run("tls", server); err != nil {
			return err
		}
	}
	fmt.Println("ready 0")
	return <-failed
}
