# SPDX-License-Identifier: MIT
#
# cmake -D INCLUDE_DIR=include -P includes_all.cmake
# Fails when gtcp.hpp lacks a public header (tls.hpp, which needs OpenSSL, and src.hpp, which one file of a program needs,
# are included by name only), when src.hpp lacks one of gtcp/impl, or when the include guard of any header is not the one
# that its path asks for.

file(READ "${INCLUDE_DIR}/gtcp/gtcp.hpp" all)
file(GLOB public_headers RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/gtcp/*.hpp")
list(REMOVE_ITEM public_headers gtcp/gtcp.hpp gtcp/tls.hpp gtcp/src.hpp)
if(NOT public_headers)
  message(FATAL_ERROR "no headers under ${INCLUDE_DIR}/gtcp")
endif()
foreach(header IN LISTS public_headers)
  string(FIND "${all}" "#include <${header}>\n" found)
  if(found EQUAL -1)
    message(SEND_ERROR "gtcp/gtcp.hpp does not include <${header}>")
  endif()
endforeach()

file(READ "${INCLUDE_DIR}/gtcp/src.hpp" all)
file(GLOB bodies RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/gtcp/impl/*.hpp")
if(NOT bodies)
  message(FATAL_ERROR "no headers under ${INCLUDE_DIR}/gtcp/impl")
endif()
foreach(header IN LISTS bodies)
  string(FIND "${all}" "#include <${header}>\n" found)
  if(found EQUAL -1)
    message(SEND_ERROR "gtcp/src.hpp does not include <${header}>")
  endif()
endforeach()

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
