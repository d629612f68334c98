// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONFIG_HPP
#define GTCP_DETAIL_CONFIG_HPP

// How the library is compiled. The headers in gtcp/impl have the bodies of what the others declare. Usually those
// include them, and there is nothing to link. With GTCP_SEPARATE_COMPILATION, the same in all files of a program, they
// do not: each file compiles in a fraction of the time, and one of them includes <gtcp/src.hpp>.

#ifdef GTCP_SEPARATE_COMPILATION
#define GTCP_DECL
#else
#define GTCP_DECL inline
#endif

#endif
