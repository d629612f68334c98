// SPDX-License-Identifier: MIT

#include <gtcp/dial.hpp>
#include <gtcp/msg.hpp>

#include <gtest/gtest.h>
#include <asio/awaitable.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

using gtcp::Errc;
using gtcp::Msg;

// The tables hold what Go 1.26 says (encoding/json of a struct {Act, Data string}); R keeps NUL bytes.
#define R(literal) std::string_view(literal, sizeof(literal) - 1)

struct ReadVector {
  std::string_view text;
  bool good;
  std::string_view act;
  std::string_view data;
};

struct WriteVector {
  std::string_view value;
  std::string_view text;
};

struct FloatVector {
  double value;
  std::string_view text;
};

// clang-format off
constexpr ReadVector read_vectors[] = {
  {R("{\"Act\":\"hello\",\"Data\":\"My name's John!\"}"), true, R("hello"), R("My name's John!")},
  {R("{\"Data\":\"d\",\"Act\":\"a\"}"), true, R("a"), R("d")},
  {R("{}"), true, R(""), R("")},
  {R(" \x09\x0D\x0A{ \"Act\" : \"a\" ,\x0A\"Data\":\x09\"d\" } \x0D\x0A"), true, R("a"), R("d")},
  {R("{\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\"act\":\"a\",\"DATA\":\"d\"}"), true, R("a"), R("d")},
  {R("{\"aCT\":\"a\",\"dAta\":\"d\"}"), true, R("a"), R("d")},
  {R("{\"Act\":\"1\",\"act\":\"2\"}"), true, R("2"), R("")},
  {R("{\"act\":\"1\",\"Act\":\"2\"}"), true, R("2"), R("")},
  {R("{\"Act\":\"1\",\"ACT\":\"2\",\"Act\":\"3\",\"aCt\":\"4\"}"), true, R("4"), R("")},
  {R("{\"Act\":\"1\",\"Act\":null}"), true, R("1"), R("")},
  {R("{\"Act\":null,\"Data\":null}"), true, R(""), R("")},
  {R("{\"Act\":\"1\",\"act\":2}"), false, {}, {}},
  {R("{\"Act\":5}"), false, {}, {}},
  {R("{\"Act\":true}"), false, {}, {}},
  {R("{\"Act\":[]}"), false, {}, {}},
  {R("{\"Act\":{}}"), false, {}, {}},
  {R("{\"Data\":5}"), false, {}, {}},
  {R("{\"Data\":[1]}"), false, {}, {}},
  {R("{\"Data\":false}"), false, {}, {}},
  {R("{\"Act\":5,\"Act\":\"ok\"}"), false, {}, {}},
  {R("{\"Act\":nul}"), false, {}, {}},
  {R("{\"Act\":nullx}"), false, {}, {}},
  {R("{\"\\u0041ct\":\"a\",\"\\u0064\\u0061\\u0074\\u0061\":\"d\"}"), true, R("a"), R("d")},
  {R("{\"\\u0061\\u0063\\u0074\":\"a\"}"), true, R("a"), R("")},
  {R("{\"A\\u0000ct\":\"a\",\"Act\\u0000\":\"b\"}"), true, R(""), R("")},
  {R("{\"Act\x00\":\"a\"}"), false, {}, {}},
  {R("{\"Act \":\"a\"}"), true, R(""), R("")},
  {R("{\"\xC3\x84""ct\":\"a\"}"), true, R(""), R("")},
  {R("{\"\xFF""Act\":\"a\"}"), true, R(""), R("")},
  {R("{\"\":\"a\"}"), true, R(""), R("")},
  {R("{\"x\":1e99999,\"y\":-0.0E-0,\"z\":[1,2,{\"a\":[null,true,false]}],\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\"x\":1,\"x\":2,\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\"x\":12345678901234567890123456789012345678901234567890}"), true, R(""), R("")},
  {R("{\"x\":01}"), false, {}, {}},
  {R("{\"x\":-}"), false, {}, {}},
  {R("{\"x\":1.}"), false, {}, {}},
  {R("{\"x\":.1}"), false, {}, {}},
  {R("{\"x\":1e}"), false, {}, {}},
  {R("{\"x\":1e+}"), false, {}, {}},
  {R("{\"x\":+1}"), false, {}, {}},
  {R("{\"x\":0x1}"), false, {}, {}},
  {R("{\"x\":NaN}"), false, {}, {}},
  {R("{\"x\":-01}"), false, {}, {}},
  {R("{\"x\":0e0}"), true, R(""), R("")},
  {R("{\"x\":Infinity}"), false, {}, {}},
  {R("null"), false, {}, {}},
  {R("true"), false, {}, {}},
  {R("5"), false, {}, {}},
  {R("\"x\""), false, {}, {}},
  {R("[]"), false, {}, {}},
  {R("[{\"Act\":\"a\"}]"), false, {}, {}},
  {R(""), false, {}, {}},
  {R(" "), false, {}, {}},
  {R("{"), false, {}, {}},
  {R("}"), false, {}, {}},
  {R("{\""), false, {}, {}},
  {R("{\"Act"), false, {}, {}},
  {R("{\"Act\""), false, {}, {}},
  {R("{\"Act\":"), false, {}, {}},
  {R("{\"Act\":\""), false, {}, {}},
  {R("{\"Act\":\"a"), false, {}, {}},
  {R("{\"Act\":\"a\""), false, {}, {}},
  {R("{\"Act\":\"a\","), false, {}, {}},
  {R("{\"Act\":\"a\",}"), false, {}, {}},
  {R("{,}"), false, {}, {}},
  {R("{\"Act\" \"a\"}"), false, {}, {}},
  {R("{\"Act\":\"a\" \"Data\":\"d\"}"), false, {}, {}},
  {R("{\"Act\":\"a\"}x"), false, {}, {}},
  {R("{\"Act\":\"a\"}{}"), false, {}, {}},
  {R("{\"Act\":\"a\"},"), false, {}, {}},
  {R("{\"Act\":\"a\"}]"), false, {}, {}},
  {R("{\"Act\":\"a\"}\x00"), false, {}, {}},
  {R("{\"Act\":\"a\"}\x0B"), false, {}, {}},
  {R("\xEF\xBB\xBF{}"), false, {}, {}},
  {R("\x00{}"), false, {}, {}},
  {R("{\"Act\":\"a\"}\xC2\xA0"), false, {}, {}},
  {R("{Act:\"a\"}"), false, {}, {}},
  {R("{'Act':'a'}"), false, {}, {}},
  {R("{\"Act\":'a'}"), false, {}, {}},
  {R("{\"x\":[}"), false, {}, {}},
  {R("{\"x\":[1,]}"), false, {}, {}},
  {R("{\"x\":[,1]}"), false, {}, {}},
  {R("{\"x\":[1 2]}"), false, {}, {}},
  {R("{\"x\":[1}"), false, {}, {}},
  {R("{\"x\":]}"), false, {}, {}},
  {R("//{}"), false, {}, {}},
  {R("{}//"), false, {}, {}},
  {R("{\"Act\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}"), true, R("\"\\/\x08\x0C\x0A\x0D\x09"), R("")},
  {R("{\"Act\":\"\\u00e9\\u4e16\\ud83d\\ude00\"}"), true, R("\xC3\xA9\xE4\xB8\x96\xF0\x9F\x98\x80"), R("")},
  {R("{\"Act\":\"\\uABCD\\uabcd\"}"), true, R("\xEA\xAF\x8D\xEA\xAF\x8D"), R("")},
  {R("{\"Act\":\"\\u0000\"}"), true, R("\x00"), R("")},
  {R("{\"Act\":\"\\u001f<\\u003c\"}"), true, R("\x1F<<"), R("")},
  {R("{\"Act\":\"\\a\"}"), false, {}, {}},
  {R("{\"Act\":\"\\'\"}"), false, {}, {}},
  {R("{\"Act\":\"\\U0041\"}"), false, {}, {}},
  {R("{\"Act\":\"\\u\"}"), false, {}, {}},
  {R("{\"Act\":\"\\u004\"}"), false, {}, {}},
  {R("{\"Act\":\"\\u004g\"}"), false, {}, {}},
  {R("{\"Act\":\"\\"), false, {}, {}},
  {R("{\"Act\":\"\\\""), false, {}, {}},
  {R("{\"Act\":\"\\u"), false, {}, {}},
  {R("{\"Act\":\"\\u00"), false, {}, {}},
  {R("{\"Act\":\"\\ud800\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\udc00\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\udfff\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\ud800\\u0041\"}"), true, R("\xEF\xBF\xBD""A"), R("")},
  {R("{\"Act\":\"\\ud800A\"}"), true, R("\xEF\xBF\xBD""A"), R("")},
  {R("{\"Act\":\"\\ud800\\n\"}"), true, R("\xEF\xBF\xBD\x0A"), R("")},
  {R("{\"Act\":\"\\ud800\\ud800\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\ud800\\ud800\\udc00\"}"), true, R("\xEF\xBF\xBD\xF0\x90\x80\x80"), R("")},
  {R("{\"Act\":\"\\udc00\\ud800\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\udc00\\udc00\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\udbff\\udfff\"}"), true, R("\xF4\x8F\xBF\xBF"), R("")},
  {R("{\"Act\":\"\\uD800\\uDC00\"}"), true, R("\xF0\x90\x80\x80"), R("")},
  {R("{\"Act\":\"\\ud800\\\\udc00\"}"), true, R("\xEF\xBF\xBD\\udc00"), R("")},
  {R("{\"Act\":\"\\ud7ff\\ue000\"}"), true, R("\xED\x9F\xBF\xEE\x80\x80"), R("")},
  {R("{\"Act\":\"\\uffff\\ufffd\"}"), true, R("\xEF\xBF\xBF\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\\ud83d\xFF\\ude00\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xFF\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"a\x80z\"}"), true, R("a\xEF\xBF\xBDz"), R("")},
  {R("{\"Act\":\"\xC3\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xC3\xA9\"}"), true, R("\xC3\xA9"), R("")},
  {R("{\"Act\":\"\xC0\x80\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xC1\xBF\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xE2\x82\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xE2\x82\xAC\"}"), true, R("\xE2\x82\xAC"), R("")},
  {R("{\"Act\":\"\xE0\x9F\xBF\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xE0\xA0\x80\"}"), true, R("\xE0\xA0\x80"), R("")},
  {R("{\"Act\":\"\xED\xA0\x80\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xED\x9F\xBF\"}"), true, R("\xED\x9F\xBF"), R("")},
  {R("{\"Act\":\"\xED\xA0\xBD\xED\xB8\x80\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xF0\x9F\x98\x80\"}"), true, R("\xF0\x9F\x98\x80"), R("")},
  {R("{\"Act\":\"\xF0\x9F\x98\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xF0\x8F\xBF\xBF\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xF4\x8F\xBF\xBF\"}"), true, R("\xF4\x8F\xBF\xBF"), R("")},
  {R("{\"Act\":\"\xF4\x90\x80\x80\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xF8\x88\x80\x80\x80\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xFE\xFF\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("{\"Act\":\"\xEF\xBB\xBF\"}"), true, R("\xEF\xBB\xBF"), R("")},
  {R("{\"Act\":\"\xE2\x80\xA8\xE2\x80\xA9\"}"), true, R("\xE2\x80\xA8\xE2\x80\xA9"), R("")},
  {R("{\"Act\":\"\x7F\"}"), true, R("\x7F"), R("")},
  {R("{\"Act\":\"\x00\"}"), false, {}, {}},
  {R("{\"Act\":\"\x1F\"}"), false, {}, {}},
  {R("{\"Act\":\"a\x0A""b\"}"), false, {}, {}},
  {R("{\"Act\":\"a\x09""b\"}"), false, {}, {}},
  {R("{\"Act\":\"0123456\x1F""89abcdef\"}"), false, {}, {}},
  {R("{\"x\":\"\xFF\xFE\",\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\"\xFF\":1,\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\xFF:1}"), false, {}, {}},
  {R("{\"Act\":\"012345678901234567890123456789\xFF""012345678901234567890123456789\"}"), true, R("012345678901234567890123456789\xEF\xBF\xBD""012345678901234567890123456789"), R("")},
  {R("{\"Act\":\"0123456\\\"01234567\\\"012345678\\\"\"}"), true, R("0123456\"01234567\"012345678\""), R("")},
  {R("{\"x\":\"}\",\"Act\":\"a\"}"), true, R("a"), R("")},
  {R("{\"x\":\"\\\"}\",\"Act\":\"a\"}"), true, R("a"), R("")},
};

// Pieces of JSON and bytes thrown together, and objects with a mutation or two.
constexpr ReadVector random_vectors[] = {
  {R("\"\\'\"{ \"x\": \"\xB2\\n\" ,\"Data\":\"\xE2\x80\xA8\"}"), false, {}, {}},
  {R("{ \"Data\": \"\\ud800\\u0041\",\"x\":\"\xFF\", \"DATA\":\"\"\x0A\x09}"), true, R(""), R("")},
  {R("{ \"A\\u0063t\"\x0A\x09:\x0A\x09x2345678901234567890123,\"Dat\xFF\": \"\\u0041ct\"}"), false, {}, {}},
  {R("{\"Data\":\"b\x98\xA0\xA8\x8C""F]c\xF4\x03\x80\xED\xE0\xC3/\xF2\xB4\x1B\\\xA8\\\xA9\"}"), false, {}, {}},
  {R("{ Data\":\"\"act\"\xC3\xA9\"}"), false, {}, {}},
  {R("{\"Data\":\"\xE0\xED""0 \xE2\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD""0 \xEF\xBF\xBD")},
  {R("\"dAtA\"#}"), false, {}, {}},
  {R("[1,{\"Act\":2}]\"\x0A\"\"\\ud800\\u0041\"}1e\"a long piece of text\""), false, {}, {}},
  {R("{ \"Act\"\x0A\x09:\"act\",\"Dat\xFF\"\x0A\x09:\"\xE2\x80\xA8\"}"), true, R("act"), R("")},
  {R("{\"DATA\": \"\\udc00\\ud800\",\"\"\\x\"x\"\x0A\x09\"\" }"), false, {}, {}},
  {R("\"\\uD83D\\uDE00 and \\u00e9 tail long enough\"1"), false, {}, {}},
  {R("{\x0A\"Data\" :U\\u0041ct\"\x0A\x09}"), false, {}, {}},
  {R("{\"Data\":\" \x1D\xC0""a\xD3\xA0\xDA""c d*>c<u< c\xE2\xAF\\2\xFB\"}"), false, {}, {}},
  {R("{\"Data\":\"<\x9B\x0B\xE8`\"}"), false, {}, {}},
  {R("\"a\\n\"{\x0A\x09\"x\": [\"\xF0\x9D\x84\x9E\"],\"x\":\"\\/\",\"Act\"\xBC \"Act\" }"), false, {}, {}},
  {R("nul+1\x00\"\\ud83d\\ude00\"\"\\ud83d\\ude00\"}"), false, {}, {}},
  {R("\"\\ud83d\\ude00\"\"\xF0\x9F\x98\x80\"\"\x0A\"\"\xE2\x82\"1e\"act\"[]"), false, {}, {}},
  {R("\"\\u12\""), false, {}, {}},
  {R("{\"Data\":\"b\xB1\x8F\xE2\xDD\xC3\xF4&\x98`&uVud\\\\d#\xE2\x8F&<\x96\xA8\x98\x80Mu\"}"), true, R(""), R("b\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD&\xEF\xBF\xBD`&uVud\\d#\xEF\xBF\xBD\xEF\xBF\xBD&<\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDMu")},
  {R("\"\xFF\"\xEF\xBB\xBF"), false, {}, {}},
  {R("{\"Data\":\"< \xBD""0\xE2\xA8\xC8""0\x8F""d\xA9<0\"}"), true, R(""), R("< \xEF\xBF\xBD""0\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD""0\xEF\xBF\xBD""d\xEF\xBF\xBD<0")},
  {R("{\"Data\":\"d\\\xCC\xEA\xBF\xB3x07\xAE\xF4\xC2\x12\xBD\x80\x17o\x83\x9F(\xF0\xBF\x00\x09\xA0\x8D\\\xC3\xF0\xED""d/0a\xEC+\"}"), false, {}, {}},
  {R("{\x0A\x09\"Data\":[],\x0A\xCB\"datA\"\x0A\x09:\x0A\x09null }"), false, {}, {}},
  {R("{\"Data\":\"\xA9\xED\xBD\xE0""8\xF0\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD""8\xEF\xBF\xBD")},
  {R("\x0D\"\\/\"\"\\b\\f\\r\\t\\\\\\\"\"\"\xFF\"\"\\ud800\\u0041\""), false, {}, {}},
  {R("{\x0A\x09\"Act\":null}"), true, R(""), R("")},
  {R("{\"Data\":\"\xA8\x00\x8D\x80\xCD\xED\xBD+u\x80\xE2/b\xEDu\xCC""a\x9C\\K>\x80""0\xB5&\xBF\x0E/\"}"), false, {}, {}},
  {R("{\"act\":\"\\\xC0""d800\\u0041\"}"), false, {}, {}},
  {R("{}"), true, R(""), R("")},
  {R("{\"Data\":\"$8d\\\x80\"}"), false, {}, {}},
  {R("{\"Data\":\"\x19\xF4u\xBE=0\xBFu<w/c\xFA""C\x15""00\xA7\xA0\xBC\x80\xB2\xCA \xFB\\\xEF""bg/ >\xBF\xBD""0\xED^\x11\\\"}"), false, {}, {}},
  {R("{\"D:\xE8""A\" :null\x0A\x09}"), true, R(""), R("")},
  {R("{\"Data\":\"\x98\xE4Y\x98/%\xC0z!\xA0\x89\xE5>\x8C""8\xDD\xF4""c\x9F\\0&\x85w\xEF\x9FN\xBF\x16\xDD\x9F\xBF\"}"), false, {}, {}},
  {R("{\"Data\":\"\xEDu:Su\xA9""c<\xBB\xA9""c\x9Fu\xE1\xF0\x8F\x98\xA9\xB4\xC7\xEF""crcucu\"}"), true, R(""), R("\xEF\xBF\xBDu:Su\xEF\xBF\xBD""c<\xEF\xBF\xBD\xEF\xBF\xBD""c\xEF\xBF\xBDu\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD""crcucu")},
  {R("{\"datA\":\"\\udc0\xD9ud800\"\x0A\x09,\"Dat\xFF\" :\"A\xC4\x8Dt\", \"Dat\xFF\":\"x\"}"), false, {}, {}},
  {R("{\"act\"\x0A\x09:\"\\b\\f\\r\\t\\\\\\\"\" ,\"act\": \"A\xC4\x8Dt\" ,\"x\":\x0A\x09[] }"), true, R("A\xC4\x8Dt"), R("")},
  {R("{\x0A\x09\"DATA\":[true]\x0A\x09,\"Dat\xFF\":\x0A\x09\"\xC0\x80\"}"), false, {}, {}},
  {R("{\"Data\":\"I\xD1\xEDs\xA9\xB8\xA8_\\\xED\xEF}d\xA0\xA8\\/\xE2\xD6\x80\x80\x18\xF6""8\xA9\x1E""d\x80=\xB1\x9C\xF5\"}"), false, {}, {}},
  {R("{\"Data\":\"&\xA8\x06""b\xEF\x80\x96\x07\x9DY<)\x80<\xA0>&\xC3sdl\x98\\M\xF4""b<\"}"), false, {}, {}},
  {R("{\"Data\":\"\xFD\x91""ceD>>\xA9\x92\xFB\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD""ceD>>\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD")},
  {R("\"\xEA""ctt\"{}"), false, {}, {}},
  {R("\"Act\"\"\xF0\x9F\x98\x80\"\"\"dAtA\"\xFF\"\xC0\x80\""), false, {}, {}},
  {R(""), false, {}, {}},
  {R("\"\\ud800\",\"a long piece of text\"{,\x0Anul"), false, {}, {}},
  {R("{\"Data\":\" c\x80><&\xC3h\x9F\\\xBF""cHW\xBD\xEF""c\"}"), false, {}, {}},
  {R("{\"Data\":\"\x18\\b\x9A\xBC""0\xEB\xE5\"}"), false, {}, {}},
  {R("{\x9C"), false, {}, {}},
  {R("\"a long piece of text\"\"\"\xC0\x80\"\"DATA\""), false, {}, {}},
  {R("\"x\""), false, {}, {}},
  {R("{\"Data\"\x0A\x09:\"\\ud800\", \"A\\u0063t\":{},\x0A\x09\"A\\u0063\xA4\": \"Act\"}"), false, {}, {}},
  {R("{\"Data\":\"/\x08\x9F\x80\x9D\\^u\x8F\xA8\xF0""d\xC3""6\xBF\x9E\xC3\xC3\x80\xBD\xED \x8F\\\x9F\"}"), false, {}, {}},
  {R("{\"Dat\xFF\"\x0A\x09:\x0A\x09\"\\udc00\\ud800\",\"x\":\x0A\x09\"act\" }"), true, R(""), R("")},
  {R("{\"Data\":\"=E\xA9\x9F \"}"), true, R(""), R("=E\xEF\xBF\xBD\xEF\xBF\xBD ")},
  {R("{\"Data\":\"\x98\xF0\x82\xA0>\xF0\\\xED@4\xBD\xC5\xA9\x9F\x9F\xAA""d\"}"), false, {}, {}},
  {R("\x96\x0A}"), false, {}, {}},
  {R("\"\\x\"\"\\'\""), false, {}, {}},
  {R("\"\\'\"{}\"\x01\""), false, {}, {}},
  {R("{\"Act\":\"\xF0\x9D\x84\x9E\"b,\x0A\x09\"act\": \"a\\n\"\\b\\f\\r\\t\\\\\\\"\"\" ,\"Act\"\x0A\x09:true\x0A\x09}"), false, {}, {}},
  {R("\"DATA\"\"\xC0\x80\"-1.5E+3\x00"), false, {}, {}},
  {R("{\"ct\":\x0A\x09null,\x0A\x09\"DATA\":\x0A\x09ull}"), false, {}, {}},
  {R("\"\\udc00\\ud800\",1e"), false, {}, {}},
  {R("{\"Data\":\"0\xC3u\xED""dcb\xF0\x9FN\"3\xF0\x11u\xA0""0c \x98\xF4\xF4\xA0\x7F&G\x9F\x8F""0\\uua\x8C\"}"), false, {}, {}},
  {R("{\x0A\x09\"datA\"\x0A\x09:null, \"act\":\x0A\x09\"\x0A\"\x0A\x09}"), false, {}, {}},
  {R("{\"Data\":\"d\xED\xA8\x98""d\xB2X\xF0\xBF\xA8\"}"), true, R(""), R("d\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD""d\xEF\xBF\xBDX\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD")},
  {R("{ \"A\\u0063t\":\"\\u12\" ,\"DATA\": \"\\ud800\\u0041\", \"Act\":\"A\xC4\x8Dt\"\x0A\x09}"), false, {}, {}},
  {R("\xFF\"\x0A\"-0{}"), false, {}, {}},
  {R("{\"Act\x95 :\x0A\x09\"\xE2\x82\" , \"act\":\"\xF0\x9D\x84\x9E\" }"), false, {}, {}},
  {R("{\"Dat\xFF\"\x0A\x09:\"\xE2\x80\xA8\"\x0A\x09}"), true, R(""), R("")},
  {R("{"), false, {}, {}},
  {R("\"Actt\"\"\x7F\"\"a\\n\"\"\\'\""), false, {}, {}},
  {R("{\"Data\":\"\xED\xC7""0\xC3""D\x9Fs\xF4\x80\x9E\xF4\xF4\xBF\xF4O\xBF\xF0""a\xED\x8F\xE2\x02 &]8\xBD""0a\xA0\x80\xF0\"}"), false, {}, {}},
  {R("{\x0A\x09\"Dat\xFF\" : \"\xC3\xA9\",\"datA\":\"\\ud800\\u0041\"\x0A\x09}"), true, R(""), R("\xEF\xBF\xBD""A")},
  {R("{\"Data\":\"\xE2\x82\" , \"Data\":\x0A\x09true}"), false, {}, {}},
  {R("\"\\ud83d\\ude00\"\xFF\"\xF0\x9F\x98\x80\"\"\""), false, {}, {}},
  {R("\xFF,}1.:"), false, {}, {}},
  {R("{\"Data\":\"uu\\\xEDL\"}"), false, {}, {}},
  {R("{\"Data\":\"#\x95\x80""08\xE2/\xF4uu/\xE2\x80\x98/b\xF0\x8C""4\"}"), true, R(""), R("#\xEF\xBF\xBD\xEF\xBF\xBD""08\xEF\xBF\xBD/\xEF\xBF\xBDuu/\xE2\x80\x98/b\xEF\xBF\xBD\xEF\xBF\xBD""4")},
  {R("\"Actt\"{{"), false, {}, {}},
  {R("{\"DATA\"\x0A\x09:\"A\xC4\x8Dt\"\x0A\x09}"), true, R(""), R("A\xC4\x8Dt")},
  {R("{\"Data\":\"0\x11\\d\xBF\\\x93\xF0x\\\"}"), false, {}, {}},
  {R("{\"Data\":\"u\xC3u\x8Fz=,\\G \x06\x9F\xF0\"}"), false, {}, {}},
  {R("{\"Data\":\"b\xE2M\\\xECP\xF0\xA6~\xBF""8$\x80\x98\x8Cn>\xD9\xE3\x8AH\x87\xA0&N\"}"), false, {}, {}},
  {R("\"\\ud800\\u0041\"\xC2\xA0\"\xFF\"[]:\"\x01\"\"\"\"\\uD83D\\uDE00 and \\u00e9 tail long enough\""), false, {}, {}},
  {R("{\"Data\":\"\x1C\"}"), false, {}, {}},
  {R("\"\\ud83d\\ude00\"\"\x7F\"\"\xF0\x9F\x98\x80\"\"act\"\"\\u0041ct\"[][1,{\"Act\":2}]\"x\""), false, {}, {}},
  {R("}{"), false, {}, {}},
  {R("{\"x\" :\"\xFF\"}"), true, R(""), R("")},
  {R("{\x0A\x09\"Data\": true ,\x0A\x09\"datA\" :\x0A\x09-1.5e-9}"), false, {}, {}},
  {R("{\"A\\u0063t\":null, \"Dat\xFF\" :\"Actt\"}"), true, R(""), R("")},
  {R("{\"x\":\"\\/\"\x0A,\"x\":[\"DATA\",\"\xE2\x80\xA8\"]}"), true, R(""), R("")},
  {R("{ \"x\":null ,\"Act\"\x0A\x09: \"DATA\"}"), true, R("DATA"), R("")},
  {R("{\"Dat\":\x0A\x09\"\"\x0A\x09,\xEF\xBB\xBF \"Act\":[] }"), false, {}, {}},
  {R("{\"Data\":\" dp\xBA\x98""ca \x8F""b\\&&u\xF0\x98\x98\xBD\x80""0\x1B""B\"}"), false, {}, {}},
  {R("\x0D""false\"false"), false, {}, {}},
  {R("{\"Data\":\"\\\xEF""dU\"}"), false, {}, {}},
  {R(".5\"\xFF\"\x09\xFF\x09\"\\ud800\\ud800\\udc00\"true\"A\xC4\x8Dt\""), false, {}, {}},
  {R("{\"x\":\"\xF0\x9D\x84\" }"), true, R(""), R("")},
  {R("\"\\ud83d \\ude00\"{}"), false, {}, {}},
  {R("\xC2\xA0\"\x0A\".5.5{}\"DATA\""), false, {}, {}},
  {R("{\"Data\":\">\xA9uC\xF4\\\xEC""3\xE6J0 \x7F\x0F\xBA""b\xEF\xA9""0\xA4\"}"), false, {}, {}},
  {R("{\xF2"), false, {}, {}},
  {R("{\x0A\x09\"x\":\x0A\x09\"\\u12\"\x86"), false, {}, {}},
  {R("11"), false, {}, {}},
  {R("\"\xF0\x9F\x98\x80\"1e400]\"DATA\"{\"Data\":[]}\x00"), false, {}, {}},
  {R("\"\":nul\"Act\".5.5"), false, {}, {}},
  {R("{\"x\" :[\"\x0A\"]\"\xC3\xA9\",\"Act\"\x0A: 0\x0A\x09}"), false, {}, {}},
  {R("{\x0A\x09\"x\": \"\\ud800\\ud800\\udc00\"}"), true, R(""), R("")},
  {R("{\"DnullATA\": \"\\u1\xB7\"}"), false, {}, {}},
  {R("\"\xF4\x90\x80\x80\"true\"\\x\"[]"), false, {}, {}},
  {R("{\"Data\":\"\x04\x06""c\xF4\xEDra\xB1\\/\x9F\xF4 \xED\\cd\x88\xA0\x80""0\x80\xA8\xBF""b\"}"), false, {}, {}},
  {R("{\"x\"\x0A\x09:\"\xC3\xA9\",\"datA\":\"a long piece of text\",\"x\":null}"), true, R(""), R("a long piece of text")},
  {R("{\x0A\x09\"Act\": \"dAtA\"\x0A\x09, \"A\\u0063t\":12345678901234567890123, \"x\" : \"\x7F\" }"), false, {}, {}},
  {R("{\"Data\":\"$-\x98\x9FM \"}"), true, R(""), R("$-\xEF\xBF\xBD\xEF\xBF\xBDM ")},
  {R("{\"A{}\\u0063t\" :\"a long p\"\\b\\f\\r\\t\\\\\\\"\"iece of text\"}"), false, {}, {}},
  {R("{\"Data\":\"\"}"), true, R(""), R("")},
  {R("{\"Act\" :[[]],\"x\":\x0A\x09\"\xFF\" }"), false, {}, {}},
  {R("\"\\ud800\\u0041\"\"\\uD83D\\uDE00 and \\u00e9 tail long enough\"\"\\u0041ct\"\"\x01\""), false, {}, {}},
  {R("{\"DATA\":\x0A\x09""false,\"Data\" :[],\"Dat\xFF\" :\"dAtA\" }"), false, {}, {}},
  {R("{\"A\\u0063t\":\"a\\n\" ,\x0A\x09\"\xAC""at\xFF\"\xB5\x09: \"\xED\xA0\x80\"}"), false, {}, {}},
  {R("\"\"a\\n\"\"\x0A\"\"\\x\""), false, {}, {}},
  {R("{\x0A\x09\"Dat\xFF\":\"\x7F\",\"A\x02u-063t\":\x0A\x09\"\\b\\f\\r\\t\\\\\\\"\"\x0A\x09}"), false, {}, {}},
  {R("=}"), false, {}, {}},
  {R("{\x0A\x09\"Dat\xFF\" :\x0A\x09\xD8\xC3\xA9\",\x0A\x09\"Dat\xFF\": \"along piece of text\"}"), false, {}, {}},
  {R("]+1true"), false, {}, {}},
  {R("7"), false, {}, {}},
  {R("{\"A\\u006t\": \"Data\" ,\"Act\":\x0A\x09\"\" }"), false, {}, {}},
  {R("{\"A\\u0063t\"\x0A\x09:\"\\udc00\\ud800\"}"), true, R("\xEF\xBF\xBD\xEF\xBF\xBD"), R("")},
  {R("\"DATA\"\"act\""), false, {}, {}},
  {R("\"act\"true\"\x09\"\\ud800\"1."), false, {}, {}},
  {R("\"\xED\xA0\x80\"nul]\"\xFF\""), false, {}, {}},
  {R("01null\"\\ud83d\\ude00\""), false, {}, {}},
  {R("{ \"A\\u0063t\":\"Actt\"\x0A\x09,\"Dat\xFF\"\x0A\x09:\"\xE2\x82\"\x0A\x09,\"x\"\x0A\x09:\"\x0A\"}"), false, {}, {}},
  {R("{\"A\\\"a\\n\"u{\"Data\":[]}0063t\" :\"x\"}"), false, {}, {}},
  {R("\"\xF4\x90q\x80\"{}"), false, {}, {}},
  {R("{\"Data\":\"/\xA8\xB4u</\xD8""0&\x98\xA8""0u\\0>\xC3\xA8\"}"), false, {}, {}},
  {R("{\"Data\":\"\xEF\xDC\x01\x17""b\x93\xA8\xA7\xED\xEF\xED\x9F""d\xA8Pa\xBF\\&\xC3\x84\xA0""a\xF4\xA8\xF4Ou\x86@d\xBD\x16\x0E\xA1\xC5\xA9\x8F\\\"}"), false, {}, {}},
  {R("}"), false, {}, {}},
  {R("{\"act\": {\"act\"\x0A\x09:\x0A\x09\"\\/\",\"dtA\"\x0A\x09:\"\\/\"}}"), false, {}, {}},
  {R("\"\x01\"\"\\u0041ct\""), false, {}, {}},
  {R("{\"Data\":\"8 \x80\xCA\xAB\xD3""b,\x9F\xA8""d\x82N\\<bb0b!\x98\x10\xC3\x98""c\"}"), false, {}, {}},
  {R("{ \"Act\":\x0A\x09null, \"Dat\xFF\"\x0A\x09: \"\\u12\"\"\"}"), false, {}, {}},
  {R("{\"Data\":\"\xA8\xF2u\xA9\x8F\xF4""b\xE2\x9D%W\xF0\xBD\x8F""0\x8F\x8A\xA5\x82\x98""d\x8F\xED\xE2\\\xC3-d\xF0u0\x80\"}"), false, {}, {}},
  {R("{\"Data\":\"\x11|\xAD\xED\x14""E\xBF\xE1""c\xC6\xCD""0\xF0\x98\x8F""0\xDA&)\xBF{c\x93 \xB1\xA2\x80\x80U\"}"), false, {}, {}},
  {R("{\"Data\": {\"DATA\":\"act\" }}"), false, {}, {}},
  {R("{\"Act\":\"\"\\ud800\\u0041\"\\u0041ct\"}"), false, {}, {}},
  {R("\"\"]1.\x09\"Act\".5"), false, {}, {}},
  {R("{\x0A\x09\"act\" :\"\\uD83D\"\xF0\x9F\x98\x80\"\\uDE00 and \\u00e9 tail long enough\"}"), false, {}, {}},
  {R("{\"Data\":\"\xED>\xEF""08u\x1D\xF0'\xBF\xC7\"\\\xF0\xBF\x80q\\\"}"), false, {}, {}},
  {R("{\"Data\":\"\x9F\x06\"}"), false, {}, {}},
  {R("\"\\'\"{\"\\u0000\"\"\"01.5"), false, {}, {}},
  {R("1.\"\\'\"1e400\"\xE2\x80\xA8\"}\"\xF0\x9D\x84\x9E\""), false, {}, {}},
  {R("[\"x\"[{}]:\"\xF0\x9D\x84\x9E\"}"), false, {}, {}},
  {R("{tue}"), false, {}, {}},
  {R("{\x0A\x09\"Dat\xFF\":null,\"Data\":\x0A\x09\"\\u0041ct\",\"act\"\x0A\x09:\x0A\x09\"Dat\"}"), true, R("Dat"), R("Act")},
  {R("{\"Data\":\";\\u\xA8\xFC\x8F\\\x9F&\xBF\x8F\xE2\xA5\x0A\\\xEF""dz`C\xF4""d>l8\xF0<\xE2\xB6\?\x0A\xB2\x80\x0F""c\xBDu>\\\"}"), false, {}, {}},
  {R("{\"Data\":\"\xD5""d\xC3\\c\xA9&8\xB0""8\xBF\x9F<\x98u\x18\"}"), false, {}, {}},
  {R("\"\\ud800\"\"A\xC4\x8Dt\"\x0A,\"\\uD83D\\uDE00 and \\u00e9 tail long enough\""), false, {}, {}},
  {R("{\x0A\x09\"act\" :\"Data\"\x0A\x09,\"DAT\":\"\xE2\x82\"\x0A\x09}"), true, R("Data"), R("")},
  {R("{\xC7"), false, {}, {}},
  {R("{\"\\x\"}"), false, {}, {}},
  {R("[:,\x0C+1"), false, {}, {}},
  {R("~\xA9"), false, {}, {}},
  {R("{\"x\":\"\\'\"}"), false, {}, {}},
  {R("{\"DATA\"\x0A\x09:\x0A\x09\"\xF0\x9D\x84\x9E\"\x0A\x09,\x0A\x09\"Data\" :\"\\u0000\",\"A\\u0063t\":\"Act\"}"), true, R("Act"), R("\x00")},
  {R("{\"Data\":\"\xA9\xBD""0/>\x8B\xF1>\\\\\x80\x9F\x01\"}"), false, {}, {}},
  {R("{\"Data\":\"\xB1""b\\\xC3m\xBD\x80""b%\x96\"}"), false, {}, {}},
  {R("{\"Data\":\x0A\x09\"\\ud800\\u0041\",\"datA\"\x0A\x09:\x0A\x09\"Act\" ,\xFE""act\"\x0A\x09:null}"), false, {}, {}},
  {R("{ \"Act\":\"\\u0000\"\x0A\x09}"), true, R("\x00"), R("")},
  {R("{\"Data\":\"c\xA0\x98\\L\x86 c\xC9\xA9\xBF \x80""b\x80\xD0\xB3""0\xA8""c \x8F""da a\x9F""cr\\\xBD\x80n\x80\xEF\xA8\xA1\"}"), false, {}, {}},
  {R("[{}"), false, {}, {}},
  {R("{\"Data\":\"\xE6\xED\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD")},
  {R("\"\\uD83D\\uDE00 and \\u00e9 tail long enough\""), false, {}, {}},
  {R("\"\x01\"}"), false, {}, {}},
  {R("{\"act\"\x0A\x09:\"\\ud800\"}"), true, R("\xEF\xBF\xBD"), R("")},
  {R("{\"datA\":\"Bud80\xAF\\u0041\"}"), true, R(""), R("Bud80\xEF\xBF\xBD""A")},
  {R("{\"Data\":\"c\x98\x9F/08<c/\\0 \x9C""7\x9F\xF4\"}"), false, {}, {}},
  {R("{\"Data\":\"\\\xE7\xA9""d\"}"), false, {}, {}},
  {R("{\"Data\":\"\xE3\xA9>c\x89 \xBD\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD>c\xEF\xBF\xBD \xEF\xBF\xBD")},
  {R("{\"Data\":\"\xBF\x80""d\xB2""0\x9F \x14u\xA0""a\x80Nz_&\xA0\x8F\x98 u\xD7\x8A\xE2\xEF\\\"}"), false, {}, {}},
  {R("{\"Data\":\"\xE1""0 \xBD""c\xF0\xF4\xBF& \xCFmr\xC3\x80\xA3\xF0x\x80\xED\xBD""a\xA8\x7F b\x80\xC3\xBF\xEE\x1B\xA0\xBD\x1F\x11""c\x9F\"}"), false, {}, {}},
  {R("{\"act\":\"\xF0\x9D\x84\x9E\"}"), true, R("\xF0\x9D\x84\x9E"), R("")},
  {R("\"\"Actt\"\"\xE2\x80\xA8\"\x0A\x09"), false, {}, {}},
  {R("\xC2\xA0\x09}\"\xC0\x80\"-0}\"\xFF\""), false, {}, {}},
  {R("{\x7F"), false, {}, {}},
  {R("\xC2\xA0""false\x09\"DATA\"-1.5E+3\x09{"), false, {}, {}},
  {R("\"\x01\"\"Actt\"\"\\udc00\\ud800\"\x0D"), false, {}, {}},
  {R("{\"Data\" :\"\\b\\f\\r\\t\\\\\\\"\"}"), true, R(""), R("\x08\x0C\x0D\x09\\\"")},
  {R("\"\xFF\""), false, {}, {}},
  {R("{\"Dat\xFF\":false,\"A\\u0063t\":\"\\ud83d\\ude00\"}"), true, R("\xF0\x9F\x98\x80"), R("")},
  {R("{\"Data\":\"\x98\x98\x9F\xEF\xC3k\xA9u\xC3\x81""du\x1E\xF0\x1B\xA8\xFE\xA0\x9F%\xD6\x9F""8\xA8\x8Fl<c\xBF\xA0\x80\xA0u>d\xA8""8\xA9\x80\"}"), false, {}, {}},
  {R("{\"Data\":\"8\xF3l\\\x8F\xBD\xF4\xFF""BRa0\x04\x98\xA8u b\xEF""c\xE9\\\xF9""0A3\xA0 \xBF\xC8\xA0O\xA8\"}"), false, {}, {}},
  {R("{\"Data\":\"0\"}"), true, R(""), R("0")},
  {R("{\"\xED\xA0\x80}"), false, {}, {}},
  {R("\"\\ud800\"\"\\b\\f\\r\\t\\\\\\\"\""), false, {}, {}},
  {R("\"\\ud800\\ud800\\udc00\"-\"\\u0041ct\"{\"\\b\\f\\r\\t\\\\\\\"\"\"\xE2\x80\xA8\"1"), false, {}, {}},
  {R("{\"Data\":\"\xF4u\xB6""8<\xA9u\xF4\xCC\x9Fu\\\x0E\xBA<\xE2\"}"), false, {}, {}},
  {R("[]1"), false, {}, {}},
  {R("\"A\xC4\x8Dt\"\"\xC0\x80\"\"\xF4\x90\x80\x80\"false\"act\""), false, {}, {}},
  {R("{\"Data\":\"c\xFF""3b\xE2/\x8C""dd\x80""c8\"}"), true, R(""), R("c\xEF\xBF\xBD""3b\xEF\xBF\xBD/\xEF\xBF\xBD""dd\xEF\xBF\xBD""c8")},
  {R("\"\\ud800\\ud800\\udc00\"-0"), false, {}, {}},
  {R("{\x0A\x09\"Act\"\x0A\x09: \"\\ud800\\u0041\"\x0A\x09,\"Dat\xFF\":\"\\ud83d\\ude00\"}"), true, R("\xEF\xBF\xBD""A"), R("")},
  {R("{\"Act\" :\"\\x\" ,\"act\"\x0A\x09:\xF0\x9F\x98\x80\" }"), false, {}, {}},
  {R("{\"\\ud800\\ud800\\udc00\"}"), false, {}, {}},
  {R("{\"Data\":\"\xA9u\\\xE2\xAB\xD9u\xA0\xA9""00\xF0\x8F""8\xBD\xED\xE8\"}"), false, {}, {}},
  {R("{\"Data\":\"\\ud800\"\x0A\x09,\"x\"\x0A\x09:\"\x01\" ,\"A\\u0063t\" :\"\\b\\f\\r\\t\\\\\\\"\" }"), false, {}, {}},
  {R("\"\\x\"null[\"\xE2\x82\"\"\"\"\\ud83d\\ude00\"\"\"\"\\ud83d\\ude00\""), false, {}, {}},
  {R("{\"Data\"\x0A\x09R \"Data\"\x0A\x09}"), false, {}, {}},
  {R("{\"Data\":\"&\x9Em\x98\x0A\xBDT\xA0V\xA9""c\xF0<\xC3\x9F""c\x98Z\xA0\x9F\x0B\x98\xF4h0\"}"), false, {}, {}},
  {R("{\"Data\"\x0A\x09:\"\\uD83{\"Data\":[]}D\\uDE00 and \\u00e9 tail long enough\"}"), false, {}, {}},
  {R("{\"Data\":\"ba\xA9>a&\xE2\"}"), true, R(""), R("ba\xEF\xBF\xBD>a&\xEF\xBF\xBD")},
  {R("\"\x7F\"{\"x\":\",u0041ct\" , \"Act\": true\x0A\x09}"), false, {}, {}},
  {R("{\"Data\":\"\xC3\xA9\"}"), true, R(""), R("\xC3\xA9")},
  {R("\"\xC3\xA9\"1e}\"Data\""), false, {}, {}},
  {R("{\"Data\":\"8d\xBD\x98\x93\x17""8\xEF\xA9\\\x8F\xF4\x84\xA8W\x98""dN\x8F\xE2\xF4.\xBD\xEDu\"}"), false, {}, {}},
  {R("\"\\u12\"\x0A\"\xED\xA0\x80\"false"), false, {}, {}},
  {R("{\"datA\": \"\x01\",\"act\": 0,\x0A\x09\"Data\":{}}"), false, {}, {}},
  {R("{\"Dat\xFF\":\x0A\x09\"\"}"), true, R(""), R("")},
  {R("{\"Data\":\"8\xB5""0\xE2""d\xC3\xE9/\x9F\xE2S\xBF\x8F""a00\xBD\xE2{\xA8\x9F\xA4\xFD\xE2Yd\"}"), true, R(""), R("8\xEF\xBF\xBD""0\xEF\xBF\xBD""d\xEF\xBF\xBD\xEF\xBF\xBD/\xEF\xBF\xBD\xEF\xBF\xBDS\xEF\xBF\xBD\xEF\xBF\xBD""a00\xEF\xBF\xBD\xEF\xBF\xBD{\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDYd")},
  {R("\"\\u0000\"\"x\"\"\\ud83d\\ude00\"-01e400,"), false, {}, {}},
  {R("null\"DATA\"nul\"\\uD83D\\uDE00 and \\u00e9 tail long enough\"{"), false, {}, {}},
  {R("\"\xF4\x90\x80\x80\"[1,{\"Act\":2}]\"act\"-1.5E+3\"\xE2\x82\".5{}\"Act\""), false, {}, {}},
  {R("{\"Act\"\x0A\x09: \"\xED\xA0\x80\"\x0A\x09>"), false, {}, {}},
  {R("{\"At\":null}"), true, R(""), R("")},
  {R("{\"Data\":\"\?\xC3""c\x0B\xAC 7 8\xEF\xF4""5\xF4\xED""b8a\xA0\xBF\x90\x98\\\xAA\x93.\xA9\xEFp\xED\x9B\\8\"}"), false, {}, {}},
  {R("{\"Data\":\"\x80/<\\/\xF0\xF4\x80\x8A\x80\xA9u\\\x10\xA0(<\xC3\"}"), false, {}, {}},
  {R("{\"Data\":\"u\xA9'\xA8>\x8C\xE7 \xBD\\\x15\x0C>0\"}"), false, {}, {}},
  {R("{\"datA\": \"DATA\"\x0A\x09, \"DATA :\x0A\x09\"\\u0041ct\"\x0A\x09}"), false, {}, {}},
  {R("nul\"\xC0\x80\",\"\\ud800\\ud800\\udc00\"\"\\ud800\\ud800\\udc00\"\"Data\"\"\x0A\""), false, {}, {}},
  {R("{\"Data\":\"\xE8/\xA8lp8ddb\xE2\xEF\xA4\x82""9\xA2\x98pu\x80\xF2""0\xE2""d\xF4\xE2\xA8\xC4\x98\xBD\xBD""ad\"}"), true, R(""), R("\xEF\xBF\xBD/\xEF\xBF\xBDlp8ddb\xEF\xBF\xBD\xEF\xA4\x82""9\xEF\xBF\xBD\xEF\xBF\xBDpu\xEF\xBF\xBD\xEF\xBF\xBD""0\xEF\xBF\xBD""d\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xC4\x98\xEF\xBF\xBD\xEF\xBF\xBD""ad")},
  {R("{\"act\" :\"\xC0\x80\" ,\"act\":true}"), false, {}, {}},
  {R("\"\"\\u0041ct\"+1true"), false, {}, {}},
  {R("{\"Act\" : null}"), true, R(""), R("")},
  {R("{\"Data\": null , \"x\"\x0A\x09:\"\\ud83d\\ude00\" ,\"DATA\" : [\"Data\"]}"), false, {}, {}},
  {R("{\"Data\":\"\\\xCA""cy\xA0i'0\x8F\xEDs[u\x9F\xED""a\x15\xED\xD0""2\x19""8%\xA8/\x9Cv\xC9\x96\xBD\xEFz\"}"), false, {}, {}},
  {R("\"a long piece of text\""), false, {}, {}},
  {R("{\"DATA\"\x0A\x09:\"\\'\",\"x\" :da\\n\" }"), false, {}, {}},
  {R("-0\"\\'\"\"\x01\"+1]+101"), false, {}, {}},
  {R("{\"Data\":\"\xED\xBC\xED\xA1\xA0\x9F""d\x9F""8\xBDh<\xE3\xA8""0\xB8\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD""d\xEF\xBF\xBD""8\xEF\xBF\xBDh<\xEF\xBF\xBD\xEF\xBF\xBD""0\xEF\xBF\xBD")},
  {R("1\"\\'\"\"\xED\xA0\x80\"\"Actt\"+1][null"), false, {}, {}},
  {R("{\"Data\":\"\xA8""c\x98""c\xB9""a\xE2""a\xF0\x80\xE2""d/\xED\xF6\xA9""a\xD7""0\x14La\x80\x80\x80\x01\xE2\x9F\\\xA0]cc\"}"), false, {}, {}},
  {R("{\"Data\":\"\x9F\x80\xD2\x80\x9F\xA9\x9F\xEF\xC2""0\xD6""a>T\xC3\x80""c.>\xAD\xFEu\x81\xBD""0j\xA0\x1C\"}"), false, {}, {}},
  {R("{\"Data\":\"\xD8\xF1\\\xDA\x9C\x98u\xF4]0\xF3\x80q\xBD\xF0""8\xB6""0\x80\x7F\x80\xC3\x1A&d\"}"), false, {}, {}},
  {R("{\"Data\":\"\xBFu\x94\xE2""d\xBD\x18\x9F\xC7\xEA\xA9\xCE\x9F_\x80nc\\\xA8\xC7\x8B\x95\\\xF4\x80\xEF\x80\xE5\xA9\xE2\xE0\xBF""c\xB5\"}"), false, {}, {}},
  {R(" \"\\/\"false\"\\x\"\"\\ud83d\\ude00\"\"Actt\"\"\xF0\x9D\x84\x9E\""), false, {}, {}},
  {R("\x1D{}}"), false, {}, {}},
  {R("\x95}"), false, {}, {}},
  {R("{\"Data\":\"/;\\S\xED\xEF\x0F\xF0\xAA\xBF""b>\\\\u\x8F%<&\xEF\\m\"}"), false, {}, {}},
  {R("\xC2\xA0}\"\xC0\x80\"\"\xED\xA0\x80\"\x0C"), false, {}, {}},
  {R("\"\\u0000\"{"), false, {}, {}},
  {R("\"Act\"\"Data\""), false, {}, {}},
  {R("{\"Data\":\"\xA8\\\"}"), false, {}, {}},
  {R("{\"Data\":\"\xA9\xC3\xF4\x80\\\xA8'\xA9\x7F\xEB>\x81\\\x06\x98u\xF0\x05\xC3\xA9\xBF\\\x17\xF0\xEFub\"}"), false, {}, {}},
  {R("{\"Data\":\"><\xBF\xED<\xE8\xA0<\xD7/\x80""0\xC3\xF7\xE3`\"}"), true, R(""), R("><\xEF\xBF\xBD\xEF\xBF\xBD<\xEF\xBF\xBD\xEF\xBF\xBD<\xEF\xBF\xBD/\xEF\xBF\xBD""0\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD`")},
  {R("{\"Act\"\x0A\x09:0,\"Dat\xFF\":12345678901234567890123 , \"datA\" :\x0A\x09\"a\\n\" }"), false, {}, {}},
  {R("\"\xF0\x9F\x98\x80\""), false, {}, {}},
  {R("{\"Data\":\"\x9F\xF0<0\xA8\x80""db \x9F\xBD\xF1\x80\x9DU\x9D\xE2{ud\xA8""0c\xB4\xEB\xEF\xED;L0bb\"}"), true, R(""), R("\xEF\xBF\xBD\xEF\xBF\xBD<0\xEF\xBF\xBD\xEF\xBF\xBD""db \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDU\xEF\xBF\xBD\xEF\xBF\xBD{ud\xEF\xBF\xBD""0c\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD;L0bb")},
  {R("\xD1nul}"), false, {}, {}},
  {R("{\"Act\"\x0A\x09:[]-1.5E+3}"), false, {}, {}},
  {R("{\"Data\":\"d\xC3u\x8F\xF0\xEF/\xF0""c\x84\\u\xA8T\"}"), false, {}, {}},
  {R("\"\xF4\x90\x80\x80\""), false, {}, {}},
  {R("{\"Data\":\"\xE2\xD6k0\xBF\xBD\\\xB3""8u/\x13\xA5\x98\xA8\x8F\x8F\xEF\x19\\a\x95""0\\\"}"), false, {}, {}},
  {R("1\"\\/\""), false, {}, {}},
  {R("{\"Da\x8E\xFF\": alse}"), false, {}, {}},
  {R("true1e400\"a long piece of text\"true.51"), false, {}, {}},
  {R("\"act\"\xC2\xA0""1.\"\xC3\xA9\"false"), false, {}, {}},
  {R("{\"Data\":\"\\'cb\xF4\xED\xED\\\x80\x04>*'\xCE\x12\x02""bu\xE2""0\xC4""a\xE6\xD0\x1E\xE8""c\xA0\xA8\xCD_\xBF\x80&\\\x80<\xC0\"}"), false, {}, {}},
  {R("\"\\ud800\"{{\"\xED\xA0\x80\"\""), false, {}, {}},
  {R("{\"Data\":\"\xBF\xC3""8a\x10""c<\x80x/a\x1D\xD3""a\x93<\xEF\xF0""c\x0E>\x12\xF0<\"}"), false, {}, {}},
  {R("{\x0A\x09\"Data\" :\"\"}"), true, R(""), R("")},
  {R("\"\xF4\x90\x80\x80\"\"dAtA\""), false, {}, {}},
  {R("{\"Data\":\"\xEDu\x98/\\\xC5""8c\\;\\b\x98\xA0\xA5""c\xB3\x8A\x1D\x95>a8\x98\x9F\xED""0\xF0u\x05\xBDZb\x9F\xE2\xF4\x9E\x0F\"}"), false, {}, {}},
  {R("{\"A\\u0063t\":1234567890123456790123,\x09\"Act\": true}"), false, {}, {}},
  {R("{\"Data\":\"8<\"}"), true, R(""), R("8<")},
  {R("{\"\xCC""ct\":\"\xF4\x90\xA6\x80\" ,\"Data\" : \"act\"}"), true, R(""), R("act")},
  {R(" \"A\xC4\x8Dt\""), false, {}, {}},
  {R("{\"Act\" :\"\", \"A\\u0063t\" :\"Data\",\x0A\x09\"Dat\xFF\"\x0A\x09: \x0A\x09null}"), true, R("Data"), R("")},
  {R("\"\"\x7F\"\"\\u0000\"[]\"\xE2\x82\"\"dAtA\""), false, {}, {}},
  {R("\"Actt\"}"), false, {}, {}},
  {R("{\x0A\x09\"act\":\"\\uD83D\\uDE00 and \\u\"\\x\"00e9 tail long enouah\"}"), false, {}, {}},
  {R("[1,{\"Act\":2}]"), false, {}, {}},
  {R("1.\"\xC3\xA9\"\xC2\xA0\"\\'\"\"\\/\"true"), false, {}, {}},
  {R("-1.5E+3\"\\/\""), false, {}, {}},
  {R("{ \"Act\":\"\\udc00\\u\"\xC3\xA9\"d800\" ,qA\\u0063t\":0 ,\"Dat\xFF\"\x0A\x09:[] }"), false, {}, {}},
  {R("\"Data\" ::\x0A\x09true\x0A\x09}"), false, {}, {}},
  {R("{\"Data\":\"0&u\xBD\\\\\xA9u\x80\xC3""cNba\x98\xF0\x9A\x8F\x8F\xEF\\u\xF2\xF5\xB3""d\xA8<\xEF\xD5""c8\\d\xA8W\xD8\"}"), false, {}, {}},
  {R("-0{\"Data\":[]}\"\x7F\"1\"\xC3\xA9\"[1,{\"Act\":2}]\"\x7F\" "), false, {}, {}},
  {R("{\"act\"\x0A\x09\x09:]}"), false, {}, {}},
  {R("{\"Data\":\">\xF4""0\xA8\"}"), true, R(""), R(">\xEF\xBF\xBD""0\xEF\xBF\xBD")},
  {R("{ \"datA\":\x0A\x09\"\xC0\x80\",\"Act\" :\x0A\x09""1e400,\"A\\u0063t\" : \"\\/\"}"), false, {}, {}},
  {R("{\"Data\":\"ec \xA0u\xF4\xEF""8c\xCE""d8d\xA0\xA2""duQ\x15\xBF""au\"}"), false, {}, {}},
  {R("{\"Data\":\"\xF0\x8F\x8F\xEF""bV\xA8\xA9u\xED\xA0\\\\P\x0E\"}"), false, {}, {}},
  {R("{\"Data\":\"\\dbc\"}"), false, {}, {}},
  {R("-1.5E+3\"a long piece of text\"\xC2\xA0\"Actt\"\x09[1,{\"Act\":2}]"), false, {}, {}},
  {R("-0"), false, {}, {}},
  {R("\x00\x0A\"dAtA\"\"a\\n\"\"\\u0041ct\""), false, {}, {}},
  {R("{\"datA\x0A\x09:\"\\ud8\x0C""3d\\ude00\"}"), false, {}, {}},
  {R("\xC2\xA0\"act\"\"\xF4\x90\x80\x80\""), false, {}, {}},
  {R("{\"datA\":\"\x01\" null,\"Ac\":\"\xE2\x80\xA8\"}"), false, {}, {}},
  {R("{\"Data\":\"\x03""d\\\x80\x98\xA9""c\x8F\xEF\xA9^>\\\xC3""dt\x8F""fbc\x05\xF4""c\x0Emb\\\xF0\xEB""c\xFC""8\xF1\xED\xF0\"}"), false, {}, {}},
  {R("{\"Act\"\x0A\x09:\x0A\x09\"\"}"), true, R(""), R("")},
};

constexpr WriteVector write_vectors[] = {
  {R(""), R("\"\"")},
  {R("hello"), R("\"hello\"")},
  {R("My name's John!"), R("\"My name's John!\"")},
  {R("a/b"), R("\"a/b\"")},
  {R("\"quoted\" \\ back"), R("\"\\\"quoted\\\" \\\\ back\"")},
  {R("<a href=\"x\">&amp;</a>"), R("\"\\u003ca href=\\\"x\\\"\\u003e\\u0026amp;\\u003c/a\\u003e\"")},
  {R("\xE2\x80\xA8|\xE2\x80\xA9|\xE2\x80\xA7|\xE2\x80\xAA"), R("\"\\u2028|\\u2029|\xE2\x80\xA7|\xE2\x80\xAA\"")},
  {R("\xC3\xA9\xE4\xB8\x96\xF0\x9F\x98\x80"), R("\"\xC3\xA9\xE4\xB8\x96\xF0\x9F\x98\x80\"")},
  {R("\x7F"), R("\"\x7F\"")},
  {R("\xEF\xBF\xBD"), R("\"\xEF\xBF\xBD\"")},
  {R("\xFF"), R("\"\\ufffd\"")},
  {R("\xC0\x80"), R("\"\\ufffd\\ufffd\"")},
  {R("\xE2\x82"), R("\"\\ufffd\\ufffd\"")},
  {R("a\xE2\x82z"), R("\"a\\ufffd\\ufffdz\"")},
  {R("\xED\xA0\x80"), R("\"\\ufffd\\ufffd\\ufffd\"")},
  {R("\xED\x9F\xBF"), R("\"\xED\x9F\xBF\"")},
  {R("\xEE\x80\x80"), R("\"\xEE\x80\x80\"")},
  {R("\xF0\x8F\xBF\xBF"), R("\"\\ufffd\\ufffd\\ufffd\\ufffd\"")},
  {R("\xF0\x90\x80\x80"), R("\"\xF0\x90\x80\x80\"")},
  {R("\xF4\x8F\xBF\xBF"), R("\"\xF4\x8F\xBF\xBF\"")},
  {R("\xF4\x90\x80\x80"), R("\"\\ufffd\\ufffd\\ufffd\\ufffd\"")},
  {R("\xF5\x80\x80\x80"), R("\"\\ufffd\\ufffd\\ufffd\\ufffd\"")},
  {R("\xF8\x88\x80\x80\x80"), R("\"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\"")},
  {R("\xE2\x80"), R("\"\\ufffd\\ufffd\"")},
  {R("\xE2\x80\xA8\xA8"), R("\"\\u2028\\ufffd\"")},
  {R("\x80\x80"), R("\"\\ufffd\\ufffd\"")},
  {R("\xF0\x9F\x98"), R("\"\\ufffd\\ufffd\\ufffd\"")},
  {R("plain text longer than eight bytes < and after it"), R("\"plain text longer than eight bytes \\u003c and after it\"")},
  {R("0123456<"), R("\"0123456\\u003c\"")},
  {R("01234567<"), R("\"01234567\\u003c\"")},
  {R("012345678<"), R("\"012345678\\u003c\"")},
  {R("0123456\x1F""01234567"), R("\"0123456\\u001f01234567\"")},
  {R("c\x00""d"), R("\"c\\u0000d\"")},
  {R("c\x01""d"), R("\"c\\u0001d\"")},
  {R("c\x02""d"), R("\"c\\u0002d\"")},
  {R("c\x03""d"), R("\"c\\u0003d\"")},
  {R("c\x04""d"), R("\"c\\u0004d\"")},
  {R("c\x05""d"), R("\"c\\u0005d\"")},
  {R("c\x06""d"), R("\"c\\u0006d\"")},
  {R("c\x07""d"), R("\"c\\u0007d\"")},
  {R("c\x08""d"), R("\"c\\bd\"")},
  {R("c\x09""d"), R("\"c\\td\"")},
  {R("c\x0A""d"), R("\"c\\nd\"")},
  {R("c\x0B""d"), R("\"c\\u000bd\"")},
  {R("c\x0C""d"), R("\"c\\fd\"")},
  {R("c\x0D""d"), R("\"c\\rd\"")},
  {R("c\x0E""d"), R("\"c\\u000ed\"")},
  {R("c\x0F""d"), R("\"c\\u000fd\"")},
  {R("c\x10""d"), R("\"c\\u0010d\"")},
  {R("c\x11""d"), R("\"c\\u0011d\"")},
  {R("c\x12""d"), R("\"c\\u0012d\"")},
  {R("c\x13""d"), R("\"c\\u0013d\"")},
  {R("c\x14""d"), R("\"c\\u0014d\"")},
  {R("c\x15""d"), R("\"c\\u0015d\"")},
  {R("c\x16""d"), R("\"c\\u0016d\"")},
  {R("c\x17""d"), R("\"c\\u0017d\"")},
  {R("c\x18""d"), R("\"c\\u0018d\"")},
  {R("c\x19""d"), R("\"c\\u0019d\"")},
  {R("c\x1A""d"), R("\"c\\u001ad\"")},
  {R("c\x1B""d"), R("\"c\\u001bd\"")},
  {R("c\x1C""d"), R("\"c\\u001cd\"")},
  {R("c\x1D""d"), R("\"c\\u001dd\"")},
  {R("c\x1E""d"), R("\"c\\u001ed\"")},
  {R("c\x1F""d"), R("\"c\\u001fd\"")},
};

constexpr FloatVector float_vectors[] = {
  {0x0p+00, "0"},
  {-0x0p+00, "-0"},
  {0x1p+00, "1"},
  {-0x1p+00, "-1"},
  {0x1.999999999999ap-04, "0.1"},
  {0x1p-01, "0.5"},
  {0x1.9p+06, "100"},
  {0x1.86ap+16, "100000"},
  {0x1.d6f3454p+26, "123456789"},
  {0x1.0c6f7a0b5ed8dp-20, "0.000001"},
  {0x1.0c6f7a0b5ed8dp-20, "0.000001"},
  {0x1.ad7f29abcaf48p-24, "1e-7"},
  {0x1.421f5f40d8376p-23, "1.5e-7"},
  {0x1.12e0be826d695p-30, "1e-9"},
  {0x1.b7cdfd9d7bdbbp-34, "1e-10"},
  {0x1.12e0be826d695p-33, "1.25e-10"},
  {0x1.bff2ee48e053p-333, "1e-100"},
  {0x1.5af1d78b58c4p+66, "100000000000000000000"},
  {0x1.ac53a7e04bcdap+66, "123456789012345680000"},
  {0x1.b1ae4d6e2ef48p+69, "999999999999999000000"},
  {0x1.b1ae4d6e2ef5p+69, "1e+21"},
  {0x1.4542ba12a337cp+70, "1.5e+21"},
  {0x1.0f0cf064dd592p+73, "1e+22"},
  {0x1.249ad2594c37dp+332, "1e+100"},
  {0x1.7e43c8800759cp+996, "1e+300"},
  {0x1.fffffffffffffp+1023, "1.7976931348623157e+308"},
  {0x1p-1074, "5e-324"},
  {0x1p-1022, "2.2250738585072014e-308"},
  {0x1p+53, "9007199254740992"},
  {0x1p+62, "4611686018427388000"},
  {0x1p+63, "9223372036854776000"},
  {0x1p+64, "18446744073709552000"},
  {0x1.921fb54442d18p+01, "3.141592653589793"},
  {-0x1.c80d50c795c88p-16, "-0.00002718281828459045"},
  {0x1.01f31f46ed246p-13, "0.000123"},
  {0x1.34a456d5cfaadp+10, "1234.5678"},
  {0x1p-1074, "5e-324"},
  {0x1.1666666666666p+02, "4.35"},
  {0x1.3333333333334p-02, "0.30000000000000004"},
  {0x1.e421e454dfff3p+858, "3.634632067643165e+258"},
  {-0x1.8c39b8c61e5d8p-59, "-2.68492825951248e-18"},
  {0x1.e11bf994b1e03p+843, "1.1022753887809113e+254"},
  {0x1.be6302bd9083dp-43, "1.9823554378750762e-13"},
  {0x1.6e84000cd61f5p-298, "2.8113429115203257e-90"},
  {-0x1.7374dd6588b1dp-63, "-1.5731794835988895e-19"},
  {-0x1.e3f3c1828849cp+331, "-8.269724514238753e+99"},
  {-0x1.ead96e01f6bf1p+31, "-4117542656.9819264"},
  {0x1.de2fa91462f2fp-727, "2.6457585101625307e-219"},
  {0x1.2e812d4e5c8dap+68, "348764055776534300000"},
  {-0x1.addd8077b5a61p-655, "-1.1231692494820505e-197"},
  {0x1.0cf3f8e24306cp-29, "1.9568907476491805e-9"},
  {0x1.56b4ddf682632p+722, "2.953515543532743e+217"},
  {-0x1.552bc33bc4502p-55, "-3.6989828276794764e-17"},
  {0x1.4c4b2d5e7d492p-390, "5.147350980203335e-118"},
  {0x1.4c455393ce118p-32, "3.021985381013601e-10"},
  {-0x1.16fb5152a2f55p-246, "-9.637332272869275e-75"},
  {0x1.da7f5cfb00dc7p-33, "2.1577648682048679e-10"},
  {-0x1.0fae1f8de81cfp+778, "-1.687153510647768e+234"},
  {0x1.5439c2467c943p-66, "1.8011394387251357e-20"},
  {-0x1.f6ef48cd59bf4p+906, "-1.062790615881931e+273"},
  {-0x1.18c32153cf0bcp-56, "-1.5220150838736674e-17"},
  {-0x1.f10fb7bf2019p+754, "-1.8398685755815067e+227"},
  {0x1.1f90d2b75b4afp+48, "316181847694154.94"},
  {0x1.26734c5253d6bp-813, "2.105647572150013e-245"},
  {0x1.e6a3e970be49ep+71, "4.4884643576415917e+21"},
  {0x1.3d0e84600cd97p-331, "2.831186084865237e-100"},
  {0x1.41fc76ef47f38p+51, "2832220477341596"},
  {-0x1.16419c821f29dp+131, "-2.958928451913722e+39"},
  {0x1.0751a1b477494p+41, "2261891901678.5723"},
  {0x1.d6d98fe36afccp-827, "2.055114666540428e-249"},
  {-0x1.2f023ef0bc587p-19, "-0.0000022575912840209098"},
  {-0x1.2efa51ae8cc0ap+971, "-2.362091108707252e+292"},
  {-0x1.2e97298c1814bp+91, "-2.9264755301910373e+27"},
  {0x1.b207adc5881f1p+351, "7.776931199263212e+105"},
  {-0x1.dc6d79ab87986p+24, "-31223161.67003777"},
  {-0x1.2775566a936aap-270, "-6.08355548473865e-82"},
  {0x1.6eb6b436ca7afp+91, "3.546637160326984e+27"},
  {0x1.0fc690e1afd6dp+767, "8.240949431730346e+230"},
  {0x1.2100b07579949p+20, "1183755.0286804012"},
};
// clang-format on

/// Puts a text where a sanitizer sees each byte that is read beside it.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view text) : bytes_(new char[text.size()]), size_(text.size()) {
    if (size_ != 0) std::memcpy(bytes_.get(), text.data(), size_);
  }
  std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t size_;
};

