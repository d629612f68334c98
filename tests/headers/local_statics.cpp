// SPDX-License-Identifier: MIT

// The code of the library, for a look at its local static variables.

#include <gtcp/src.hpp>
#include <gtcp/tls.hpp>

#include <chrono>
#include <memory>

void use_tls();
void use_tls() {
  const auto config = std::make_shared<asio::ssl::context>(asio::ssl::context::tls);
  const gtcp::Server server = gtcp::NewServerTLS(":0", config, [](const gtcp::Conn& conn) { conn.SendPkg("hello"); });
  server.Start();
  const gtcp::Conn conn = gtcp::NewConnTLS(server.GetListenedAddress(), config);
  static_cast<void>(gtcp::GetTLSState(conn));
  static_cast<void>(gtcp::NewPoolConnTLS(server.GetListenedAddress(), config));
  gtcp::SetTimeout(std::chrono::seconds(1), [] {});
}
