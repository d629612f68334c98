// SPDX-License-Identifier: MIT

// Raw Asio as its examples do it: a coroutine that reads the length, reads the payload, and writes both.

#include "bench.hpp"
#include "content.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace bench {

namespace {

using asio::ip::tcp;

tcp::endpoint loopback(unsigned port) {
  return {asio::ip::address_v4::loopback(), static_cast<asio::ip::port_type>(port)};
}

asio::awaitable<void> answer(tcp::socket socket, std::size_t header_size) {
  std::array<char, 4> header{};
  std::string body;
  asio::error_code error;
  for (;;) {
    co_await asio::async_read(socket, asio::buffer(header.data(), header_size),
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    body.resize(length_of(header.data(), header_size));
    co_await asio::async_read(socket, asio::buffer(body), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    const std::array<asio::const_buffer, 2> reply{asio::buffer(header.data(), header_size), asio::buffer(body)};
    co_await asio::async_write(socket, reply, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
  }
}

asio::awaitable<void> accept(tcp::acceptor& acceptor, std::size_t header_size) {
  for (;;) {
    tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(acceptor.get_executor(), answer(std::move(socket), header_size), asio::detached);
  }
}

void serve(const shape& how, const ready& tell) {
  asio::io_context context(1);
  tcp::acceptor acceptor(context, loopback(0));
  acceptor.listen(4096);
  asio::co_spawn(context, accept(acceptor, how.header), asio::detached);
  tell(acceptor.local_endpoint().port());
  context.run();
}

std::shared_ptr<tcp::socket> connect(asio::io_context& context, const peer& server) {
  auto socket = std::make_shared<tcp::socket>(context);
  socket->connect(loopback(server.port));
  socket->set_option(tcp::no_delay(true));
  return socket;
}

outcome ping(const shape& how, const peer& server) {
  asio::io_context context;
  const std::shared_ptr<tcp::socket> socket = connect(context, server);
  std::array<char, 4> header{};
  std::string package(how.payload, '\0');
  std::string reply;
  fill(package.data(), package.size(), {});
  return measure_ping(how, server, [&](std::uint64_t number) {
    put_stamp(package.data(), package.size(), {number, 0});
    put_length(header.data(), how.header, package.size());
    const std::array<asio::const_buffer, 2> parts{asio::buffer(header.data(), how.header), asio::buffer(package)};
    asio::write(*socket, parts);
    asio::read(*socket, asio::buffer(header.data(), how.header));
    reply.resize(length_of(header.data(), how.header));
    asio::read(*socket, asio::buffer(reply));
    if (reply != package) fail("something else came back than was sent");
  });
}

outcome blast(const shape& how, const peer& server) {
  asio::io_context context;
  const std::shared_ptr<tcp::socket> socket = connect(context, server);
  const auto writing = std::make_shared<std::mutex>();
  return measure_blast(how, [=](std::uint64_t sender) -> send_one {
    std::string package(how.payload, '\0');
    std::array<char, 4> header{};
    std::uint64_t number = 0;
    return [=]() mutable {
      fill(package.data(), package.size(), {number++, sender});
      put_length(header.data(), how.header, package.size());
      const std::array<asio::const_buffer, 2> parts{asio::buffer(header.data(), how.header), asio::buffer(package)};
      const std::lock_guard lock(*writing);
      asio::write(*socket, parts);
    };
  });
}

}  // namespace

void add_asio(std::vector<contestant>& to) {
  to.push_back({.name = "raw Asio", .echo = serve, .ping = ping, .blast = blast, .max_connections = 10'000});
}

}  // namespace bench
