// SPDX-License-Identifier: MIT

// Command gopeer is the other end for the tests of interop: programs written against the public API of GoFrame's
// net/gtcp and os/gtimer, which know nothing of ours.
//
//	gopeer serve [-crt FILE -key FILE]                       echo servers of all kinds; prints "name port" for each
//	gopeer echo -addr HOST:PORT -header N -sizes 0,1,255     packages (header 0: plain bytes) there and back
//	gopeer tls -addr HOST:PORT -ca FILE -sizes 0,1,255       packages over TLS there and back
//	gopeer flood -addr HOST:PORT -header N -conns 64         many connections at once
//	gopeer msg -addr HOST:PORT                               JSON messages there and back
//	gopeer heartbeat-server [-exit-ms 10000] [-clients N]    the server of the heartbeat pair; prints "listening PORT"
//	gopeer heartbeat-client -addr HOST:PORT [...]            its client
//
// Every one ends when its standard input does, so that none is left behind when a test dies. Exit code 0: all was as it
// should be; else stderr says what was not.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

var commands = map[string]func(arguments []string) error{
	"serve":            serve,
	"echo":             echo,
	"flood":            flood,
	"msg":              messages,
	"tls":              overTLS,
	"heartbeat-server": heartbeatServer,
	"heartbeat-client": heartbeatClient,
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("which command?")
	}
	command, known := commands[os.Args[1]]
	if !known {
		return fmt.Errorf("unknown command %q", os.Args[1])
	}
	return command(os.Args[2:])
}

func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
		os.Exit(1)
	}
}
