# SPDX-License-Identifier: MIT
#
# Fails if OBJECT, compiled of a file that includes gtcp and uses nothing of it, has code of a connection. The usual
# cause is a virtual function that is defined behind its class without being declared inline in it: then the class has a
# key function, and every file gets its table of virtual functions with all that it leads to.

execute_process(COMMAND "${NM}" "${OBJECT}" OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${NM} ${OBJECT}: ${result}")
endif()
string(REGEX MATCHALL "[^\n]*(conn_state|async_receiver|server_state)[^\n]*" found "${symbols}")
list(LENGTH found count)
if(count GREATER 0)
  list(JOIN found "\n" lines)
  message(FATAL_ERROR "${count} symbols that nobody uses:\n${lines}")
endif()
