// SPDX-License-Identifier: MIT

// A whole server, of each kind, fed by a stream of bytes in pieces: it answers what is a package, ends what is none,
// and goes on serving others.

#include <gtcp/dial.hpp>
#include <gtcp/msg.hpp>
#include <gtcp/server.hpp>

#include "fuzz_input.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/local/stream_protocol.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using gtcp::Conn;
using gtcp_fuzz::input;

constexpr int max_data_size = 2000;

/// Every package comes back; one that begins like a message comes back as one, too.
bool is_message(std::string_view pkg) { return pkg.starts_with('{'); }

/// A server with a client that behaves well; they live as long as the process.
struct served {
  explicit served(int kind) : header_size(kind + 2) {
    gtcp::ServerOption option;
    option.ErrorCallback = [](const Conn&, std::exception_ptr) {};
    option.Conn.Pkg = {.HeaderSize = header_size, .MaxDataSize = max_data_size};
    option.Conn.OutboxLimit = 4096;
    option.MaxReceiveMemory = 1 << 20;
    const std::string name = "gtcp-fuzz-" + std::to_string(::getpid()) + "-" + std::to_string(kind);
    path = (std::filesystem::temp_directory_path() / name).string();
    server = gtcp::Server("unix:" + path, nullptr, option);
    switch (kind) {
      case 0:
        server.SetHandler([](Conn conn) {
          for (;;) {
            const std::string pkg = conn.RecvPkg();
            conn.SendPkg(pkg);
            if (is_message(pkg)) gtcp::SendMsg(conn, gtcp::UnmarshalMsg(pkg));
          }
        });
        break;
      case 1:
        server.SetHandler([](Conn conn) -> asio::awaitable<void> {
          for (;;) {
            auto receiving = conn.AsyncRecvPkg();
            const std::string pkg = co_await std::move(receiving);
            auto sending = conn.AsyncSendPkg(pkg);
            co_await std::move(sending);
            if (!is_message(pkg)) continue;
            auto answering = conn.AsyncSendPkg(gtcp::MarshalMsg(gtcp::UnmarshalMsg(pkg)));
            co_await std::move(answering);
          }
        });
        break;
      default:
        server.SetPkgHandler([](Conn& conn, std::string_view pkg) {
          conn.SendPkg(pkg);
          if (is_message(pkg)) gtcp::SendMsg(conn, gtcp::UnmarshalMsg(pkg));
        });
        break;
    }
    server.Start();
    gtcp::ConnOption client;
    client.Pkg = option.Conn.Pkg;
    good = gtcp::NewConn("unix:" + path, std::chrono::seconds(30), client);
  }
  ~served() {
    good.Close();
    server.CloseAndWait(std::chrono::seconds(30));
  }

  int header_size;
  std::string path;
  gtcp::Server server;
  Conn good;
};

served& server_of(int kind) {
  static served servers[] = {served(0), served(1), served(2)};
  return servers[kind];
}

void append_framed(std::string& bytes, std::string_view payload, std::size_t header) {
  for (std::size_t i = header; i-- > 0;) bytes += static_cast<char>(payload.size() >> (8 * i) & 0xFF);
  bytes += payload;
}

/// What comes back for a stream.
std::string replies_to(std::string_view stream, std::size_t header) {
  std::string replies;
  while (stream.size() >= header) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < header; ++i) size = size << 8 | static_cast<unsigned char>(stream[i]);
    if (size > max_data_size || stream.size() - header < size) break;
    const std::string_view pkg = stream.substr(header, size);
    append_framed(replies, pkg, header);
    if (is_message(pkg)) {
      std::error_code error;
      const gtcp::Msg msg = gtcp::UnmarshalMsg(pkg, error);
      if (error) break;
      append_framed(replies, gtcp::MarshalMsg(msg), header);
    }
    stream.remove_prefix(header + size);
  }
  return replies;
}

/// The fuzzer's own alarm ends calls that wait.
bool was_interrupted(const std::error_code& error) { return error == asio::error::interrupted; }

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  input decisions(data, size);
  const std::uint8_t choice = decisions.byte();
  served& it = server_of(choice % 3);
  const std::size_t piece = 1 + decisions.up_to(999);
  // Pieces of a byte are a system call each; what is not answered in time fits into the socket.
  const std::string_view stream = decisions.rest().substr(0, std::min<std::size_t>(16'000, 400 * piece));
  const bool vanishes = choice / 3 % 4 == 3;

  asio::io_context context;
  asio::local::stream_protocol::socket socket(context);
  socket.connect(asio::local::stream_protocol::endpoint(it.path));
  std::error_code error;
  for (std::string_view rest = stream; !rest.empty() && !error;) {
    rest.remove_prefix(socket.write_some(asio::buffer(rest.substr(0, piece)), error));
    if (was_interrupted(error)) error.clear();
  }
  if (!vanishes) {
    // Whatever it was, the server ends the connection when we end our half, or before; and nothing that it said is
    // lost.
    socket.shutdown(asio::socket_base::shutdown_send, error);
    std::string replies;
    std::error_code ended;
    while (!ended) {
      char some[4096];
      const std::size_t got = socket.read_some(asio::buffer(some), ended);
      replies.append(some, got);
      if (was_interrupted(ended)) ended.clear();
    }
    if (ended != asio::error::eof)
      std::fprintf(stderr, "%s after %zu bytes\n", ended.message().c_str(), replies.size());
    FUZZ_CHECK(ended == asio::error::eof || ended == asio::error::connection_reset);
    FUZZ_CHECK(replies == replies_to(stream, static_cast<std::size_t>(it.header_size)));
  }
  socket.close(error);
  FUZZ_CHECK(it.good.SendRecvPkgWithTimeout("ping", std::chrono::seconds(30)) == "ping");
  return 0;
}
