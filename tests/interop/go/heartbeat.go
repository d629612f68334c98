// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/gogf/gf/v2/net/gtcp"
	"github.com/gogf/gf/v2/os/gtimer"
)

var logging sync.Mutex

// log prints "2019-05-03 14:59:13.732 <text>".
func log(format string, arguments ...any) {
	logging.Lock()
	defer logging.Unlock()
	fmt.Println(time.Now().Format("2006-01-02 15:04:05.000"), fmt.Sprintf(format, arguments...))
}

func sendMsg(conn *gtcp.Conn, act, data string) error {
	text, err := json.Marshal(Msg{Act: act, Data: data})
	if err != nil {
		return err
	}
	return conn.SendPkg(text)
}

func heartbeatServer(arguments []string) error {
	flags := flag.NewFlagSet("heartbeat-server", flag.ContinueOnError)
	exitMs := flags.Int("exit-ms", 10000, "")
	clients := flags.Int("clients", 1, "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	left := make(chan struct{})
	server := gtcp.NewServer("127.0.0.1"+gtcp.FreePortAddress, func(conn *gtcp.Conn) {
		defer func() { left <- struct{}{} }()
		defer conn.Close()
		gtimer.SetTimeout(context.Background(), time.Duration(*exitMs)*time.Millisecond, func(context.Context) {
			_ = sendMsg(conn, "doexit", "")
		})
		for {
			data, err := conn.RecvPkg()
			if err != nil {
				log("client closed")
				return
			}
			var msg Msg
			if err := json.Unmarshal(data, &msg); err != nil {
				log("invalid message: %s", err)
				continue
			}
			switch msg.Act {
			case "heartbeat":
				log("heartbeat from [%s]", conn.RemoteAddr())
			case "hello":
				log("hello message from [%s]: %s", conn.RemoteAddr(), msg.Data)
				_ = sendMsg(conn, msg.Act, "Nice to meet you!")
			default:
				log("invalid message: %s", data)
			}
		}
	})
	port, ended := listen(server)
	if port == -1 {
		return <-ended
	}
	fmt.Println("listening", port)
	for i := 0; i < *clients; i++ {
		select {
		case <-left:
		case err := <-ended:
			return err
		}
	}
	return server.Close()
}

func heartbeatClient(arguments []string) error {
	flags := flag.NewFlagSet("heartbeat-client", flag.ContinueOnError)
	address := flags.String("addr", "", "")
	heartbeatMs := flags.Int("heartbeat-ms", 1000, "")
	helloMs := flags.Int("hello-ms", 3000, "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	conn, err := gtcp.NewConn(*address)
	if err != nil {
		return err
	}
	defer conn.Close()
	background := context.Background()
	gtimer.SetInterval(background, time.Duration(*heartbeatMs)*time.Millisecond, func(context.Context) {
		_ = sendMsg(conn, "heartbeat", "")
	})
	gtimer.SetTimeout(background, time.Duration(*helloMs)*time.Millisecond, func(context.Context) {
		_ = sendMsg(conn, "hello", "My name's John!")
	})
	for {
		data, err := conn.RecvPkg()
		if err != nil {
			log("server closed")
			return nil
		}
		var msg Msg
		if err := json.Unmarshal(data, &msg); err != nil {
			log("invalid message: %s", err)
			continue
		}
		switch msg.Act {
		case "hello":
			log("hello response message from [%s]: %s", conn.RemoteAddr(), msg.Data)
		case "doexit":
			log("exit command from [%s]", conn.RemoteAddr())
			return nil
		case "heartbeat":
			log("heartbeat from [%s]", conn.RemoteAddr())
		default:
			log("invalid message: %s", data)
		}
	}
}