void expect_as_go(const ReadVector& vector) {
  SCOPED_TRACE(std::string(vector.text));
  const ExactCopy text(vector.text);
  std::error_code ec = std::make_error_code(std::errc::io_error);
  const Msg msg = gtcp::UnmarshalMsg(text.view(), ec);
  EXPECT_EQ(ec, vector.good ? std::error_code() : make_error_code(Errc::InvalidMsg));
  EXPECT_EQ(msg.Act, vector.act);
  EXPECT_EQ(msg.Data, vector.data);
}

std::string nested(int depth) {
  // The object of the message is the first level.
  const auto arrays = static_cast<std::size_t>(depth - 1);
  return R"({"x":)" + std::string(arrays, '[') + std::string(arrays, ']') + R"(,"Act":"deep"})";
}

nlohmann::json nested_array(int depth) {
  nlohmann::json value = nlohmann::json::array();
  for (int i = 1; i < depth; ++i) {
    nlohmann::json outer = nlohmann::json::array();
    outer.push_back(std::move(value));
    value = std::move(outer);
  }
  return value;
}

template <class Operation>
std::string what_of(Operation operation) {
  try {
    operation();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), Errc::InvalidMsg);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(MarshalMsg, WritesBothKeysInOrder) {
  EXPECT_EQ(gtcp::MarshalMsg({.Act = "hello", .Data = "My name's John!"}),
            R"({"Act":"hello","Data":"My name's John!"})");
  EXPECT_EQ(gtcp::MarshalMsg({.Act = "heartbeat"}), R"({"Act":"heartbeat","Data":""})");
  EXPECT_EQ(gtcp::MarshalMsg({}), R"({"Act":"","Data":""})");
}

TEST(MarshalMsg, EscapesAsGo) {
  for (const WriteVector& vector : write_vectors) {
    const std::string value(vector.value);
    const std::string text(vector.text);
    EXPECT_EQ(gtcp::MarshalMsg({.Act = value}), R"({"Act":)" + text + R"(,"Data":""})");
    EXPECT_EQ(gtcp::MarshalMsg({.Data = value}), R"({"Act":"","Data":)" + text + "}");
    EXPECT_EQ(gtcp::MarshalJson(nlohmann::json{{value, value}}), "{" + text + ":" + text + "}");
  }
}

TEST(MarshalMsg, FindsTheSpecialByteAtEveryPlace) {
  for (const char special : {'"', '\\', '<', '>', '&', '\x1F', '\x80'}) {
    for (std::size_t place = 0; place < 20; ++place) {
      std::string value(20, 'a');
      value[place] = special;
      std::string escaped;
      gtcp::detail::append_json_special(escaped, &special, &special + 1);
      const std::string expected = std::string(place, 'a') + escaped + std::string(19 - place, 'a');
      EXPECT_EQ(gtcp::MarshalMsg({.Data = value}), R"({"Act":"","Data":")" + expected + "\"}");
    }
  }
}

