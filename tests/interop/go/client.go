// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gogf/gf/v2/net/gtcp"
)

// limit is the timeout of every receive: only a failure reaches it.
const limit = 30 * time.Second

// pattern makes bytes in which a shift by one shows.
func pattern(size, seed int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte((i*7 + i>>8 + seed) % 251)
	}
	return data
}

func same(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return fmt.Errorf("%s: %d bytes went out, %d different ones came back", what, len(want), len(got))
}

type target struct {
	address string
	option  gtcp.PkgOption
}

// exchange sends a payload of each size in every way that the package knows, and expects it back.
func (t target) exchange(size int) error {
	data := pattern(size, t.option.HeaderSize)
	conn, err := gtcp.NewConn(t.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if t.option.HeaderSize == 0 {
		if size == 0 {
			return nil // no bytes, no reply
		}
		reply, err := conn.SendRecvWithTimeout(data, size, limit)
		if err != nil {
			return err
		}
		if err := same("Conn.SendRecv", reply, data); err != nil {
			return err
		}
		reply, err = gtcp.SendRecvWithTimeout(t.address, data, size, limit)
		if err != nil {
			return err
		}
		return same("SendRecv", reply, data)
	}
	for i := 0; i < 3; i++ { // the same connection goes on being usable
		reply, err := conn.SendRecvPkgWithTimeout(data, limit, t.option)
		if err != nil {
			return err
		}
		if err := same("Conn.SendRecvPkg", reply, data); err != nil {
			return err
		}
	}
	reply, err := gtcp.SendRecvPkgWithTimeout(t.address, data, limit, t.option)
	if err != nil {
		return err
	}
	if err := same("SendRecvPkg", reply, data); err != nil {
		return err
	}
	pooled, err := gtcp.NewPoolConn(t.address)
	if err != nil {
		return err
	}
	defer pooled.Close()
	reply, err = pooled.SendRecvPkgWithTimeout(data, limit, t.option)
	if err != nil {
		return err
	}
	return same("PoolConn.SendRecvPkg", reply, data)
}

func echo(arguments []string) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	address := flags.String("addr", "", "")
	header := flags.Int("header", 0, "0: plain bytes")
	sizes := flags.String("sizes", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	t := target{*address, gtcp.PkgOption{HeaderSize: *header}}
	for _, text := range strings.Split(*sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if err := t.exchange(size); err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
		fmt.Printf("echo header %d size %d\n", *header, size)
	}
	return nil
}

// talk sends packages in one goroutine and receives them in another, as a program in full duplex does.
func (t target) talk(seed, packages int) error {
	conn, err := gtcp.NewConn(t.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		for i := 0; i < packages; i++ {
			if err := conn.SendPkg(pattern(i*13%2000, seed+i), t.option); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	if err := conn.SetDeadlineRecv(time.Now().Add(limit)); err != nil {
		return err
	}
	for i := 0; i < packages; i++ {
		reply, err := conn.RecvPkg(t.option)
		if err != nil {
			return fmt.Errorf("package %d: %w", i, err)
		}
		if err := same(fmt.Sprint("package ", i), reply, pattern(i*13%2000, seed+i)); err != nil {
			return err
		}
	}
	return <-sent
}

func flood(arguments []string) error {
	flags := flag.NewFlagSet("flood", flag.ContinueOnError)
	address := flags.String("addr", "", "")
	header := flags.Int("header", 2, "")
	conns := flags.Int("conns", 64, "")
	packages := flags.Int("packages", 100, "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	t := target{*address, gtcp.PkgOption{HeaderSize: *header}}
	failures := make([]error, *conns)
	var all sync.WaitGroup
	for i := range failures {
		all.Add(1)
		go func() {
			defer all.Done()
			failures[i] = t.talk(i, *packages)
		}()
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	fmt.Printf("flood header %d conns %d packages %d\n", *header, *conns, *packages)
	return nil
}

// overTLS sends packages of each size over one connection whose certificate it checks, and expects them back.
func overTLS(arguments []string) error {
	flags := flag.NewFlagSet("tls", flag.ContinueOnError)
	address := flags.String("addr", "", "")
	ca := flags.String("ca", "", "the authority that has signed the server's certificate")
	sizes := flags.String("sizes", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	authority, err := os.ReadFile(*ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return fmt.Errorf("%s has no certificate", *ca)
	}
	conn, err := gtcp.NewConnTLS(*address, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return err
	}
	defer conn.Close()
	option := gtcp.PkgOption{HeaderSize: 4}
	for _, text := range strings.Split(*sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		data := pattern(size, size)
		reply, err := conn.SendRecvPkgWithTimeout(data, limit, option)
		if err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
		if err := same("over TLS", reply, data); err != nil {
			return err
		}
		fmt.Printf("tls size %d\n", size)
	}
	return nil
}

// texts are hard for a JSON codec; the ones of interop_test.cpp are the same.
var texts = []string{
	"",
	"My name's John!",
	"Grüße, 世界, \U0001F600",
	"a < b && c > d",
	"quote \" backslash \\ slash /",
	"control \x00\x01\t\n\r\x1f\x7f",
	"separators \u2028\u2029",
	"not UTF-8: \xff\xfe \xc3( \xed\xa0\x80 \xf0\x9f\x98",
}

func messages(arguments []string) error {
	flags := flag.NewFlagSet("msg", flag.ContinueOnError)
	address := flags.String("addr", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	conn, err := gtcp.NewConn(*address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i, text := range texts {
		sent, err := json.Marshal(Msg{Act: "hello", Data: text})
		if err != nil {
			return err
		}
		// What the other end has read is written anew: not always the same text, but always what Go would write.
		var read Msg
		if err := json.Unmarshal(sent, &read); err != nil {
			return err
		}
		want, err := json.Marshal(read)
		if err != nil {
			return err
		}
		got, err := conn.SendRecvPkgWithTimeout(sent, limit)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("text %d: encoding/json writes %s, the other end %s", i, want, got)
		}
	}
	fmt.Printf("msg texts %d\n", len(texts))
	return nil
}
