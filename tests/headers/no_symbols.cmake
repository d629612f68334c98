# SPDX-License-Identifier: MIT
#
# Fails if OBJECT has a symbol that matches FORBIDDEN and not ALLOWED, both of them regular expressions; WHAT says what
# such a symbol is. A symbol that matches REQUIRED shows that the code that was to be looked at is there.

execute_process(COMMAND "${NM}" "${OBJECT}" OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${NM} ${OBJECT}: ${result}")
endif()
string(REGEX MATCHALL "[^\n]*(${FORBIDDEN})[^\n]*" found "${symbols}")
if(ALLOWED)
  list(FILTER found EXCLUDE REGEX "${ALLOWED}")
endif()
list(LENGTH found count)
if(count GREATER 0)
  list(JOIN found "\n" lines)
  message(FATAL_ERROR "${count} ${WHAT}:\n${lines}")
endif()
if(REQUIRED AND NOT symbols MATCHES "${REQUIRED}")
  message(FATAL_ERROR "${OBJECT} lacks the code that was to be looked at")
endif()
