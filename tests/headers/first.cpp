// SPDX-License-Identifier: MIT
//
// Links with second.cpp, which includes the same: nothing is defined twice, and both see one error category.
#include <gtcp/gtcp.hpp>

const std::error_category* SecondCategory();

int main() { return SecondCategory() == &gtcp::ErrorCategory() ? 0 : 1; }
