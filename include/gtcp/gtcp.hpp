// SPDX-License-Identifier: MIT
#ifndef GTCP_GTCP_HPP
#define GTCP_GTCP_HPP

// All of gtcp but TLS, which needs OpenSSL: include <gtcp/tls.hpp> for that.

#include <gtcp/byte_operations.hpp>
#include <gtcp/conn.hpp>
#include <gtcp/conn_option.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/error.hpp>
#include <gtcp/free_port.hpp>
#include <gtcp/msg.hpp>
#include <gtcp/one_shot.hpp>
#include <gtcp/payload.hpp>
#include <gtcp/pkg_operations.hpp>
#include <gtcp/pkg_option.hpp>
#include <gtcp/pool_conn.hpp>
#include <gtcp/pool_option.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>
#include <gtcp/server_option.hpp>
#include <gtcp/stats.hpp>
#include <gtcp/timer.hpp>
#include <gtcp/tls_option.hpp>
#include <gtcp/version.hpp>

#endif
