# SPDX-License-Identifier: MIT
#
# Fails if OBJECT, the library's code, has a local static variable that is initialized when it is first used: a fork at
# that moment leaves the child its guard, which it waits for for ever. Those of a thread are fine.

execute_process(COMMAND "${NM}" "${OBJECT}" OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${NM} ${OBJECT}: ${result}")
endif()
set(of_threads "waker14of_this_thread|rearm_gate14of_this_thread")
string(REGEX MATCHALL "[^\n]*_ZGVZ+NK?4gtcp[^\n]*" found "${symbols}")
list(FILTER found EXCLUDE REGEX "${of_threads}")
list(LENGTH found count)
if(count GREATER 0)
  list(JOIN found "\n" lines)
  message(FATAL_ERROR "${count} guards of local static variables:\n${lines}")
endif()
if(NOT symbols MATCHES "tls_socket[0-9]+method")
  message(FATAL_ERROR "${OBJECT} lacks the code that was to be looked at")
endif()