TEST(UnmarshalMsg, ReadsWhatGoReads) {
  for (const ReadVector& vector : read_vectors) {
    // Go leaves the message as it was and reports nothing; here a message must be an object.
    if (vector.text == "null") {
      EXPECT_FALSE(vector.good);
    }
    expect_as_go(vector);
  }
}

TEST(UnmarshalMsg, ReadsRandomTextAsGo) {
  for (const ReadVector& vector : random_vectors) expect_as_go(vector);
}

TEST(UnmarshalMsg, StopsAtTheEndOfEveryPrefix) {
  const std::string whole =
      "{ \"Act\" : \"a\\u0041\\ud83d\\ude00\xC3\xA9\", \"x\":[1.5e+7,true,false,null,{\"y\":\"\\n\"}], "
      "\"data\":\"0123456789\"}";
  std::error_code ec;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const ExactCopy text(std::string_view(whole).substr(0, size));
    EXPECT_EQ(gtcp::UnmarshalMsg(text.view(), ec), Msg());
    EXPECT_EQ(ec, Errc::InvalidMsg) << size;
  }
  const ExactCopy text(whole);
  EXPECT_EQ(gtcp::UnmarshalMsg(text.view(), ec), (Msg{.Act = "aA\xF0\x9F\x98\x80\xC3\xA9", .Data = "0123456789"}));
  EXPECT_FALSE(ec);
}

