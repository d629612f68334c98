// SPDX-License-Identifier: MIT
#include <gtcp/gtcp.hpp>

const std::error_category* SecondCategory();

const std::error_category* SecondCategory() { return &gtcp::ErrorCategory(); }
