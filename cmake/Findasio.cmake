# SPDX-License-Identifier: MIT
#
# Finds standalone Asio and defines the imported target asio::asio. Distributions such as Debian ship Asio without a
# CMake configuration; where there is one (vcpkg, Conan) it is taken. Hint: asio_INCLUDE_DIR or asio_ROOT.
#
# Sets asio_FOUND and asio_VERSION.

if(NOT TARGET asio::asio AND NOT asio_INCLUDE_DIR)
  find_package(asio CONFIG QUIET)
endif()

if(TARGET asio::asio)
  get_target_property(_asio_include_dirs asio::asio INTERFACE_INCLUDE_DIRECTORIES)
  find_path(
    asio_INCLUDE_DIR
    NAMES asio/version.hpp
    PATHS ${_asio_include_dirs}
    NO_DEFAULT_PATH)
endif()
find_path(asio_INCLUDE_DIR NAMES asio/version.hpp DOC "The directory that holds asio.hpp")
mark_as_advanced(asio_INCLUDE_DIR)

if(EXISTS "${asio_INCLUDE_DIR}/asio/version.hpp")
  # "#define ASIO_VERSION 102201 // 1.22.1"
  file(STRINGS "${asio_INCLUDE_DIR}/asio/version.hpp" _asio_version_line REGEX "define ASIO_VERSION [0-9]+")
  if(_asio_version_line MATCHES "ASIO_VERSION ([0-9]+)")
    math(EXPR _asio_major "${CMAKE_MATCH_1} / 100000")
    math(EXPR _asio_minor "${CMAKE_MATCH_1} / 100 % 1000")
    math(EXPR _asio_patch "${CMAKE_MATCH_1} % 100")
    set(asio_VERSION "${_asio_major}.${_asio_minor}.${_asio_patch}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  asio
  REQUIRED_VARS asio_INCLUDE_DIR asio_VERSION
  VERSION_VAR asio_VERSION)

if(asio_FOUND AND NOT TARGET asio::asio)
  add_library(asio::asio INTERFACE IMPORTED)
  set_target_properties(asio::asio PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${asio_INCLUDE_DIR}")
  if(asio_VERSION VERSION_LESS 1.26)
    # Before 1.26 Asio looks for clang's experimental coroutines only, which clang 15 and newer no longer have; the
    # standard ones work with it if it is told.
    set_target_properties(asio::asio PROPERTIES INTERFACE_COMPILE_DEFINITIONS
                                                "$<$<CXX_COMPILER_ID:Clang,AppleClang>:ASIO_HAS_CO_AWAIT=1>")
  endif()
endif()
