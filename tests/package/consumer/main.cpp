// SPDX-License-Identifier: MIT
#ifdef CONSUMER_CORE_ONLY
#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>
#include <gtcp/version.hpp>
#else
#include <gtcp/gtcp.hpp>
#endif

#include <cstdio>

int main() {
  std::printf("gtcp %s\n", GTCP_VERSION_STRING);
  return gtcp::IsFatal(gtcp::Errc::Closed) ? 0 : 1;
}
