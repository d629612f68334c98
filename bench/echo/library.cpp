// SPDX-License-Identifier: MIT

// The library, for the echo server that is compiled apart from it.

#include <gtcp/src.hpp>
