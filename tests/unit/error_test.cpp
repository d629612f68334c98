// SPDX-License-Identifier: MIT
#include <gtcp/error.hpp>

#include <gtest/gtest.h>
#include <asio/error.hpp>

#include <set>
#include <string>
#include <system_error>
#include <vector>

namespace {

using gtcp::Errc;

struct Row {
  Errc code;
  int value;
  bool fatal;
  std::errc condition;
  const char* text;  // must be part of the message
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows = {
      {Errc::Timeout, 1, false, std::errc::timed_out, "timed out"},
      {Errc::TimeoutPartlySent, 2, false, std::errc::timed_out, "the rest follows by itself"},
      {Errc::Closed, 3, true, std::errc::operation_canceled, "closed on this side"},
      {Errc::PkgTooLarge, 4, true, std::errc::message_size, "invalid package size"},
      {Errc::PkgTruncated, 5, true, std::errc::bad_message, "inside a package"},
      {Errc::DataTooLong, 6, false, std::errc::message_size, "data too long"},
      {Errc::InvalidOption, 7, false, std::errc::invalid_argument, "invalid option"},
      {Errc::InvalidAddress, 8, false, std::errc::invalid_argument, "\"host:port\""},
      {Errc::InvalidMsg, 9, false, std::errc::bad_message, "invalid package structure"},
      {Errc::WouldDeadlock, 10, false, std::errc::resource_deadlock_would_occur, "use the asynchronous form"},
      {Errc::LineTooLong, 11, false, std::errc::message_size, "size limit"},
      {Errc::NoHandler, 12, false, std::errc::invalid_argument, "no connection handler"},
  };
  return rows;
}

TEST(Errc, ConvertsToErrorCodeOfTheGtcpCategory) {
  for (const Row& row : Rows()) {
    const std::error_code ec = row.code;
    EXPECT_EQ(ec.category(), gtcp::ErrorCategory()) << row.value;
    EXPECT_EQ(ec.value(), row.value) << "values are stable across versions";
    EXPECT_EQ(ec, row.code);
    EXPECT_TRUE(ec) << row.value;
  }
  EXPECT_STREQ(gtcp::ErrorCategory().name(), "gtcp");
}

TEST(Errc, HasATextOfItsOwnForEachValue) {
  std::set<std::string> texts;
  for (const Row& row : Rows()) {
    const std::string text = std::error_code(row.code).message();
    EXPECT_NE(text.find(row.text), std::string::npos) << text;
    EXPECT_EQ(text.find("unknown"), std::string::npos) << text;
    EXPECT_TRUE(texts.insert(text).second) << "said twice: " << text;
  }
}

TEST(Errc, QuotesAnUnknownValue) {
  const std::error_code ec(4711, gtcp::ErrorCategory());
  EXPECT_EQ(ec.message(), "unknown gtcp error 4711");
  EXPECT_EQ(ec.default_error_condition().value(), 4711);
  EXPECT_EQ(ec.default_error_condition().category(), gtcp::ErrorCategory());
}

TEST(Errc, ComparesEqualToItsPortableCondition) {
  for (const Row& row : Rows()) {
    const std::error_code ec = row.code;
    EXPECT_TRUE(ec == row.condition) << ec.message();
    EXPECT_FALSE(ec == std::errc::io_error) << ec.message();
  }
}

TEST(Errc, TimeoutIsNotTheTimedOutOfADeadConnection) {
  const std::error_code dead = asio::error::timed_out;
  EXPECT_NE(std::error_code(Errc::Timeout), dead);
  EXPECT_FALSE(gtcp::IsFatal(Errc::Timeout));
  EXPECT_TRUE(gtcp::IsFatal(dead));
}

TEST(IsFatal, IsFalseForSuccess) { EXPECT_FALSE(gtcp::IsFatal(std::error_code{})); }

TEST(IsFatal, FollowsTheTableOfErrc) {
  for (const Row& row : Rows()) EXPECT_EQ(gtcp::IsFatal(row.code), row.fatal) << std::error_code(row.code).message();
}

TEST(IsFatal, IsTrueForWhatEndsAConnection) {
  for (const std::error_code& ec :
       {std::error_code(asio::error::eof), std::error_code(asio::error::connection_reset),
        std::error_code(asio::error::connection_aborted), std::error_code(asio::error::broken_pipe),
        std::error_code(asio::error::bad_descriptor), std::error_code(asio::error::not_connected)}) {
    EXPECT_TRUE(gtcp::IsFatal(ec)) << ec.message();
  }
}

TEST(IsFatal, IsFalseForWhatMayBeTriedAgain) {
  for (const std::error_code& ec :
       {std::error_code(asio::error::would_block), std::error_code(asio::error::try_again),
        std::error_code(asio::error::operation_aborted), std::error_code(asio::error::interrupted),
        std::make_error_code(std::errc::not_enough_memory)}) {
    EXPECT_FALSE(gtcp::IsFatal(ec)) << ec.message();
  }
}

}  // namespace
