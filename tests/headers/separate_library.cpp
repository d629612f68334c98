// SPDX-License-Identifier: MIT
#include <gtcp/src.hpp>
