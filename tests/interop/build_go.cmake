# SPDX-License-Identifier: MIT
#
# cmake -D SOURCE=tests/interop/go -D OUTPUT=build/.../gopeer -D SKIPPED=build/.../skipped.txt -P build_go.cmake
#
# Builds the Go program that is the other end. Where that can't be, without Go or without its modules, SKIPPED gets the
# reason, which the tests then say; that a module is not the one of go.sum, or that the program does not compile, is a
# failure.

cmake_minimum_required(VERSION 3.22)

file(REMOVE "${OUTPUT}" "${SKIPPED}")

function(skip reason)
  file(WRITE "${SKIPPED}" "${reason}")
  message("skipped: ${reason}")
endfunction()

find_program(go go HINTS /usr/local/go/bin)
if(NOT go)
  skip("no go")
  return()
endif()

set(ENV{CGO_ENABLED} 0)
if(NOT DEFINED ENV{HOME})
  get_filename_component(folder "${OUTPUT}" DIRECTORY)
  set(ENV{GOCACHE} "${folder}/go-build")
  set(ENV{GOPATH} "${folder}/go")
endif()

execute_process(
  COMMAND "${go}" mod download
  WORKING_DIRECTORY "${SOURCE}"
  RESULT_VARIABLE result
  ERROR_VARIABLE errors
  TIMEOUT 240)
if(errors MATCHES "checksum mismatch|missing go.sum|SECURITY ERROR")
  message(FATAL_ERROR "go mod download: ${errors}")
elseif(NOT result EQUAL 0)
  string(REGEX REPLACE "[\r\n].*" "" first_line "${errors}")
  skip("the Go modules can't be had: ${result} ${first_line}")
  return()
endif()

execute_process(COMMAND "${go}" build -o "${OUTPUT}" . WORKING_DIRECTORY "${SOURCE}" COMMAND_ERROR_IS_FATAL ANY)