TEST(UnmarshalMsg, TakesBackEveryStringThatWasWritten) {
  std::mt19937 random(11);
  std::uniform_int_distribution<int> any_byte(0, 127);
  for (std::size_t size = 0; size < 300; ++size) {
    Msg msg{.Act = std::string(size % 7, 'x'), .Data = std::string(size, ' ')};
    for (char& c : msg.Data) c = static_cast<char>(any_byte(random));
    EXPECT_EQ(gtcp::UnmarshalMsg(gtcp::MarshalMsg(msg)), msg);
  }
}

TEST(UnmarshalMsg, NeverFailsOtherwiseThanWithInvalidMsg) {
  std::mt19937 random(12);
  std::uniform_int_distribution<int> any_byte(0, 255);
  std::uniform_int_distribution<std::size_t> any_size(0, 24);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(any_size(random), ' ');
    for (char& c : bytes) c = static_cast<char>(any_byte(random));
    std::string inside = R"({"Data":")";
    inside += bytes;
    inside += "\"}";
    for (const std::string& text : {bytes, inside}) {
      const ExactCopy copy(text);
      std::error_code ec;
      const Msg msg = gtcp::UnmarshalMsg(copy.view(), ec);
      if (ec) {
        EXPECT_EQ(ec, Errc::InvalidMsg);
      }
      // What was read is UTF-8, so that it is written without a replacement and read again as it is.
      EXPECT_EQ(gtcp::UnmarshalMsg(gtcp::MarshalMsg(msg)), msg);
      EXPECT_EQ(gtcp::MarshalMsg(msg).find("\\ufffd"), std::string::npos);
    }
  }
}

