// SPDX-License-Identifier: MIT
#ifdef CONSUMER_INCLUDES_ALL
#include <gtcp/gtcp.hpp>
#else
#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>
#include <gtcp/version.hpp>
#endif

#ifdef CONSUMER_HAS_TLS
#include <gtcp/tls.hpp>
#endif

#ifdef CONSUMER_HAS_JSON
#include <nlohmann/json_fwd.hpp>
#endif

#include <cstdio>

int main() {
#ifdef CONSUMER_HAS_TLS
  if (gtcp::CertificateErrorCategory().message(0).empty()) return 1;
#endif
  std::printf("gtcp %s\n", GTCP_VERSION_STRING);
  return gtcp::IsFatal(gtcp::Errc::Closed) ? 0 : 1;
}
