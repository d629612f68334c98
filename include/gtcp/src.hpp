// SPDX-License-Identifier: MIT
#ifndef GTCP_SRC_HPP
#define GTCP_SRC_HPP

// The library itself, for one file of a program that is compiled with GTCP_SEPARATE_COMPILATION.

// g++ says of closures in the frames of coroutines that no other file has their types, which is so.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#endif

#include <gtcp/impl/byte_operations.hpp>
#include <gtcp/impl/cancel_relay.hpp>
#include <gtcp/impl/conn.hpp>
#include <gtcp/impl/conn_close.hpp>
#include <gtcp/impl/conn_give_back.hpp>
#include <gtcp/impl/conn_receive.hpp>
#include <gtcp/impl/conn_send.hpp>
#include <gtcp/impl/conn_state.hpp>
#include <gtcp/impl/conn_wait.hpp>
#include <gtcp/impl/connector.hpp>
#include <gtcp/impl/dial.hpp>
#include <gtcp/impl/dialer.hpp>
#include <gtcp/impl/one_shot_call.hpp>
#include <gtcp/impl/operation.hpp>
#include <gtcp/impl/outbox.hpp>
#include <gtcp/impl/outbox_write.hpp>
#include <gtcp/impl/pkg_operations.hpp>
#include <gtcp/impl/pkg_pump.hpp>
#include <gtcp/impl/pool_conn.hpp>
#include <gtcp/impl/pool_dial.hpp>
#include <gtcp/impl/runtime.hpp>
#include <gtcp/impl/server.hpp>
#include <gtcp/impl/server_serve.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
