# SPDX-License-Identifier: MIT
#
# What only our own tests, examples and benchmarks are built with. Nothing of it is exported.

option(GTCP_WARNINGS_AS_ERRORS "Make warnings errors in tests, examples and benchmarks" OFF)
set(GTCP_SANITIZE "" CACHE STRING "Sanitizers for tests, examples and benchmarks: \"address,undefined\", \"thread\"")

add_library(gtcp_development INTERFACE)
target_link_libraries(gtcp_development INTERFACE gtcp)
# The same source has to build with the newest Asio, which no longer has what 1.22 calls deprecated.
target_compile_definitions(gtcp_development INTERFACE ASIO_NO_DEPRECATED)
# Asio 1.22 takes aligned_alloc or operator new depending on whether a standard header came before its own, which must not
# differ between the files of one program.
target_compile_definitions(gtcp_development INTERFACE ASIO_DISABLE_STD_ALIGNED_ALLOC)

if(MSVC)
  target_compile_options(gtcp_development INTERFACE /W4 /permissive- /bigobj $<$<BOOL:${GTCP_WARNINGS_AS_ERRORS}>:/WX>)
  target_compile_definitions(gtcp_development INTERFACE _WIN32_WINNT=0x0A00)
else()
  target_compile_options(gtcp_development INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                                                    $<$<BOOL:${GTCP_WARNINGS_AS_ERRORS}>:-Werror>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # A false alarm about coroutine frames with an operator new of their own (GCC bug 109224, gone in g++ 13).
    target_compile_options(gtcp_development INTERFACE -Wno-mismatched-new-delete)
  endif()
endif()

if(GTCP_SANITIZE)
  target_compile_options(gtcp_development INTERFACE -fsanitize=${GTCP_SANITIZE} -fno-sanitize-recover=all
                                                    -fno-omit-frame-pointer)
  target_link_options(gtcp_development INTERFACE -fsanitize=${GTCP_SANITIZE})
  if(GTCP_SANITIZE MATCHES "undefined")
    # vptr: the check needs a pipe, and takes every object for none in the tests that use up all descriptors.
    # null: a caught abi::__forced_unwind, which is no object at all, is taken for a null reference.
    target_compile_options(gtcp_development INTERFACE -fno-sanitize=vptr,null)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # With a sanitizer's checks in between, g++ takes what Asio's use_future initialises for uninitialised.
    target_compile_options(gtcp_development INTERFACE -Wno-maybe-uninitialized)
  endif()
  if(GTCP_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio 1.22 uses atomic_thread_fence, of which g++ warns that TSan does not model it.
    target_compile_options(gtcp_development INTERFACE -Wno-tsan)
  endif()
endif()

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_CXX_EXTENSIONS OFF)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(GTCP_CCACHE ccache)
  mark_as_advanced(GTCP_CCACHE)
  if(GTCP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${GTCP_CCACHE})
  endif()
endif()

# gtcp_add_programs(folder): one executable for each folder/NN_name.cpp, called `name`; the number is the reading order.
function(gtcp_add_programs folder out_targets)
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.cpp")
  set(targets "")
  foreach(source IN LISTS sources)
    get_filename_component(name "${source}" NAME_WE)
    string(REGEX REPLACE "^[0-9]+_" "" name "${name}")
    add_executable(${name} "${source}")
    target_link_libraries(${name} PRIVATE gtcp_development)
    list(APPEND targets ${name})
  endforeach()
  set(${out_targets} "${targets}" PARENT_SCOPE)
endfunction()
