// SPDX-License-Identifier: MIT

// An echo server of packages on raw Asio, for the cost of compiling it.

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

using asio::ip::tcp;

static asio::awaitable<void> answer(tcp::socket socket) {
  std::array<unsigned char, 2> header{};
  std::string body;
  for (;;) {
    co_await asio::async_read(socket, asio::buffer(header), asio::use_awaitable);
    body.resize(static_cast<std::size_t>(header[0]) << 8 | header[1]);
    co_await asio::async_read(socket, asio::buffer(body), asio::use_awaitable);
    const std::array<asio::const_buffer, 2> reply{asio::buffer(header), asio::buffer(body)};
    co_await asio::async_write(socket, reply, asio::use_awaitable);
  }
}

static asio::awaitable<void> accept(tcp::acceptor& acceptor) {
  for (;;) {
    tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(acceptor.get_executor(), answer(std::move(socket)), asio::detached);
  }
}

int main() {
  try {
    asio::io_context context(1);
    tcp::acceptor acceptor(context, tcp::endpoint(tcp::v4(), 8999));
    asio::co_spawn(context, accept(acceptor), asio::detached);
    context.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