TEST(UnmarshalMsg, TakesNestingOf64AndNot65) {
  std::error_code ec;
  EXPECT_EQ(gtcp::UnmarshalMsg(nested(64), ec).Act, "deep");
  EXPECT_FALSE(ec);
  gtcp::UnmarshalMsg(nested(65), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  EXPECT_NE(what_of([] { gtcp::UnmarshalMsg(nested(65)); }).find("nested deeper than 64"), std::string::npos);
  // As deep as memory goes: no recursion may follow it.
  gtcp::UnmarshalMsg(R"({"x":)" + std::string(5'000'000, '['), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
}

TEST(UnmarshalMsg, SaysWhatIsWrongAndWhere) {
  EXPECT_EQ(what_of([] { gtcp::UnmarshalMsg(R"({"Act":5})"); }),
            R"(invalid package structure: Act is not a string at byte 7: "{"Act":5}")");
  EXPECT_EQ(what_of([] { gtcp::UnmarshalMsg("[]"); }), R"(invalid package structure: not an object at byte 0: "[]")");
  EXPECT_EQ(what_of([] { gtcp::UnmarshalMsg(""); }), R"(invalid package structure: empty at byte 0: "")");
  EXPECT_EQ(what_of([] { gtcp::UnmarshalMsg("{} \x01\xFF"); }),
            R"(invalid package structure: more text after the value at byte 3: "{} \x01\xff")");
}

TEST(UnmarshalMsg, QuotesNoMoreThan64Bytes) {
  const std::string what = what_of([] { gtcp::UnmarshalMsg(std::string(1'000'000, 'x')); });
  EXPECT_EQ(what, "invalid package structure: not an object at byte 0: \"" + std::string(64, 'x') + "...\"");
}

TEST(MarshalJson, WritesNumbersAsGo) {
  for (const FloatVector& vector : float_vectors) EXPECT_EQ(gtcp::MarshalJson(vector.value), vector.text);
  EXPECT_EQ(gtcp::MarshalJson(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(gtcp::MarshalJson(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
}

TEST(MarshalJson, WritesEachKindOfValue) {
  EXPECT_EQ(gtcp::MarshalJson(nlohmann::json::parse(R"({"b":[1,-2,true,false,null,"<"],"a":{},"c":[]})")),
            R"({"a":{},"b":[1,-2,true,false,null,"\u003c"],"c":[]})");
  EXPECT_EQ(gtcp::MarshalJson(nlohmann::ordered_json::parse(R"({"b":1,"a":2})")), R"({"b":1,"a":2})");
  EXPECT_EQ(gtcp::MarshalJson(std::map<std::string, int>{{"z", 1}, {"\xC3\xA9", 2}, {"Z", 3}}),
            "{\"Z\":3,\"z\":1,\"\xC3\xA9\":2}");
  EXPECT_EQ(gtcp::MarshalJson("text"), R"("text")");
  EXPECT_EQ(gtcp::MarshalJson(nullptr), "null");
}

TEST(MarshalJson, WritesBinaryAsBase64) {
  const auto written = [](std::vector<std::uint8_t> bytes) {
    return gtcp::MarshalJson(nlohmann::json::binary(std::move(bytes)));
  };
  EXPECT_EQ(written({}), R"("")");
  EXPECT_EQ(written({'f'}), R"("Zg==")");
  EXPECT_EQ(written({'f', 'o'}), R"("Zm8=")");
  EXPECT_EQ(written({'f', 'o', 'o'}), R"("Zm9v")");
  EXPECT_EQ(written({0xFF, 0xFE, 0xFB, 0xEF}), R"("//777w==")");
}

TEST(MarshalJson, RefusesWhatHasNoJsonForm) {
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    std::error_code ec;
    EXPECT_EQ(gtcp::MarshalJson(std::vector<double>{1, value}, ec), "");
    EXPECT_EQ(ec, Errc::InvalidMsg);
    EXPECT_EQ(what_of([&] { gtcp::MarshalJson(value); }),
              "invalid package structure: NaN and infinities have no JSON form");
  }
  std::error_code ec;
  gtcp::MarshalJson(nlohmann::json(nlohmann::json::value_t::discarded), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
}

TEST(MarshalJson, TakesNestingOf64AndNot65) {
  std::error_code ec;
  EXPECT_EQ(gtcp::MarshalJson(nested_array(64), ec), std::string(64, '[') + std::string(64, ']'));
  EXPECT_FALSE(ec);
  EXPECT_EQ(gtcp::MarshalJson(nested_array(65), ec), "");
  EXPECT_EQ(ec, Errc::InvalidMsg);
}

TEST(UnmarshalJson, ReadsTheSameTextsAsDocuments) {
  // What is a message is a document too, and what is not well-formed is neither.
  for (const ReadVector& vector : read_vectors) {
    if (vector.text.find("1e9999") != std::string_view::npos) continue;
    SCOPED_TRACE(std::string(vector.text));
    const ExactCopy text(vector.text);
    std::error_code ec;
    const auto document = gtcp::UnmarshalJson<nlohmann::json>(text.view(), ec);
    if (vector.good) {
      EXPECT_FALSE(ec);
    }
    if (ec) {
      EXPECT_EQ(ec, Errc::InvalidMsg);
      EXPECT_TRUE(document.is_null());
    } else {
      // It is written so that nlohmann's own parser reads the same.
      EXPECT_EQ(nlohmann::json::parse(gtcp::MarshalJson(document)), document);
    }
  }
}

TEST(UnmarshalJson, ReadsEachKindOfValue) {
  const auto read = [](std::string_view text) { return gtcp::UnmarshalJson<nlohmann::json>(text); };
  EXPECT_EQ(read("null"), nlohmann::json(nullptr));
  EXPECT_EQ(read(" [true,false,null,\"\\u00e9\",{}] "), nlohmann::json::parse("[true,false,null,\"\xC3\xA9\",{}]"));
  EXPECT_EQ(read("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(read("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(read("18446744073709551616"), 18446744073709551616.0);
  EXPECT_EQ(read("-1.5e3"), -1500.0);
  EXPECT_EQ(read("1e-400"), 0.0);
  EXPECT_EQ(read(R"({"a":1,"a":2})"), nlohmann::json::parse(R"({"a":2})"));
  EXPECT_EQ(read("\"\xFF\\ud800\""), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(gtcp::MarshalJson(gtcp::UnmarshalJson<nlohmann::ordered_json>(R"({"b":1,"a":2})")), R"({"b":1,"a":2})");
}

TEST(UnmarshalJson, KeepsTheSignOfZero) {
  for (const char* const text : {"-0", "[-0]", "[0,-0]"}) {
    EXPECT_EQ(gtcp::MarshalJson(gtcp::UnmarshalJson<nlohmann::json>(text)), text);
  }
  EXPECT_EQ(gtcp::UnmarshalJson<int>("-0"), 0);
}

TEST(UnmarshalJson, RefusesWhatIsNoJson) {
  for (const std::string_view text : {"", " ", "nul", "truefalse", "01", "1.", "--1", "[1,]", "{\"a\"}", "{a:1}", "'a'",
                                      "1 2", "1e400", "[-1e400]", "\xEF\xBB\xBF{}", "NaN", "[\"\x01\"]"}) {
    std::error_code ec;
    gtcp::UnmarshalJson<nlohmann::json>(text, ec);
    EXPECT_EQ(ec, Errc::InvalidMsg) << text;
  }
}

TEST(UnmarshalJson, TakesNestingOf64AndNot65) {
  std::error_code ec;
  EXPECT_EQ(gtcp::UnmarshalJson<nlohmann::json>(std::string(64, '[') + std::string(64, ']'), ec), nested_array(64));
  EXPECT_FALSE(ec);
  gtcp::UnmarshalJson<nlohmann::json>(std::string(65, '[') + std::string(65, ']'), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  gtcp::UnmarshalJson<nlohmann::json>(std::string(5'000'000, '['), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
}

struct Position {
  int x = 0;
  std::vector<Msg> log = {};

  friend void to_json(nlohmann::json& json, const Position& position) {
    if (position.x < 0) throw std::invalid_argument("x is negative");
    json = {{"x", position.x}, {"log", position.log}};
  }
  friend void from_json(const nlohmann::json& json, Position& position) {
    json.at("x").get_to(position.x);
    json.at("log").get_to(position.log);
    if (position.x < 0) throw std::invalid_argument("x is negative");
  }
};

TEST(UnmarshalJson, ConvertsUserTypesBothWays) {
  const Position position{.x = 7, .log = {{.Act = "a"}, {.Act = "b", .Data = "<"}}};
  const std::string text = gtcp::MarshalJson(position);
  EXPECT_EQ(text, R"({"log":[{"Act":"a","Data":""},{"Act":"b","Data":"\u003c"}],"x":7})");
  const auto back = gtcp::UnmarshalJson<Position>(text);
  EXPECT_EQ(back.x, 7);
  EXPECT_EQ(back.log, position.log);
  EXPECT_EQ(gtcp::UnmarshalJson<Position>(R"({"x":1,"log":[{"act":"a","y":1,"DATA":null}]})").log,
            std::vector<Msg>{{.Act = "a"}});
}

TEST(UnmarshalJson, ReportsWhatAConversionThrows) {
  std::error_code ec;
  EXPECT_EQ(gtcp::UnmarshalJson<Position>(R"({"x":-1,"log":[]})", ec).x, 0);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  EXPECT_EQ(what_of([] { gtcp::UnmarshalJson<Position>(R"({"x":-1,"log":[]})"); }),
            R"(invalid package structure: x is negative: "{"x":-1,"log":[]}")");
  EXPECT_EQ(what_of([] { gtcp::MarshalJson(Position{.x = -1}); }), "invalid package structure: x is negative");
  for (const std::string_view text :
       {"{}", "null", "5", R"({"x":"1","log":[]})", R"({"x":1,"log":[5]})", R"({"x":1,"log":[{"Act":5}]})"}) {
    gtcp::UnmarshalJson<Position>(text, ec);
    EXPECT_EQ(ec, Errc::InvalidMsg) << text;
  }
}

// ---- On a connection

/// Two ends of a connection whose asynchronous operations go on on `io`, which the tests run themselves.
class MsgOnConn : public testing::Test {
 protected:
  MsgOnConn() {
    asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
    asio::ip::tcp::socket client(io);
    client.connect(acceptor.local_endpoint());
    asio::ip::tcp::socket server = acceptor.accept();
    gtcp::ConnOption option;
    option.Executor = io.get_executor();
    here = gtcp::NewConnByNetConn(std::move(client), {}, option);
    there = gtcp::NewConnByNetConn(std::move(server), {}, option);
  }

  ~MsgOnConn() override {
    here.Close();
    there.Close();
    io.restart();
    io.run();
  }

  /// Runs a coroutine to its end.
  void run(asio::awaitable<void> coroutine) {
    bool ended = false;
    std::exception_ptr failure;
    asio::co_spawn(io, std::move(coroutine), [&](std::exception_ptr error) {
      ended = true;
      failure = std::move(error);
    });
    run_until([&] { return ended; });
    if (failure) std::rethrow_exception(failure);
  }

  template <class Predicate>
  void run_until(Predicate done) {
    const auto give_up_at = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done() && std::chrono::steady_clock::now() < give_up_at) {
      io.restart();
      io.run_one_for(std::chrono::milliseconds(100));
    }
    EXPECT_TRUE(done());
  }

  asio::io_context io;
  gtcp::Conn here;
  gtcp::Conn there;
};

TEST_F(MsgOnConn, SendsTheBytesOfGo) {
  gtcp::SendMsg(here, {.Act = "hello", .Data = "<John>"});
  EXPECT_EQ(there.RecvPkg(), R"({"Act":"hello","Data":"\u003cJohn\u003e"})");
  const Msg msg{.Act = "bye"};
  gtcp::SendMsg(here, msg);
  EXPECT_EQ(there.RecvPkg(), R"({"Act":"bye","Data":""})");
}

TEST_F(MsgOnConn, TakesAnOptionAnErrorCodeAndATimeout) {
  const gtcp::PkgOption wide{.HeaderSize = 4};
  std::error_code ec = std::make_error_code(std::errc::io_error);
  gtcp::SendMsg(here, {.Act = "1"}, {.HeaderSize = 4});
  gtcp::SendMsg(here, {.Act = "2"}, {.HeaderSize = 4}, ec);
  EXPECT_FALSE(ec);
  gtcp::SendMsg(here, {.Act = "3"}, ec);
  gtcp::SendMsgWithTimeout(here, {.Act = "4"}, 30s);
  gtcp::SendMsgWithTimeout(here, {.Act = "5"}, 30s, {.HeaderSize = 4});
  gtcp::SendMsgWithTimeout(here, {.Act = "6"}, 30s, ec);
  EXPECT_EQ(gtcp::RecvMsg(there, {.HeaderSize = 4}).Act, "1");
  EXPECT_EQ(gtcp::RecvMsg(there, wide, ec).Act, "2");
  EXPECT_EQ(gtcp::RecvMsg(there, ec).Act, "3");
  EXPECT_EQ(gtcp::RecvMsgWithTimeout(there, 30s).Act, "4");
  EXPECT_EQ(gtcp::RecvMsgWithTimeout(there, 30s, wide).Act, "5");
  EXPECT_EQ(gtcp::RecvMsgWithTimeout(there, 30s, ec).Act, "6");
  EXPECT_FALSE(ec);
  gtcp::RecvMsgWithTimeout(there, 0s, ec);
  EXPECT_EQ(ec, Errc::Timeout);
  EXPECT_THROW(gtcp::RecvMsgWithTimeout(there, 0s), std::system_error);
  gtcp::SendMsg(here, {.Act = std::string(300, 'x')}, {.HeaderSize = 1}, ec);
  EXPECT_EQ(ec, Errc::DataTooLong);
}

TEST_F(MsgOnConn, StaysUsableAfterWhatIsNoMessage) {
  std::error_code ec;
  here.SendPkg("[]");
  here.SendPkg(R"({"Act":5})");
  gtcp::SendMsg(here, {.Act = "good"});
  EXPECT_EQ(gtcp::RecvMsg(there, ec), Msg());
  EXPECT_EQ(ec, Errc::InvalidMsg);
  EXPECT_FALSE(gtcp::IsFatal(ec));
  EXPECT_EQ(
      what_of([&] { gtcp::RecvMsg(there); }),
      "RecvMsg [" + there.RemoteAddr() + R"(]: invalid package structure: Act is not a string at byte 7: "{"Act":5}")");
  EXPECT_EQ(gtcp::RecvMsg(there).Act, "good");
}

TEST_F(MsgOnConn, PassesTheErrorsOfTheConnection) {
  std::error_code ec;
  here.Close();
  gtcp::RecvMsg(there, ec);
  EXPECT_EQ(ec, asio::error::eof);
  EXPECT_THROW(gtcp::RecvMsg(there), std::system_error);
  gtcp::SendMsg(here, {.Act = "late"}, ec);
  EXPECT_EQ(ec, Errc::Closed);
}

TEST_F(MsgOnConn, ExchangesJsonOfAnyType) {
  gtcp::SendJson(here, std::vector<int>{1, 2, 3});
  EXPECT_EQ(gtcp::RecvJson<std::vector<int>>(there), (std::vector<int>{1, 2, 3}));
  std::error_code ec;
  gtcp::SendJson(here, "text", {.HeaderSize = 4}, ec);
  EXPECT_EQ(gtcp::RecvJson<std::string>(there, {.HeaderSize = 4}, ec), "text");
  gtcp::SendJson(here, "text");
  EXPECT_EQ(gtcp::RecvJson<int>(there, ec), 0);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  gtcp::SendJson(here, std::nan(""), ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  EXPECT_EQ(what_of([&] { gtcp::SendJson(here, std::nan("")); }),
            "SendJson [" + here.RemoteAddr() + "]: invalid package structure: NaN and infinities have no JSON form");
  gtcp::SendJsonWithTimeout(here, Msg{.Act = "a"}, 30s, ec);
  EXPECT_FALSE(ec);
  EXPECT_EQ(gtcp::RecvJsonWithTimeout<Msg>(there, 30s).Act, "a");
}

asio::awaitable<void> exchange_messages(gtcp::Conn here, gtcp::Conn there) {
  std::error_code ec = std::make_error_code(std::errc::io_error);
  co_await gtcp::AsyncSendMsg(here, {.Act = "a text that is longer than small strings", .Data = "1"});
  co_await gtcp::AsyncSendMsg(here, {.Act = "b"}, {.HeaderSize = 4});
  co_await gtcp::AsyncSendMsg(here, {.Act = "c"}, ec);
  EXPECT_FALSE(ec);
  co_await gtcp::AsyncSendMsg(here, {.Act = "d"}, {.HeaderSize = 4}, ec);
  co_await gtcp::AsyncSendMsg(here, {.Act = "e"}, asio::use_awaitable);
  co_await gtcp::AsyncSendMsg(here, {.Act = "f"}, {.HeaderSize = 4}, asio::use_awaitable);
  co_await gtcp::AsyncSendMsgWithTimeout(here, {.Act = "g"}, 30s);
  co_await gtcp::AsyncSendMsgWithTimeout(here, {.Act = "h"}, 30s, {.HeaderSize = 4}, asio::use_awaitable);

  Msg msg = co_await gtcp::AsyncRecvMsg(there);
  EXPECT_EQ(msg, (Msg{.Act = "a text that is longer than small strings", .Data = "1"}));
  msg = co_await gtcp::AsyncRecvMsg(there, {.HeaderSize = 4});
  EXPECT_EQ(msg.Act, "b");
  msg = co_await gtcp::AsyncRecvMsg(there, ec);
  EXPECT_EQ(msg.Act, "c");
  msg = co_await gtcp::AsyncRecvMsg(there, {.HeaderSize = 4}, ec);
  EXPECT_EQ(msg.Act, "d");
  msg = co_await gtcp::AsyncRecvMsg(there, asio::use_awaitable);
  EXPECT_EQ(msg.Act, "e");
  msg = co_await gtcp::AsyncRecvMsg(there, {.HeaderSize = 4}, asio::use_awaitable);
  EXPECT_EQ(msg.Act, "f");
  msg = co_await gtcp::AsyncRecvMsgWithTimeout(there, 30s, asio::redirect_error(asio::use_awaitable, ec));
  EXPECT_EQ(msg.Act, "g");
  msg = co_await gtcp::AsyncRecvMsgWithTimeout(there, 30s, {.HeaderSize = 4});
  EXPECT_EQ(msg.Act, "h");
  EXPECT_FALSE(ec);
}

TEST_F(MsgOnConn, ExchangesMessagesInCoroutines) { run(exchange_messages(here, there)); }

asio::awaitable<void> exchange_json(gtcp::Conn here, gtcp::Conn there) {
  std::error_code ec;
  const Position position{.x = 3, .log = {{.Act = "a"}}};
  co_await gtcp::AsyncSendJson(here, position);
  Position back = co_await gtcp::AsyncRecvJson<Position>(there);
  EXPECT_EQ(back.x, 3);
  co_await gtcp::AsyncSendJson(here, position, asio::use_awaitable);
  back = co_await gtcp::AsyncRecvJson<Position>(there, asio::use_awaitable);
  EXPECT_EQ(back.log, position.log);

  here.SendPkg("5");
  back = co_await gtcp::AsyncRecvJson<Position>(there, ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  here.SendPkg("5");
  ec = {};
  back = co_await gtcp::AsyncRecvJson<Position>(there, asio::redirect_error(asio::use_awaitable, ec));
  EXPECT_EQ(ec, Errc::InvalidMsg);
  here.SendPkg("5");
  std::string what;
  try {
    co_await gtcp::AsyncRecvMsg(there);
  } catch (const std::system_error& error) {
    what = error.what();
  }
  EXPECT_EQ(what,
            "AsyncRecvMsg [" + there.RemoteAddr() + R"(]: invalid package structure: not an object at byte 0: "5")");

  const double nan = std::nan("");
  ec = {};
  co_await gtcp::AsyncSendJson(here, nan, ec);
  EXPECT_EQ(ec, Errc::InvalidMsg);
  what.clear();
  try {
    co_await gtcp::AsyncSendJson(here, nan);
  } catch (const std::system_error& error) {
    what = error.what();
  }
  EXPECT_EQ(what, "AsyncSendJson [" + here.RemoteAddr() +
                      "]: invalid package structure: NaN and infinities have no JSON form");
}

TEST_F(MsgOnConn, ExchangesJsonInCoroutines) { run(exchange_json(here, there)); }

/// A handler that can only be moved, with an allocator that counts.
template <class T>
struct CountingAllocator {
  using value_type = T;
  explicit CountingAllocator(int* allocations) : count(allocations) {}
  template <class U>
  CountingAllocator(const CountingAllocator<U>& other) : count(other.count) {}
  T* allocate(std::size_t n) {
    ++*count;
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* memory, std::size_t n) { std::allocator<T>().deallocate(memory, n); }
  friend bool operator==(const CountingAllocator&, const CountingAllocator&) = default;
  int* count;
};

struct Result {
  bool called = false;
  bool on_strand = false;
  std::error_code ec;
  Msg msg;
};

struct MoveOnlyHandler {
  using executor_type = asio::strand<asio::io_context::executor_type>;
  using allocator_type = CountingAllocator<char>;
  using cancellation_slot_type = asio::cancellation_slot;

  executor_type get_executor() const noexcept { return strand; }
  allocator_type get_allocator() const noexcept { return allocator; }
  cancellation_slot_type get_cancellation_slot() const noexcept { return slot; }

  void operator()(std::error_code ec) {
    result->called = true;
    result->on_strand = strand.running_in_this_thread();
    result->ec = ec;
  }
  void operator()(std::error_code ec, Msg msg) {
    (*this)(ec);
    result->msg = std::move(msg);
  }

  executor_type strand;
  allocator_type allocator;
  asio::cancellation_slot slot;
  Result* result;
  std::unique_ptr<int> only_moved = std::make_unique<int>(0);
};

TEST_F(MsgOnConn, KeepsWhatIsAssociatedWithAHandler) {
  int allocations = 0;
  asio::cancellation_signal signal;
  const auto handler = [&](Result& result) {
    return MoveOnlyHandler{asio::make_strand(io.get_executor()), CountingAllocator<char>(&allocations), signal.slot(),
                           &result};
  };

  Result sent;
  gtcp::AsyncSendMsg(here, {.Act = "a"}, handler(sent));
  EXPECT_FALSE(sent.called);
  run_until([&] { return sent.called; });
  EXPECT_TRUE(sent.on_strand);
  EXPECT_FALSE(sent.ec);

  Result received;
  allocations = 0;
  gtcp::AsyncRecvMsg(there, handler(received));
  EXPECT_FALSE(received.called);
  run_until([&] { return received.called; });
  EXPECT_TRUE(received.on_strand);
  EXPECT_EQ(received.msg.Act, "a");
  EXPECT_GT(allocations, 0);

  Result refused;
  gtcp::AsyncSendJson(here, std::nan(""), handler(refused));
  EXPECT_FALSE(refused.called);
  run_until([&] { return refused.called; });
  EXPECT_TRUE(refused.on_strand);
  EXPECT_EQ(refused.ec, Errc::InvalidMsg);

  Result cancelled;
  gtcp::AsyncRecvMsg(there, handler(cancelled));
  signal.emit(asio::cancellation_type::all);
  run_until([&] { return cancelled.called; });
  EXPECT_TRUE(cancelled.on_strand);
  EXPECT_EQ(cancelled.ec, asio::error::operation_aborted);
  gtcp::SendMsg(here, {.Act = "b"});
  EXPECT_EQ(gtcp::RecvMsgWithTimeout(there, 30s).Act, "b");
}

TEST_F(MsgOnConn, NeverCallsAHandlerFromTheInitiatingFunction) {
  // On the executor itself, where a dispatched handler would be called at once.
  bool inside = true;
  int called_inside = 0;
  int called = 0;
  const auto count = [&] {
    ++called;
    if (inside) ++called_inside;
  };
  asio::post(io, [&] {
    here.SendPkg("5");
    gtcp::AsyncSendMsg(here, {.Act = "a"}, [&](std::error_code) { count(); });
    gtcp::AsyncSendJson(here, std::nan(""), [&](std::error_code) { count(); });
    gtcp::AsyncRecvMsg(there, [&](std::error_code, const Msg&) { count(); });
    gtcp::AsyncRecvMsg(there, [&](std::error_code, const Msg&) { count(); });
    inside = false;
  });
  run_until([&] { return called == 4; });
  EXPECT_EQ(called_inside, 0);
}

TEST_F(MsgOnConn, TakesAnyToken) {
  std::future<void> sent = gtcp::AsyncSendMsg(here, {.Act = "a"}, asio::use_future);
  std::future<Msg> received = gtcp::AsyncRecvMsg(there, asio::use_future);
  run_until([&] { return received.wait_for(0s) == std::future_status::ready; });
  sent.get();
  EXPECT_EQ(received.get().Act, "a");

  // Nothing happens before a lazy operation is started, and the message need not live so long.
  auto lazy = gtcp::AsyncSendMsg(here, {.Act = std::string(100, 'b')}, asio::use_awaitable);
  std::string none;
  EXPECT_FALSE(there.TryRecvPkg(none));
  run(std::move(lazy));
  EXPECT_EQ(gtcp::RecvMsg(there).Act, std::string(100, 'b'));

  here.SendPkg("{");
  std::error_code result;
  gtcp::AsyncRecvMsgWithTimeout(there, 30s, [&](std::error_code ec, Msg) { result = ec; });
  run_until([&] { return static_cast<bool>(result); });
  EXPECT_EQ(result, Errc::InvalidMsg);
}

}  // namespace
