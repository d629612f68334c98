// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SANITIZERS_HPP
#define GTCP_TESTS_SUPPORT_SANITIZERS_HPP

// Which sanitizers watch: GTCP_TESTS_ASAN and GTCP_TESTS_TSAN are 0 or 1, and so is GTCP_TESTS_SANITIZED, for either.

#if defined(__has_feature)
#define GTCP_TESTS_HAS_FEATURE(name) __has_feature(name)
#else
#define GTCP_TESTS_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || GTCP_TESTS_HAS_FEATURE(address_sanitizer)
#define GTCP_TESTS_ASAN 1
#else
#define GTCP_TESTS_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || GTCP_TESTS_HAS_FEATURE(thread_sanitizer)
#define GTCP_TESTS_TSAN 1
#else
#define GTCP_TESTS_TSAN 0
#endif
#define GTCP_TESTS_SANITIZED (GTCP_TESTS_ASAN | GTCP_TESTS_TSAN)

#endif
