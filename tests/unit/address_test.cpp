// SPDX-License-Identifier: MIT
#include <gtcp/detail/address.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <system_error>
#include <tuple>

namespace {

using gtcp::Errc;
using gtcp::detail::address;
using gtcp::detail::parse_address;

address parsed(std::string_view text) {
  address result;
  std::string why;
  EXPECT_FALSE(parse_address(text, result, why)) << why;
  EXPECT_EQ(why, "");
  return result;
}

/// Returns the text that says why `text` is no address.
std::string refused(std::string_view text) {
  address result;
  std::string why;
  EXPECT_EQ(parse_address(text, result, why), Errc::InvalidAddress) << text;
  return why;
}

TEST(Address, HasAHostAndAPort) {
  for (const auto& [text, host, port] :
       {std::tuple{"127.0.0.1:8999", "127.0.0.1", 8999}, std::tuple{"localhost:0", "localhost", 0},
        std::tuple{"example.org:65535", "example.org", 65535}, std::tuple{"a-b_c.d:1", "a-b_c.d", 1},
        std::tuple{"host:00080", "host", 80}}) {
    const address result = parsed(text);
    EXPECT_FALSE(result.is_unix);
    EXPECT_EQ(result.host, host);
    EXPECT_EQ(result.port, port);
  }
}

TEST(Address, MayHaveNoHost) {
  EXPECT_EQ(parsed(":8999").host, "");
  EXPECT_EQ(parsed(":8999").port, 8999);
}

TEST(Address, HasIpv6InBrackets) {
  EXPECT_EQ(parsed("[::1]:8999").host, "::1");
  EXPECT_EQ(parsed("[::1]:8999").port, 8999);
  EXPECT_EQ(parsed("[fe80::1%lo]:1").host, "fe80::1%lo");
  EXPECT_EQ(parsed("[::ffff:1.2.3.4]:1").host, "::ffff:1.2.3.4");
}

TEST(Address, MayBeAUnixPath) {
  const address result = parsed("unix:/run/app.sock");
  EXPECT_TRUE(result.is_unix);
  EXPECT_EQ(result.path, "/run/app.sock");
  EXPECT_EQ(parsed("unix:relative:with colon").path, "relative:with colon");
  EXPECT_EQ(parsed("unix:" + std::string(gtcp::detail::max_unix_path, 'x')).path.size(), gtcp::detail::max_unix_path);
}

TEST(Address, IsQuotedWithWhatIsWrong) {
  EXPECT_EQ(refused(""), "address \"\": the port is missing");
  EXPECT_EQ(refused("localhost"), "address \"localhost\": the port is missing");
  EXPECT_EQ(refused("localhost:"), "address \"localhost:\": the port is missing");
  EXPECT_EQ(refused(":"), "address \":\": the port is missing");
  EXPECT_EQ(refused("[::1]"), "address \"[::1]\": a ']' is missing, or the port behind it");
  EXPECT_EQ(refused("[::1]8999"), "address \"[::1]8999\": a ']' is missing, or the port behind it");
  EXPECT_EQ(refused("[::1:8999"), "address \"[::1:8999\": a ']' is missing, or the port behind it");
  EXPECT_EQ(refused("[]:1"), "address \"[]:1\": what is in brackets is no IPv6 address");
  EXPECT_EQ(refused("[127.0.0.1]:1"), "address \"[127.0.0.1]:1\": what is in brackets is no IPv6 address");
  EXPECT_EQ(refused("[:1"), "address \"[:1\": a ']' is missing, or the port behind it");
  EXPECT_EQ(refused("::1:8999"), "address \"::1:8999\": too many colons; an IPv6 address stands in brackets");
  EXPECT_EQ(refused("a:b:1"), "address \"a:b:1\": too many colons; an IPv6 address stands in brackets");
  EXPECT_EQ(refused("host name:1"), "address \"host name:1\": the host has a character that none can have");
  EXPECT_EQ(refused("http//x:1"), "address \"http//x:1\": the host has a character that none can have");
  EXPECT_EQ(refused("x]:1"), "address \"x]:1\": the host has a character that none can have");
  EXPECT_EQ(refused("host:http"), "address \"host:http\": the port is not a number");
  EXPECT_EQ(refused("host:80x"), "address \"host:80x\": the port is not a number");
  EXPECT_EQ(refused("host: 80"), "address \"host: 80\": the port is not a number");
  EXPECT_EQ(refused("host:+80"), "address \"host:+80\": the port is not a number");
  EXPECT_EQ(refused("host:-1"), "address \"host:-1\": the port is not a number");
  EXPECT_EQ(refused("host:65536"), "address \"host:65536\": the port is out of range, allowed are 0 to 65535");
  EXPECT_EQ(refused("host:99999999999999999999"),
            "address \"host:99999999999999999999\": the port is out of range, allowed are 0 to 65535");
  EXPECT_EQ(refused("unix:"), "address \"unix:\": the path is missing");
  const std::string long_path = "unix:" + std::string(gtcp::detail::max_unix_path + 1, 'x');
  EXPECT_EQ(refused(long_path), "address \"" + long_path + "\": the path is too long for a unix socket");
}

TEST(Address, HasNoZeroByte) {
  EXPECT_NE(refused(std::string_view("host\0:1", 7)).find("has a zero byte"), std::string::npos);
  EXPECT_NE(refused(std::string_view("unix:/a\0b", 9)).find("has a zero byte"), std::string::npos);
}

TEST(Address, IsQuotedInPartWhenItIsHuge) {
  EXPECT_EQ(refused(std::string(100'000, 'x')), "address \"" + std::string(256, 'x') + "...\": the port is missing");
}

TEST(Endpoint, IsWrittenAsItIsRead) {
  using asio::ip::make_address;
  using gtcp::detail::to_text;
  EXPECT_EQ(to_text({make_address("127.0.0.1"), 51220}), "127.0.0.1:51220");
  EXPECT_EQ(to_text({make_address("::1"), 80}), "[::1]:80");
  EXPECT_EQ(to_text({make_address("::ffff:10.1.2.3"), 80}), "10.1.2.3:80") << "IPv4-mapped is IPv4";
  EXPECT_EQ(to_text({make_address("fe80::1"), 0}), "[fe80::1]:0");
}

}  // namespace
