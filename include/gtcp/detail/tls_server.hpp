// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_SERVER_HPP
#define GTCP_DETAIL_TLS_SERVER_HPP

// TLS on the connections of a server. What is set is never changed, only replaced: connections in place go on with
// theirs.

#include <gtcp/detail/server_state.hpp>
#include <gtcp/detail/tls_config.hpp>
#include <gtcp/detail/tls_transport.hpp>
#include <gtcp/server.hpp>
#include <gtcp/tls_option.hpp>

#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class tls_server_layer final : public server_layer {
 public:
  tls_server_layer(tls_context context, const TLSOption& option)
      : context_(std::move(context)), settings_(server_settings(option)), timeout_(option.HandshakeTimeout) {
    if (!settings_.protocols.empty()) tls_transport::choose_protocols(*context_);
  }

  /// Another one that is the same but for the certificate and its key.
  std::shared_ptr<const tls_server_layer> with_identity(tls_context pair) const {
    auto changed = std::make_shared<tls_server_layer>(*this);
    changed->settings_.identity = std::move(pair);
    return changed;
  }

  std::unique_ptr<transport> wrap(native_socket descriptor) const override {
    return std::make_unique<tls_transport>(descriptor, context_, settings_);
  }

  time_limit handshake_limit() const override {
    return timeout_.count() == 0 ? time_limit::at(no_deadline) : time_limit::within(timeout_);
  }

 private:
  tls_context context_;
  tls_settings settings_;
  std::chrono::nanoseconds timeout_;
};

template <class>
struct server_tls {
  using layer_ptr = std::shared_ptr<const server_layer>;

  static void set_config(server_state& server, tls_context context, const TLSOption& option) {
    std::string why;
    if (const std::error_code error = check(option, why))
      throw std::system_error(error, "Server::SetTLSConfig: " + why);
    const layer_ptr layer =
        context != nullptr ? std::make_shared<tls_server_layer>(std::move(context), option) : nullptr;
    server.config().change_layer([&](const layer_ptr&) { return layer; });
  }

  static void set_pair(server_state& server, const std::string& crt_file, const std::string& key_file,
                       const OnError& on_error) {
    std::error_code error;
    std::string why;
    tls_context pair = load_key_crt(crt_file, key_file, error, why);
    if (!error) error = check_validity(*pair);
    if (!error) {
      server.config().change_layer([&](const layer_ptr& before) -> layer_ptr {
        const auto* const old = dynamic_cast<const tls_server_layer*>(before.get());
        return old != nullptr ? old->with_identity(std::move(pair))
                              : std::make_shared<tls_server_layer>(std::move(pair), TLSOption());
      });
    }
    on_error.Report(error, [&] { return "Server::SetTLSKeyCrt: " + why; });
  }
};

}  // namespace gtcp::detail

#endif
