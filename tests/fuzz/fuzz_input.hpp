// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_FUZZ_FUZZ_INPUT_HPP
#define GTCP_TESTS_FUZZ_FUZZ_INPUT_HPP

// What a harness makes of the bytes that it is given, and how it says that something is wrong.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

/// What both the fuzzer and the replay call with each input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace gtcp_fuzz {

/// Decisions out of the first bytes of an input; zeros when there are no more.
class input {
 public:
  input(const std::uint8_t* data, std::size_t size) : bytes_(reinterpret_cast<const char*>(data), size) {}

  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(bytes_.front());
    bytes_.remove_prefix(1);
    return value;
  }
  /// 0 to most, which is less than 65,536.
  std::size_t up_to(std::size_t most) {
    std::size_t value = byte();
    if (most > 255) value = value << 8 | byte();
    return value % (most + 1);
  }

  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace gtcp_fuzz

/// Ends the process where something is not as it must be, so that the fuzzer keeps the input.
#define FUZZ_CHECK(condition)                                                        \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)

#endif
