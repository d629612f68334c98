# SPDX-License-Identifier: MIT
#
# cmake -D INCLUDE_DIR=include -P includes_all.cmake
# Fails when gtcp.hpp lacks a public header (tls.hpp, which needs OpenSSL, and src.hpp, which one file of a program needs,
# are included by name only), when src.hpp lacks one of gtcp/impl, or when the include guard of any header is not the one
# that its path asks for.

# must_include(header folder exceptions...): the header includes all others of the folder.
function(must_include header folder)
  file(READ "${INCLUDE_DIR}/${header}" all)
  file(GLOB others RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/${folder}/*.hpp")
  list(REMOVE_ITEM others ${header} ${ARGN})
  if(NOT others)
    message(FATAL_ERROR "no headers under ${INCLUDE_DIR}/${folder}")
  endif()
  foreach(other IN LISTS others)
    string(FIND "${all}" "#include <${other}>\n" found)
    if(found EQUAL -1)
      message(SEND_ERROR "${header} does not include <${other}>")
    endif()
  endforeach()
endfunction()

must_include(gtcp/gtcp.hpp gtcp gtcp/tls.hpp gtcp/src.hpp)
must_include(gtcp/src.hpp gtcp/impl)

file(GLOB_RECURSE headers RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/gtcp/*.hpp")
foreach(header IN LISTS headers)
  string(MAKE_C_IDENTIFIER "${header}" guard)
  string(TOUPPER "${guard}" guard)
  file(READ "${INCLUDE_DIR}/${header}" text)
  string(FIND "${text}" "// SPDX-License-Identifier: MIT\n#ifndef ${guard}\n#define ${guard}\n" found)
  if(NOT found EQUAL 0)
    message(SEND_ERROR "${header} does not begin with the SPDX line and the include guard ${guard}")
  endif()
endforeach()
