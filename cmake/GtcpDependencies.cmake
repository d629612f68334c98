# SPDX-License-Identifier: MIT
#
# The dependencies of the library and of its tests: what the system has comes first; what it lacks is downloaded if
# GTCP_FETCH_DEPS allows it.

if(POLICY CMP0135) # Before the functions, which keep it. The time stamps of downloaded files are those of the download.
  cmake_policy(SET CMP0135 NEW)
endif()

set(GTCP_ASIO_VERSION 1.22.1)
set(GTCP_JSON_VERSION 3.9)
set(GTCP_OPENSSL_VERSION 3.0)

# A subproject's imported targets are not seen by the project around it unless they are global.
macro(_gtcp_find name target)
  if(NOT TARGET ${target})
    find_package(${name} ${ARGN})
    if(TARGET ${target})
      get_target_property(_gtcp_imported ${target} IMPORTED)
      if(_gtcp_imported)
        set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL TRUE)
      endif()
    endif()
  endif()
endmacro()

function(_gtcp_missing what debian_package)
  message(
    FATAL_ERROR
      "${what} was not found. Install it (Debian, Ubuntu: apt-get install ${debian_package}; all at once: "
      "sh cmake/install-deps.sh), point CMAKE_PREFIX_PATH to it, or allow the download: -DGTCP_FETCH_DEPS=ON")
endfunction()

# Downloads a package of headers and makes `target` from its folder `include_dir`. Nothing of the package's own build
# runs, so neither its options nor its install rules get into ours.
function(_gtcp_fetch_headers name target include_dir url sha256)
  include(FetchContent)
  message(STATUS "gtcp: downloading ${url}")
  FetchContent_Declare(
    ${name}
    URL ${url}
    URL_HASH SHA256=${sha256}
    SOURCE_SUBDIR no-cmake-here)
  FetchContent_MakeAvailable(${name})
  FetchContent_GetProperties(${name} SOURCE_DIR source_dir)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${source_dir}/${include_dir}")
endfunction()

set(THREADS_PREFER_PTHREAD_FLAG ON)
_gtcp_find(Threads Threads::Threads REQUIRED)

_gtcp_find(asio asio::asio ${GTCP_ASIO_VERSION} MODULE QUIET)
if(NOT TARGET asio::asio)
  if(NOT GTCP_FETCH_DEPS)
    if(asio_VERSION)
      message(STATUS "gtcp: ${asio_INCLUDE_DIR} has Asio ${asio_VERSION}, which is too old")
    endif()
    _gtcp_missing("Standalone Asio ${GTCP_ASIO_VERSION} or newer" libasio-dev)
  endif()
  _gtcp_fetch_headers(
    gtcp_asio asio::asio asio/include https://github.com/chriskohlhoff/asio/archive/asio-1-30-2.tar.gz
    755bd7f85a4b269c67ae0ea254907c078d408cce8e1a352ad2ed664d233780e8)
endif()

_gtcp_find(nlohmann_json nlohmann_json::nlohmann_json ${GTCP_JSON_VERSION} CONFIG QUIET)
if(NOT TARGET nlohmann_json::nlohmann_json)
  if(NOT GTCP_FETCH_DEPS)
    _gtcp_missing("nlohmann/json ${GTCP_JSON_VERSION} or newer" nlohmann-json3-dev)
  endif()
  _gtcp_fetch_headers(
    gtcp_json nlohmann_json::nlohmann_json include
    https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
    d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d)
endif()

# Not required: without it there is no gtcp::tls.
if(GTCP_TLS)
  _gtcp_find(OpenSSL OpenSSL::Crypto ${GTCP_OPENSSL_VERSION} QUIET)
  _gtcp_find(OpenSSL OpenSSL::SSL ${GTCP_OPENSSL_VERSION} QUIET)
  if(TARGET OpenSSL::SSL)
    get_target_property(_gtcp_imported OpenSSL::SSL IMPORTED_GLOBAL)
    if(NOT _gtcp_imported)
      set_target_properties(OpenSSL::SSL PROPERTIES IMPORTED_GLOBAL TRUE)
    endif()
  else()
    message(STATUS "gtcp: no OpenSSL ${GTCP_OPENSSL_VERSION} or newer (Debian, Ubuntu: libssl-dev), so no gtcp::tls")
  endif()
endif()

if(GTCP_BUILD_TESTS)
  _gtcp_find(GTest GTest::gtest QUIET)
  if(NOT TARGET GTest::gtest)
    if(NOT GTCP_FETCH_DEPS)
      _gtcp_missing("GoogleTest" libgtest-dev)
    endif()
    include(FetchContent)
    message(STATUS "gtcp: downloading GoogleTest")
    set(CMAKE_POLICY_DEFAULT_CMP0077 NEW) # The next lines are about its options.
    set(INSTALL_GTEST OFF)
    set(BUILD_GMOCK OFF)
    set(gtest_force_shared_crt ON)
    FetchContent_Declare(
      googletest
      URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
      URL_HASH SHA256=8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7)
    FetchContent_MakeAvailable(googletest)
  endif()
endif()
